"use client";

import { type ReactNode, useEffect, useRef } from "react";
import { UploadChip } from "./upload-chip";
import { useUploadEffects, useUploads } from "./use-uploads";
import styles from "./upload-tray.module.css";

/** The session's uploads, above the message box: how far each is and what can be done about it. */
export function UploadTray({ session }: { session: string }): ReactNode {
  const { items, sending, cancel, retry, dismiss } = useUploads(session);
  const tray = useRef<HTMLElement>(null);
  const chips = useRef<HTMLUListElement>(null);
  useUploadEffects(session);
  useEffect(() => {
    chips.current?.scrollTo({ top: chips.current.scrollHeight });
  }, [items.length]);
  useEffect(() => {
    if (!sending) return undefined;
    const warn = (event: BeforeUnloadEvent): void => event.preventDefault();
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [sending]);

  return (
    // It stays when it is empty, so that the focus has where to go when the last chip is dismissed.
    <section ref={tray} className={styles.tray} tabIndex={-1} aria-label={items.length > 0 ? "Uploads" : undefined}>
      {items.length > 0 && (
        <ul ref={chips} className={styles.chips}>
          {items.map((upload) => (
            <UploadChip
              key={upload.id}
              upload={upload}
              onCancel={() => cancel(upload.id)}
              onRetry={() => retry(upload.id)}
              onDismiss={() => {
                tray.current?.focus();
                dismiss(upload.id);
              }}
            />
          ))}
        </ul>
      )}
    </section>
  );
}
