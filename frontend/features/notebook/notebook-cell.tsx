"use client";

import { Ellipsis, Pencil } from "lucide-react";
import {
  type FocusEvent,
  type KeyboardEvent,
  memo,
  type ReactNode,
  useCallback,
  useEffect,
  useRef,
  useState,
} from "react";
import { Button, IconButton } from "@/components/ui/button";
import { Menu } from "@/components/ui/menu";
import { CopyButton } from "@/features/outputs/copy-button";
import { MarkdownText } from "@/features/outputs/markdown-text";
import { useNear } from "@/features/outputs/near";
import { matches } from "@/lib/shortcuts";
import { CellOutputs } from "./cell-outputs";
import { type CellRun, isActive } from "./cell-run";
import { CellStatus } from "./cell-status";
import type { NotebookCell } from "./cells";
import cellStyles from "./cell.module.css";
import { CodeEditor, type CodeEditorHandle } from "./code-editor";
import styles from "./notebook-cell.module.css";
import type { Notebook } from "./notebook";
import { complete } from "./run";
import { RunButton } from "./run-button";

/** What a cell asks of the list it is in. */
export interface CellNeighbours {
  /** Tell how to focus a cell; called with undefined when it goes. */
  register(id: string, handle: CellHandle | undefined): void;
  /** Put the focus on the cell so many places on; whether there is one. */
  go(id: string, by: number, where: FocusPlace): boolean;
  /** Go to the next cell's editor, which is made if this is the last. */
  advance(id: string): void;
  add(id: string, place: "above" | "below", kind?: "python" | "text"): void;
  remove(id: string): void;
}

export type FocusPlace = "cell" | "editor";
export interface CellHandle {
  focus(where: FocusPlace): void;
}

export interface NotebookCellProps {
  notebook: Notebook;
  cell: NotebookCell;
  run: CellRun | undefined;
  neighbours: CellNeighbours;
  isFirst: boolean;
  isLast: boolean;
  /** Whether the kernel is busy, so that it cannot be asked what could be written. */
  busy: boolean;
}

