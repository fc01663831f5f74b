"use client";

import { Download, Trash2 } from "lucide-react";
import { memo, type ReactNode, useId } from "react";
import { IconButton } from "@/components/ui/button";
import { Spinner } from "@/components/ui/spinner";
import { bytes } from "@/lib/format";
import { FileIcon } from "./file-icon";
import { changedWords, nameOf, type SessionFile } from "./file-list";
import styles from "./files-panel.module.css";

export interface FileRowProps {
  file: SessionFile;
  now: Date;
  /** Whether it is on its way to this machine. */
  downloading: boolean;
  onPreview(file: SessionFile): void;
  onDownload(file: SessionFile): void;
  onDelete(file: SessionFile): void;
}

export const FileRow = memo(function FileRow({
  file,
  now,
  downloading,
  onPreview,
  onDownload,
  onDelete,
}: FileRowProps): ReactNode {
  const facts = useId();
  const { folder, name } = nameOf(file.path);
  const changed = changedWords(file.modified_at, now);
  return (
    <li className={styles.row}>
      <div className={styles.file}>
        <span className={styles.mark}>
          <FileIcon path={file.path} mediaType={file.media_type} />
        </span>
        <div className={styles.about}>
          <button
            type="button"
            className={styles.name}
            title={file.path}
            aria-label={`Preview ${file.path}`}
            aria-describedby={facts}
            onClick={() => onPreview(file)}
          >
            {name}
          </button>
          <span id={facts} className={styles.facts}>
            {bytes(file.size_bytes)}
            {changed !== "" && (
              <>
                , <time dateTime={file.modified_at}>{changed}</time>
              </>
            )}
            {folder !== "" && `, in ${folder}`}
          </span>
        </div>
      </div>
      <span className={styles.actions}>
        <IconButton
          label={downloading ? `Downloading ${file.path}` : `Download ${file.path}`}
          size="sm"
          aria-disabled={downloading}
          onClick={() => !downloading && onDownload(file)}
        >
          {downloading ? <Spinner /> : <Download aria-hidden />}
        </IconButton>
        <IconButton label={`Delete ${file.path}`} size="sm" onClick={() => onDelete(file)}>
          <Trash2 aria-hidden />
        </IconButton>
      </span>
    </li>
  );
});
