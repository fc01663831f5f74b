"use client";

import { Ellipsis, ListRestart, Play, Plus, RotateCcw, Square, Type, X } from "lucide-react";
import { type ReactNode, useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { Button, IconButton } from "@/components/ui/button";
import { Confirm } from "@/components/ui/dialog";
import { Menu } from "@/components/ui/menu";
import { Notice } from "@/components/ui/notice";
import { DropZone, UploadButton, UploadTray } from "@/features/files/uploads";
import { SandboxNotice, useSandboxRefresh } from "@/features/sessions/sandbox";
import { currentSessions, onRemoved } from "@/features/sessions/store";
import { printed, useShortcut } from "@/lib/shortcuts";
import { isActive } from "./cell-run";
import { besides, indexOf, runnable } from "./cells";
import { type CellHandle, type CellNeighbours, type FocusPlace, NotebookCellView } from "./notebook-cell";
import styles from "./notebook-view.module.css";
import { type Notebook, notebookOf } from "./notebook";

/** A session as a notebook: cells that are written and run by hand, without a model. */
export function NotebookView({ session }: { session: string }): ReactNode {
  const notebook = notebookOf(session);
  return <Cells key={session} notebook={notebook} />;
}

function Cells({ notebook }: { notebook: Notebook }): ReactNode {
  const { session } = notebook;
  const state = useSyncExternalStore(notebook.subscribe, notebook.snapshot, notebook.snapshot);
  const { cells, runs, deleted, problem, loaded, restarting } = state;
  const neighbours = useNeighbours(notebook);
  const [asksRestart, setAsksRestart] = useState(false);
  const busy = Object.values(runs).some(isActive);
  const [first] = cells;
  const isFresh = loaded && cells.length === 1 && first?.code === "" && runs[first.id] === undefined;

  useHousekeeping(notebook);
  useShortcut("stop", () => void notebook.stopAll(), busy);

  const undo = (): void => {
    const id = notebook.undoRemove();
    if (id !== undefined) neighbours.focusSoon(id, "cell");
  };
  const addLast = (kind: "python" | "text"): void =>
    neighbours.focusSoon(notebook.add("below", undefined, kind), "editor");

  return (
    <DropZone session={session}>
      <div className={styles.view}>
        <div role="group" aria-label="Notebook" className={styles.toolbar}>
          <Button onClick={() => notebook.runAll()} disabled={runnable(cells).length === 0}>
            <Play aria-hidden /> Run all
          </Button>
          <Button onClick={() => void notebook.stopAll()} disabled={!busy}>
            <Square aria-hidden /> Stop
          </Button>
          <span className={styles.space} />
          <UploadButton session={session} />
          <Menu
            trigger={
              <IconButton label="Notebook actions">
                <Ellipsis aria-hidden />
              </IconButton>
            }
            items={[
              {
                label: "Restart kernel",
                icon: <RotateCcw aria-hidden />,
                hint: "Variables go, files stay",
                disabled: restarting,
                onSelect: () => setAsksRestart(true),
              },
              {
                label: "Clear all outputs",
                icon: <ListRestart aria-hidden />,
                disabled: Object.keys(runs).length === 0,
                onSelect: () => notebook.clearOutputs(),
              },
            ]}
          />
        </div>
        <div className={styles.scroll}>
          <div className={styles.cells}>
            <h2 className="visually-hidden">Cells</h2>
            <UploadTray session={session} />
            <SandboxNotice session={session} />
            {problem !== undefined && (
              <Notice kind="error" actions={<Button onClick={() => notebook.dismiss()}>Dismiss</Button>}>
                {problem}
              </Notice>
            )}
            {cells.map((cell, index) => (
              <NotebookCellView
                key={cell.id}
                notebook={notebook}
                cell={cell}
                run={runs[cell.id]}
                neighbours={neighbours}
                isFirst={index === 0}
                isLast={index === cells.length - 1}
                busy={busy}
              />
            ))}
            {loaded && (
              <div className={styles.add}>
                <Button look="quiet" onClick={() => addLast("python")}>
                  <Plus aria-hidden /> Add cell
                </Button>
                <Button look="quiet" onClick={() => addLast("text")}>
                  <Type aria-hidden /> Add text
                </Button>
              </div>
            )}
            {isFresh && <Hint />}
          </div>
        </div>
        {deleted !== undefined && (
          <div className={styles.toast}>
            <Notice
              actions={
                <>
                  <Button onClick={undo}>Undo</Button>
                  <IconButton label="Dismiss" onClick={() => notebook.dismiss()}>
                    <X aria-hidden />
                  </IconButton>
                </>
              }
            >
              Cell deleted.
            </Notice>
          </div>
        )}
        <Confirm
          open={asksRestart}
          title="Restart the kernel?"
          description="All variables are lost, and what runs is ended. Files and cells stay."
          action="Restart"
          onConfirm={() => void notebook.restart()}
          onClose={() => setAsksRestart(false)}
        />
      </div>
    </DropZone>
  );
}

function Hint(): ReactNode {
  const keys = (combination: string): ReactNode => <kbd className={styles.keys}>{printed(combination).join(" ")}</kbd>;
  return (
    <p className={styles.hint}>
      Write Python above and press {keys("Mod+Enter")} to run it, or {keys("Shift+Enter")} to run it and go on to the
      next cell. Variables and files stay from cell to cell. Drop a file anywhere to work with it.
    </p>
  );
}

interface Neighbours extends CellNeighbours {
  /** Focus a cell that is there, or as soon as it is. */
  focusSoon(id: string, where: FocusPlace): void;
}

function useNeighbours(notebook: Notebook): Neighbours {
  const handles = useRef(new Map<string, CellHandle>());
  const wish = useRef<{ id: string; where: FocusPlace }>(undefined);
  const focusSoon = useCallback((id: string, where: FocusPlace) => {
    const handle = handles.current.get(id);
    if (handle === undefined) wish.current = { id, where };
    else handle.focus(where);
  }, []);
  return useMemo(() => {
    const neighbours: Neighbours = {
      focusSoon,
      register(id, handle) {
        if (handle === undefined) handles.current.delete(id);
        else {
          handles.current.set(id, handle);
          if (wish.current?.id !== id) return;
          const { where } = wish.current;
          wish.current = undefined;
          handle.focus(where);
        }
      },
      go(id, by, where) {
        const { cells } = notebook.snapshot();
        const next = cells[indexOf(cells, id) + by];
        if (next !== undefined) focusSoon(next.id, where);
        return next !== undefined;
      },
      advance(id) {
        if (!neighbours.go(id, 1, "editor")) focusSoon(notebook.add("below", id), "editor");
      },
      add: (id, place, kind) => focusSoon(notebook.add(place, id, kind), "editor"),
      remove(id) {
        const { cells } = notebook.snapshot();
        const next = besides(cells, id);
        notebook.remove(id);
        const [only] = notebook.snapshot().cells;
        const target = next ?? only?.id;
        if (target !== undefined) focusSoon(target, "cell");
      },
    };
    return neighbours;
  }, [notebook, focusSoon]);
}

/** Keep the browser's list, the sandbox's state and what was typed in step with the notebook. */
function useHousekeeping(notebook: Notebook): void {
  const { session } = notebook;
  const refresh = useSandboxRefresh(session);
  useEffect(() => {
    const leave = (): void => notebook.flush();
    const ended = notebook.onEnd(() => {
      refresh();
      const first = notebook.snapshot().cells.find((cell) => cell.code.trim() !== "");
      currentSessions().touch(session, first?.code.trim().split("\n")[0]);
    });
    const removed = onRemoved((id) => id === session && notebook.forget());
    window.addEventListener("pagehide", leave);
    document.addEventListener("visibilitychange", leave);
    return () => {
      ended();
      removed();
      leave();
      window.removeEventListener("pagehide", leave);
      document.removeEventListener("visibilitychange", leave);
    };
  }, [notebook, refresh, session]);
}
