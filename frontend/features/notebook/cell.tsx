"use client";

import { Pencil } from "lucide-react";
import { type ReactNode, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { Button, IconButton } from "@/components/ui/button";
import { Notice } from "@/components/ui/notice";
import { CopyButton } from "@/features/outputs/copy-button";
import { useSandboxRefresh } from "@/features/sessions/sandbox";
import { isOver, type ShownExecution } from "@/lib/outputs";
import { SHORTCUTS } from "@/lib/shortcuts";
import { CellOutputs } from "./cell-outputs";
import { isActive } from "./cell-run";
import { CellStatus } from "./cell-status";
import styles from "./cell.module.css";
import { CodeEditor } from "./code-editor";
import { editedCell } from "./edited-cell";
import { FoldedCode } from "./folded-code";
import { complete, interrupt } from "./run";
import { RunButton } from "./run-button";

export interface CellProps {
  session: string;
  /** Names this cell in the browser's store, so that an edited run is found again after a reload: the tool call's id. */
  id: string;
  code: string;
  /** What it shows so far; undefined before it began. */
  execution?: ShownExecution;
  /** Whether the code itself is still being written by the model. */
  writing?: boolean;
  /** Words of a failure that is not the code's own: the tool call failed. */
  failure?: string;
  /** Stops what runs: the turn's own stop. Given only while the turn runs; until then nothing else can be run. */
  onStop?(): void;
}

const TURN_RUNS = "The answer is still being made. Run this when it is done, or stop it first.";

/** A Python cell of a chat: code, state, outputs; can be copied, edited and run again in the same session. */
export function Cell({ session, id, code, execution, writing = false, failure, onStop }: CellProps): ReactNode {
  const cell = editedCell(session, id);
  const state = useSyncExternalStore(cell.subscribe, cell.snapshot, cell.snapshot);
  const refresh = useSandboxRefresh(session);
  const [draft, setDraft] = useState<string>();
  const runButton = useRef<HTMLButtonElement>(null);
  const wasEditing = useRef(false);

  const editing = draft !== undefined;
  const edited = state.original ? undefined : state.edited;
  const run = edited?.run ?? (execution && { execution });
  const shownCode = edited?.code ?? code;
  const ownActive = !edited && failure === undefined && execution !== undefined && !isOver(execution.status);
  const active = edited ? isActive(edited.run) : ownActive;
  const refused = writing || onStop !== undefined ? TURN_RUNS : undefined;

  useEffect(() => {
    if (wasEditing.current && !editing) runButton.current?.focus();
    wasEditing.current = editing;
  }, [editing]);

  const start = (text: string): void => {
    if (refused !== undefined || text.trim() === "") return;
    setDraft(undefined);
    void cell.run(text, refresh);
  };
  const stop = (): void => {
    if (edited) void cell.stop();
    else if (onStop) onStop();
    else if (execution) void interrupt(session, execution.execution).catch(() => undefined);
  };
  const edit = (): void => {
    if (!writing) setDraft(shownCode);
  };

  return (
    <section role="group" aria-label="Python cell" className={styles.cell}>
      <header className={styles.head}>
        <CellStatus
          execution={run?.execution}
          phase={edited?.run.phase}
          writing={writing}
          failed={!edited && failure !== undefined}
          unknown={edited?.run.problem !== undefined}
        />
        <div className={styles.buttons}>
          <CopyButton label="Copy code" what="Code" text={() => draft ?? shownCode} />
          <IconButton label="Edit" size="sm" aria-disabled={writing || undefined} onClick={edit}>
            <Pencil aria-hidden />
          </IconButton>
          <span className={styles.slot} data-hidden={editing || undefined}>
            <RunButton ref={runButton} active={active} onRun={() => start(shownCode)} onStop={stop} refused={refused} />
          </span>
        </div>
      </header>
      {editing ? (
        <div className={styles.editing}>
          <CodeEditor
            code={draft}
            takesFocus
            onChange={setDraft}
            onRun={() => start(draft)}
            onRunAndAdvance={() => start(draft)}
            complete={active ? undefined : (text, cursor) => complete(session, text, cursor)}
          />
          <div className={styles.actions}>
            {refused !== undefined && <p className={styles.hint}>{TURN_RUNS}</p>}
            <Button onClick={() => setDraft(undefined)}>Cancel</Button>
            <Button
              look="primary"
              aria-disabled={refused !== undefined || undefined}
              aria-keyshortcuts={SHORTCUTS.runCell.keys.replace("Mod", "Control")}
              onClick={() => start(draft)}
            >
              Run
            </Button>
          </div>
        </div>
      ) : (
        <div role="presentation" onDoubleClick={edit} className={styles.code}>
          <FoldedCode code={shownCode} />
        </div>
      )}
      {state.edited !== undefined && (
        <div className={styles.mark}>
          <span>{state.original ? "As it first ran" : "Edited and run again"}</span>
          <Button look="quiet" className={styles.link} onClick={() => cell.showOriginal(!state.original)}>
            {state.original ? "Show the edited run" : "Show the original"}
          </Button>
        </div>
      )}
      {run !== undefined && <CellOutputs session={session} run={run} onAgain={() => start(shownCode)} />}
      {failure !== undefined && !edited && (
        <div className={styles.notice}>
          <Notice kind="error">{failure}</Notice>
        </div>
      )}
    </section>
  );
}
