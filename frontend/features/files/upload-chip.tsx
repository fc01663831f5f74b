"use client";

import { Check, CircleAlert, RotateCw, X } from "lucide-react";
import type { ReactNode } from "react";
import { IconButton } from "@/components/ui/button";
import { Spinner } from "@/components/ui/spinner";
import { bytes } from "@/lib/format";
import { FileIcon } from "./file-icon";
import type { Upload } from "./upload-queue";
import styles from "./upload-tray.module.css";

export interface UploadChipProps {
  upload: Upload;
  onCancel(): void;
  onRetry(): void;
  onDismiss(): void;
}

export function UploadChip({ upload, onCancel, onRetry, onDismiss }: UploadChipProps): ReactNode {
  const { name, size_bytes, sent_bytes, state, problem } = upload;
  const underWay = state === "waiting" || state === "sending";
  return (
    <li className={`${styles.chip} ${problem === undefined ? "" : styles.wrong}`} data-state={state}>
      <span className={styles.mark}>
        <Mark upload={upload} />
      </span>
      <span className={styles.about}>
        {!problem?.startsWith(name) && (
          <span className={styles.name} title={name}>
            {name}
          </span>
        )}
        <span className={styles.status}>{problem ?? statusOf(upload)}</span>
      </span>
      {(state === "failed" || state === "cancelled") && (
        <IconButton label={`Try again: ${name}`} size="sm" onClick={onRetry}>
          <RotateCw aria-hidden />
        </IconButton>
      )}
      {/* One button whose word changes, so that who stands on it keeps the focus when the upload ends. */}
      <IconButton
        label={underWay ? `Cancel upload of ${name}` : `Dismiss ${name}`}
        size="sm"
        onClick={underWay ? onCancel : onDismiss}
      >
        <X aria-hidden />
      </IconButton>
      {state === "sending" && (
        <progress
          className={styles.progress}
          aria-label={`Upload of ${name}`}
          max={Math.max(size_bytes, 1)}
          value={sent_bytes}
        />
      )}
    </li>
  );
}

function Mark({ upload: { name, state, sent_bytes, size_bytes } }: { upload: Upload }): ReactNode {
  if (state === "done") return <Check aria-hidden className={styles.done} />;
  if (state === "refused" || state === "failed") return <CircleAlert aria-hidden className={styles.problem} />;
  if (state === "sending" && (sent_bytes === 0 || sent_bytes === size_bytes)) return <Spinner />;
  return <FileIcon path={name} />;
}

function statusOf({ state, size_bytes, sent_bytes, waitsFor, replaces }: Upload): string {
  if (state === "cancelled") return "Cancelled";
  if (state === "waiting") return `${bytes(size_bytes)}, waiting`;
  if (state === "done") return replaces ? `${bytes(size_bytes)}, replaced` : bytes(size_bytes);
  if (waitsFor === "sandbox") return `${bytes(size_bytes)}, starting the sandbox`;
  if (waitsFor === "server") return `${bytes(size_bytes)}, the server is busy`;
  if (sent_bytes === size_bytes) return `${bytes(size_bytes)}, being stored`;
  return `${bytes(sent_bytes)} of ${bytes(size_bytes)}`;
}
