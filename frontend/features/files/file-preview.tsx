"use client";

import { useQuery } from "@tanstack/react-query";
import { Download } from "lucide-react";
import { type ReactNode, useCallback } from "react";
import { Button } from "@/components/ui/button";
import { Dialog } from "@/components/ui/dialog";
import { Notice } from "@/components/ui/notice";
import { Spinner } from "@/components/ui/spinner";
import { CodeBlock } from "@/features/outputs/code-block";
import { wordsOf } from "@/lib/api";
import { bytes } from "@/lib/format";
import { numericColumns } from "./delimited";
import { nameOf, type SessionFile } from "./file-list";
import { fetchBeginning, fetchPicture, MAX_PICTURE_BYTES, shownTable } from "./preview-data";
import { languageOf, previewKind } from "./preview-kind";
import styles from "./file-preview.module.css";

/** Longer texts would keep the page from answering while they are coloured. */
const MAX_HIGHLIGHTED_CHARS = 60_000;

export interface FilePreviewProps {
  session: string;
  file: SessionFile;
  /** What went wrong with the download. */
  problem?: string;
  onDownload(): void;
  onClose(): void;
}

/** Shows a file, or the beginning of a long one, in a dialog. */
export function FilePreview({ session, file, problem, onDownload, onClose }: FilePreviewProps): ReactNode {
  return (
    <Dialog open onClose={onClose} title={nameOf(file.path).name} size="wide">
      <div className={styles.content}>
        <Content session={session} file={file} />
      </div>
      {problem !== undefined && <Notice kind="error">{problem}</Notice>}
      <footer className={styles.foot}>
        <span className={styles.size}>{bytes(file.size_bytes)}</span>
        <Button onClick={onDownload}>
          <Download aria-hidden className={styles.icon} />
          Download
        </Button>
      </footer>
    </Dialog>
  );
}

function Content({ session, file }: { session: string; file: SessionFile }): ReactNode {
  const kind = previewKind(file);
  switch (kind) {
    case "table":
    case "text":
      return file.size_bytes === 0 ? <p>This file is empty.</p> : <Text session={session} file={file} kind={kind} />;
    case "picture":
      if (file.size_bytes <= MAX_PICTURE_BYTES) return <Picture session={session} file={file} />;
      return <p>This picture is too large to be shown here. Download it to see it.</p>;
    case "none":
      return <p>There is no preview for files of this type. Download it to open it on your machine.</p>;
  }
}

function Text({ session, file, kind }: { session: string; file: SessionFile; kind: "table" | "text" }): ReactNode {
  const beginning = useQuery({
    queryKey: ["file-beginning", session, file.path, file.modified_at, file.size_bytes],
    queryFn: ({ signal }) => fetchBeginning(session, file, signal),
    gcTime: 0,
    retry: false,
  });
  if (beginning.isPending) return <Loading />;
  if (beginning.isError) return <Failed error={beginning.error} onRetry={() => void beginning.refetch()} />;
  if (kind === "table") return <TableOf beginning={beginning.data} file={file} />;
  return (
    <>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls must be reached by keyboard */}
      <div className={styles.scroll} role="region" aria-label={`Content of ${file.path}`} tabIndex={0}>
        <CodeBlock
          code={beginning.data.text}
          language={beginning.data.text.length <= MAX_HIGHLIGHTED_CHARS ? languageOf(file.path) : undefined}
        />
      </div>
      {beginning.data.cut && (
        <p className={styles.words}>
          The first {bytes(beginning.data.text.length)}. Download the file to see the rest.
        </p>
      )}
    </>
  );
}

function TableOf({ beginning, file }: { beginning: { text: string; cut: boolean }; file: SessionFile }): ReactNode {
  const { head, rows, words } = shownTable(beginning, file.path);
  const numeric = numericColumns(rows, head.length);
  const classOf = (column: number): string | undefined => (numeric[column] ? styles.number : undefined);
  if (head.length === 0) return <p>This file has no rows.</p>;
  return (
    <>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls must be reached by keyboard */}
      <div className={styles.scroll} role="region" aria-label={`Table, ${rows.length} rows`} tabIndex={0}>
        <table className={styles.table}>
          <thead>
            <tr>
              {head.map((name, column) => (
                <th key={column} scope="col" className={classOf(column)}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, at) => (
              <tr key={at}>
                {row.map((cell, column) => (
                  <td key={column} className={classOf(column)}>
                    {cell}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p className={styles.words}>{words}</p>
    </>
  );
}

function Picture({ session, file }: { session: string; file: SessionFile }): ReactNode {
  const picture = useQuery({
    queryKey: ["file-picture", session, file.path, file.modified_at, file.size_bytes],
    queryFn: ({ signal }) => fetchPicture(session, file, signal),
    gcTime: 0,
    retry: false,
  });
  const blob = picture.data;
  const show = useCallback(
    (image: HTMLImageElement | null) => {
      if (image === null || blob === undefined) return undefined;
      const url = URL.createObjectURL(blob);
      image.src = url;
      return () => URL.revokeObjectURL(url);
    },
    [blob],
  );
  if (picture.isPending) return <Loading />;
  if (picture.isError) return <Failed error={picture.error} onRetry={() => void picture.refetch()} />;
  return <img ref={show} className={styles.picture} alt={file.path} />;
}

function Loading(): ReactNode {
  return (
    <p className={styles.loading} role="status">
      <Spinner /> Loading
    </p>
  );
}

function Failed({ error, onRetry }: { error: Error; onRetry(): void }): ReactNode {
  return (
    <Notice kind="error" actions={<Button onClick={onRetry}>Try again</Button>}>
      {wordsOf(error)}
    </Notice>
  );
}