/** One cell of a notebook: an editor where it is near, what it shows, and its place in the list. */
export const NotebookCellView = memo(function NotebookCellView(props: NotebookCellProps): ReactNode {
  const { notebook, cell, run, neighbours, isFirst, isLast, busy } = props;
  const { id, kind, code } = cell;
  const [nearRef, near] = useNear();
  const [wanted, setWanted] = useState(false);
  const [inside, setInside] = useState(false);
  const [reading, setReading] = useState(kind === "text" && code.trim() !== "");
  const group = useRef<HTMLElement>(null);
  const editor = useRef<CodeEditorHandle>(null);
  const isText = kind === "text";
  const rendered = isText && reading;
  const mounted = !rendered && (near || wanted || inside);

  const ref = useCallback(
    (element: HTMLElement | null) => {
      group.current = element;
      return nearRef(element);
    },
    [nearRef],
  );

  useEffect(() => {
    neighbours.register(id, {
      focus(where) {
        if (where === "cell") group.current?.focus();
        else {
          setReading(false);
          setWanted(true);
          editor.current?.focus();
        }
      },
    });
    return () => neighbours.register(id, undefined);
  }, [neighbours, id]);

  const start = (): void => {
    if (isText) setReading(code.trim() !== "");
    else notebook.run(id);
  };
  const startAndAdvance = (): void => {
    start();
    neighbours.advance(id);
  };
  const edit = (): void => {
    setReading(false);
    setWanted(true);
    editor.current?.focus();
  };
  const press = (event: KeyboardEvent<HTMLElement>): void => {
    if (event.target !== event.currentTarget) return;
    const key = commandOf(event);
    if (key === undefined) return;
    event.preventDefault();
    const commands: Record<Command, () => void> = {
      up: () => void neighbours.go(id, -1, "cell"),
      down: () => void neighbours.go(id, 1, "cell"),
      moveUp: () => notebook.move(id, -1),
      moveDown: () => notebook.move(id, 1),
      edit,
      run: start,
      advance: startAndAdvance,
      above: () => neighbours.add(id, "above"),
      below: () => neighbours.add(id, "below"),
      remove: () => neighbours.remove(id),
    };
    commands[key]();
  };
  const leave = (event: FocusEvent<HTMLElement>): void => {
    if (event.currentTarget.contains(event.relatedTarget)) return;
    setInside(false);
    setWanted(false);
    if (isText) setReading(code.trim() !== "");
  };

  const items = [
    { label: "Move up", disabled: isFirst, onSelect: () => notebook.move(id, -1) },
    { label: "Move down", disabled: isLast, onSelect: () => notebook.move(id, 1) },
    { label: "Add cell above", onSelect: () => neighbours.add(id, "above") },
    { label: "Add cell below", onSelect: () => neighbours.add(id, "below") },
    isText
      ? { label: "Turn into Python", onSelect: () => notebook.setKind(id, "python") }
      : { label: "Turn into text", disabled: isActive(run), onSelect: () => notebook.setKind(id, "text") },
    ...(isText ? [] : [{ label: "Run all above", disabled: isFirst, onSelect: () => notebook.runAll(id) }]),
    ...(isText
      ? []
      : [
          {
            label: "Clear output",
            disabled: run === undefined || isActive(run),
            onSelect: () => notebook.clearOutput(id),
          },
        ]),
    { label: "Delete cell", danger: true, onSelect: () => neighbours.remove(id) },
  ];

  return (
    // The cell itself takes keys once Escape has left its editor; everything in it has buttons too.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <section
      ref={ref}
      role="group"
      aria-label={isText ? "Text cell" : "Python cell"}
      tabIndex={-1}
      data-cell={id}
      className={`${cellStyles.cell} ${styles.cell}`}
      onFocus={() => setInside(true)}
      onBlur={leave}
      onKeyDown={press}
    >
      <header className={cellStyles.head}>
        {isText ? (
          <p className={styles.kind}>Text</p>
        ) : (
          <CellStatus
            execution={run?.execution}
            phase={run?.phase}
            idle={run === undefined}
            unknown={run?.problem !== undefined}
          />
        )}
        {(near || wanted || inside) && (
          <div className={cellStyles.buttons}>
            {!isText && <CopyButton label="Copy code" what="Code" text={() => code} />}
            <IconButton label="Edit" size="sm" onClick={edit}>
              <Pencil aria-hidden />
            </IconButton>
            <Menu
              trigger={
                <IconButton label="Cell actions" size="sm">
                  <Ellipsis aria-hidden />
                </IconButton>
              }
              items={items}
            />
            {!isText && <RunButton active={isActive(run)} onRun={start} onStop={() => void notebook.stop(id)} />}
          </div>
        )}
      </header>
      {rendered ? (
        <div role="presentation" className={styles.text} onDoubleClick={edit}>
          <MarkdownText text={code} />
        </div>
      ) : (
        <div className={`${cellStyles.editing} ${isText ? styles.plain : ""}`}>
          {mounted ? (
            <CodeEditor
              ref={editor}
              code={code}
              language={isText ? "text" : "python"}
              label={isText ? "Text" : "Code"}
              takesFocus={wanted}
              placeholder={isText ? "Write Markdown" : undefined}
              onChange={(next) => notebook.edit(id, next)}
              onRun={start}
              onRunAndAdvance={startAndAdvance}
              onEscape={() => group.current?.focus()}
              onLeave={(where) => void neighbours.go(id, where === "up" ? -1 : 1, "editor")}
              complete={busy ? undefined : (text, cursor) => complete(notebook.session, text, cursor)}
            />
          ) : (
            <pre className={styles.still}>{code || " "}</pre>
          )}
          {isText && mounted && (
            <div className={cellStyles.actions}>
              <Button onClick={start}>Show</Button>
            </div>
          )}
        </div>
      )}
      {!isText && run !== undefined && <CellOutputs session={notebook.session} run={run} onAgain={start} />}
    </section>
  );
});

type Command = "up" | "down" | "moveUp" | "moveDown" | "edit" | "run" | "advance" | "above" | "below" | "remove";

/** Return what a key means on the cell itself, outside its editor. */
function commandOf(event: KeyboardEvent): Command | undefined {
  if (matches(event.nativeEvent, "Mod+Enter")) return "run";
  if (matches(event.nativeEvent, "Shift+Enter")) return "advance";
  if (event.ctrlKey || event.metaKey || event.shiftKey) return undefined;
  if (event.altKey) return event.key === "ArrowUp" ? "moveUp" : event.key === "ArrowDown" ? "moveDown" : undefined;
  const keys: Record<string, Command> = {
    ArrowUp: "up",
    ArrowDown: "down",
    Enter: "edit",
    a: "above",
    b: "below",
    Delete: "remove",
    Backspace: "remove",
  };
  return keys[event.key];
}
