"use client";

import { ClipboardCopy, Download, FileText, NotebookPen } from "lucide-react";
import { type ReactNode, useState } from "react";
import { Button } from "@/components/ui/button";
import { Dialog } from "@/components/ui/dialog";
import { Menu } from "@/components/ui/menu";
import { parsedRun } from "@/features/notebook/cell-run";
import { parsedCells } from "@/features/notebook/cells";
import { outputPart } from "@/features/notebook/notebook";
import { announce } from "@/lib/announce";
import { ApiError, request, urlOf, wordsOf } from "@/lib/api";
import { toClipboard } from "@/lib/clipboard";
import { saveBlob } from "@/lib/save";
import styles from "./export-menu.module.css";
import { cellsAsMarkdown, type ExportedCell, messagesAsMarkdown } from "./export-markdown";
import { loadMessages, loadPart, type SessionMeta, useSession } from "./store";
import { fileNameFrom } from "./titles";

const NOTHING_RAN =
  "The session has no sandbox now, so there is no history of what ran. Run something first, " +
  "or export Markdown, which is made from what this browser keeps.";

/** What a session can be taken away as. */
export function ExportMenu({ session }: { session: string }): ReactNode {
  const meta = useSession(session);
  const [problem, setProblem] = useState<string>();
  const act = (action: () => Promise<string>): void => {
    action().then(announce, (error: unknown) => setProblem(wordsOf(error)));
  };
  const name = fileNameFrom(meta?.title ?? "session");

  return (
    <>
      <Menu
        trigger={
          <Button look="quiet" className={styles.export}>
            <Download aria-hidden size={16} />
            <span className={styles.word}>Export</span>
          </Button>
        }
        items={[
          {
            label: "Notebook (.ipynb)",
            hint: "What ran in the kernel, with outputs",
            icon: <NotebookPen aria-hidden />,
            onSelect: () =>
              act(async () => {
                saveBlob(await notebook(session), `${name}.ipynb`);
                return "Notebook saved.";
              }),
          },
          {
            label: "Markdown (.md)",
            hint: "The session as this browser keeps it",
            icon: <FileText aria-hidden />,
            onSelect: () =>
              act(async () => {
                saveBlob(new Blob([await markdown(session, meta)], { type: "text/markdown" }), `${name}.md`);
                return "Markdown saved.";
              }),
          },
          {
            label: "Copy as Markdown",
            icon: <ClipboardCopy aria-hidden />,
            onSelect: () =>
              act(async () => {
                await toClipboard(await markdown(session, meta));
                return "Copied as Markdown.";
              }),
          },
        ]}
      />
      <Dialog
        open={problem !== undefined}
        onClose={() => setProblem(undefined)}
        title="Not exported"
        description={problem}
      />
    </>
  );
}

async function notebook(session: string): Promise<Blob> {
  try {
    return await (await request("execute", `/sessions/${encodeURIComponent(session)}/notebook.ipynb`)).blob();
  } catch (error) {
    if (error instanceof ApiError && (error.status === 404 || error.status === 410)) throw new Error(NOTHING_RAN);
    throw error;
  }
}

async function markdown(session: string, meta: SessionMeta | undefined): Promise<string> {
  const base = new URL(await urlOf("execute", "/"), location.href);
  const absolute = (path: string): string => new URL(path, base).href;
  const title = meta?.title ?? "Session";
  if (meta?.kind === "notebook") return cellsAsMarkdown(title, await keptCells(session), absolute);
  return messagesAsMarkdown(title, await loadMessages(session), absolute);
}

async function keptCells(session: string): Promise<ExportedCell[]> {
  const cells = parsedCells(await loadPart(session, "cells"));
  return Promise.all(
    cells.map(async ({ id, kind, code }) => ({
      kind,
      code,
      execution: parsedRun(await loadPart(session, outputPart(id))),
    })),
  );
}
