"use client";

import type { EditorView } from "@codemirror/view";
import {
  type KeyboardEvent,
  type ReactNode,
  type Ref,
  useEffect,
  useImperativeHandle,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { matches, printed } from "@/lib/shortcuts";
import type { EditorWishes } from "./codemirror";
import styles from "./code-editor.module.css";

export interface CodeEditorHandle {
  focus(): void;
}

export interface CodeEditorProps extends Pick<
  EditorWishes,
  "onRun" | "onRunAndAdvance" | "onEscape" | "onLeave" | "complete" | "placeholder"
> {
  code: string;
  onChange(code: string): void;
  /** Plain text has no highlighting, no completion, and Tab leaves it. */
  language?: "python" | "text";
  label?: string;
  takesFocus?: boolean;
  ref?: Ref<CodeEditorHandle>;
}

type Editors = typeof import("./codemirror");
let editors: Editors | undefined;
let loading: Promise<Editors> | undefined;

/** Return the editor's module; where it cannot be loaded the text area stays, which does the same with less. */
async function loadEditors(): Promise<Editors> {
  loading ??= import("./codemirror").then((module) => (editors = module));
  try {
    return await loading;
  } catch (error) {
    loading = undefined;
    throw error;
  }
}

/** An editor for a cell: a plain text area of the same size until CodeMirror is loaded, then that. */
export function CodeEditor(props: CodeEditorProps): ReactNode {
  const { code, language = "python", label = "Code", placeholder, ref } = props;
  const [ready, setReady] = useState(editors !== undefined);
  const host = useRef<HTMLDivElement>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const view = useRef<EditorView>(undefined);
  const latest = useRef(props);
  const description = describe(language);

  useLayoutEffect(() => {
    latest.current = props;
  });

  useLayoutEffect(() => {
    const parent = host.current;
    if (parent === null) return undefined;
    let left = false;
    const make = (module: Editors): void => {
      const wishes = { label, description, python: language === "python" };
      const made = module.makeEditor(parent, () => ({ ...latest.current, ...wishes }));
      view.current = made;
      takeOver(made, area.current, latest.current.takesFocus ?? false);
    };
    if (editors !== undefined) make(editors);
    else {
      if (latest.current.takesFocus) focusEnd(area.current);
      loadEditors().then(
        (module) => {
          if (left) return;
          make(module);
          setReady(true);
        },
        () => undefined,
      );
    }
    return () => {
      left = true;
      view.current?.destroy();
      view.current = undefined;
    };
  }, [language, label, description]);

  useEffect(() => {
    const made = view.current;
    if (made === undefined || made.state.doc.toString() === code) return;
    made.dispatch({ changes: { from: 0, to: made.state.doc.length, insert: code } });
  }, [code]);

  useImperativeHandle(ref, () => ({
    focus() {
      if (view.current) view.current.focus();
      else area.current?.focus();
    },
  }));

  const press = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (matches(event.nativeEvent, "Mod+Enter")) props.onRun();
    else if (matches(event.nativeEvent, "Shift+Enter")) props.onRunAndAdvance();
    else if (event.key === "Escape") props.onEscape?.();
    else return;
    event.preventDefault();
  };

  return (
    <div className={styles.editor}>
      <div ref={host} />
      {!ready && (
        <textarea
          ref={area}
          className={styles.area}
          aria-label={label}
          {...{ "aria-description": description }}
          placeholder={placeholder}
          value={code}
          data-wraps={language === "text" || undefined}
          rows={code.split("\n").length}
          spellCheck={language === "text"}
          autoCapitalize="off"
          autoCorrect="off"
          onChange={(event) => props.onChange(event.target.value)}
          onKeyDown={press}
        />
      )}
    </div>
  );
}

function focusEnd(area: HTMLTextAreaElement | null): void {
  area?.focus();
  area?.setSelectionRange(area.value.length, area.value.length);
}

/** Give the editor the caret and the focus that the text area had. */
function takeOver(made: EditorView, before: HTMLTextAreaElement | null, wantsFocus: boolean): void {
  const had = before !== null && document.activeElement === before;
  const end = made.state.doc.length;
  if (had) {
    const [anchor, head] = [Math.min(before.selectionStart, end), Math.min(before.selectionEnd, end)];
    made.dispatch({ selection: { anchor, head } });
  } else if (wantsFocus) made.dispatch({ selection: { anchor: end } });
  if (had || (before === null && wantsFocus)) made.focus();
}

function describe(language: "python" | "text"): string {
  const run = `${printed("Mod+Enter").join("+")} ${language === "python" ? "runs it" : "shows it"}.`;
  return language === "python" ? `Tab indents. To leave, press Escape, then Tab. ${run}` : run;
}
