"use client";

import { Upload } from "lucide-react";
import { type ReactNode, useEffect, useState } from "react";
import { useConfig } from "@/lib/use-config";
import { carriesFiles, droppedFiles } from "./transfer-items";
import { uploadQueue } from "./upload-queue";
import { whatIsTaken } from "./checks";
import { useUploadEffects } from "./use-uploads";
import styles from "./drop-zone.module.css";

/**
 * Uploads files that are dropped anywhere on the page while it is shown.
 *
 * The whole window, because a browser leaves the page to show a file that is dropped beside the target.
 */
export function DropZone({ session, children }: { session: string; children: ReactNode }): ReactNode {
  const over = useFilesOverWindow(session);
  const limits = useConfig();
  useUploadEffects(session);
  return (
    <>
      {children}
      {over && (
        <div className={styles.overlay} aria-hidden>
          <div className={styles.frame}>
            <Upload className={styles.icon} />
            <p className={styles.what}>Drop files to upload them to this session</p>
            {limits !== undefined && <p className={styles.taken}>{whatIsTaken(limits)}</p>}
          </div>
        </div>
      )}
    </>
  );
}

/** Upload what is dropped; return whether files are being dragged over the page. */
function useFilesOverWindow(session: string): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    // A drag enters an element before it leaves the one around it: it left the page when it leaves where it entered last.
    let last: EventTarget | null = null;
    // A picture of the page that is dragged carries a file too.
    let ours = false;
    const ended = (): void => {
      last = null;
      ours = false;
      setOver(false);
    };
    const listeners: { [type: string]: (event: DragEvent) => void } = {
      dragstart: () => {
        ours = true;
      },
      dragend: ended,
      dragenter: (event) => {
        if (ours || !carriesFiles(event.dataTransfer)) return;
        event.preventDefault();
        last = event.target;
        setOver(true);
      },
      dragover: (event) => {
        if (ours || event.dataTransfer === null || !carriesFiles(event.dataTransfer)) return;
        event.preventDefault();
        event.dataTransfer.dropEffect = "copy";
      },
      dragleave: (event) => {
        if (event.target === last) ended();
      },
      drop: (event) => {
        if (!ours && event.dataTransfer !== null && carriesFiles(event.dataTransfer)) {
          event.preventDefault();
          const { files, refusals } = droppedFiles(event.dataTransfer);
          void uploadQueue(session).add(files, refusals);
        }
        ended();
      },
    };
    const stop = new AbortController();
    for (const [type, listener] of Object.entries(listeners)) {
      window.addEventListener(type, listener as EventListener, { signal: stop.signal });
    }
    return () => stop.abort();
  }, [session]);
  return over;
}
