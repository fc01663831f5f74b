import {
  acceptCompletion,
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  type CompletionContext,
  completionKeymap,
  type CompletionResult,
  completionStatus,
  moveCompletionSelection,
  selectedCompletionIndex,
} from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentLess, indentMore } from "@codemirror/commands";
import { globalCompletion, localCompletionSource, python } from "@codemirror/lang-python";
import { bracketMatching, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { type Extension, Prec } from "@codemirror/state";
import { drawSelection, EditorView, keymap, placeholder as placeholderText, tooltips } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { Completion } from "./run";

/** CodeMirror as the page uses it. Loaded when an editor is first shown. */
export interface EditorWishes {
  code: string;
  label: string;
  description: string;
  python: boolean;
  placeholder?: string;
  onChange(code: string): void;
  onRun(): void;
  onRunAndAdvance(): void;
  /** Escape, where nothing in the editor wants it. */
  onEscape?(): void;
  /** The caret is to leave at the first or last line. */
  onLeave?(where: "up" | "down"): void;
  complete?(code: string, cursor: number): Promise<Completion | undefined>;
}

const LEAVES_BY_TAB_MS = 4_000;
const MAX_SHOWN_MATCHES = 200;

/** Make an editor in `parent`. The wishes are asked each time, so that they may change. */
export function makeEditor(parent: HTMLElement, wishes: () => EditorWishes): EditorView {
  const { code, label, description, python: isPython, placeholder } = wishes();
  return new EditorView({
    parent,
    doc: code,
    extensions: [
      Prec.highest(keymap.of(runKeys(wishes))),
      history(),
      drawSelection(),
      isPython ? pythonSupport(wishes) : EditorView.lineWrapping,
      keymap.of([
        { key: "ArrowUp", run: (view) => leaves(view, "up", wishes) },
        { key: "ArrowDown", run: (view) => leaves(view, "down", wishes) },
      ]),
      keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap]),
      Prec.low(keymap.of([{ key: "Escape", run: (view) => escapes(view, wishes) }])),
      placeholder === undefined ? [] : placeholderText(placeholder),
      theme,
      EditorView.contentAttributes.of({
        "aria-label": label,
        "aria-description": description,
        tabindex: "0",
        autocapitalize: "off",
        autocorrect: "off",
        spellcheck: isPython ? "false" : "true",
        "data-gramm": "false",
      }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) wishes().onChange(update.state.doc.toString());
      }),
    ],
  });
}

function runKeys(wishes: () => EditorWishes): { key: string; run(): boolean }[] {
  return [
    { key: "Mod-Enter", run: () => (wishes().onRun(), true) },
    { key: "Shift-Enter", run: () => (wishes().onRunAndAdvance(), true) },
  ];
}

function pythonSupport(wishes: () => EditorWishes): Extension {
  return [
    python(),
    indentUnit.of("    "),
    indentOnInput(),
    bracketMatching(),
    closeBrackets(),
    syntaxHighlighting(highlights),
    // A cell clips what it holds, so the list of completions is not inside of it.
    tooltips({ parent: document.body }),
    autocompletion({ override: [(context) => completions(context, wishes)], icons: false, selectOnOpen: false }),
    keymap.of([
      ...completionKeymap,
      { key: "Tab", run: (view) => completes(view) || indents(view), shift: indentLess },
    ]),
  ];
}

/** Tab takes the first match; Enter takes one only when it was gone to with the arrows, so that a line always ends. */
function completes(view: EditorView): boolean {
  if (completionStatus(view.state) !== "active") return false;
  if (selectedCompletionIndex(view.state) === null) moveCompletionSelection(true)(view);
  return acceptCompletion(view);
}

/** At the cursor Tab goes to the next stop; with a selection it moves the lines. */
function indents(view: EditorView): boolean {
  const { state, dispatch } = view;
  if (state.selection.ranges.some((range) => !range.empty)) return indentMore({ state, dispatch });
  const { head } = state.selection.main;
  const column = head - state.doc.lineAt(head).from;
  view.dispatch(state.replaceSelection(" ".repeat(4 - (column % 4))), { scrollIntoView: true, userEvent: "input" });
  return true;
}

function escapes(view: EditorView, wishes: () => EditorWishes): boolean {
  view.setTabFocusMode(LEAVES_BY_TAB_MS);
  wishes().onEscape?.();
  return true;
}

function leaves(view: EditorView, where: "up" | "down", wishes: () => EditorWishes): boolean {
  const { onLeave } = wishes();
  const { state } = view;
  const { main } = state.selection;
  const edge = where === "up" ? 0 : state.doc.length;
  if (onLeave === undefined || !main.empty || main.head !== edge) return false;
  onLeave(where);
  return true;
}

/** Ask the kernel, which knows the variables; where it cannot be asked, the words of the code and of Python. */
async function completions(context: CompletionContext, wishes: () => EditorWishes): Promise<CompletionResult | null> {
  const word = context.matchBefore(/[\w.]+$/);
  if (!context.explicit && (word === null || /^[\d.]+$/.test(word.text))) return null;
  const code = context.state.doc.toString();
  const asked = await wishes().complete?.(code, context.pos);
  if (context.aborted) return null;
  if (asked !== undefined && asked.matches.length > 0) return fromKernel(context, asked);
  const [local, global] = await Promise.all([localCompletionSource(context), globalCompletion(context)]);
  if (local === null || global === null) return local ?? global;
  const names = new Set(local.options.map((option) => option.label));
  return { ...local, options: [...local.options, ...global.options.filter((option) => !names.has(option.label))] };
}

/** Matches such as `.path` after `os` are shown, and later filtered, by what stands after the last dot. */
function fromKernel(context: CompletionContext, asked: Completion): CompletionResult | null {
  const typed = context.state.sliceDoc(asked.from, context.pos);
  const skipped = typed.lastIndexOf(".") + 1;
  const prefix = typed.slice(0, skipped);
  const fitting = asked.matches.filter((match) => match.startsWith(prefix)).slice(0, MAX_SHOWN_MATCHES);
  if (fitting.length === 0) return null;
  return {
    from: asked.from + skipped,
    options: fitting.map((match) => ({ label: match.slice(skipped) })),
    validFor: /^\w*$/,
  };
}

const highlights = HighlightStyle.define([
  { tag: [tags.comment, tags.meta], color: "var(--code-comment)" },
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier, tags.self], color: "var(--code-keyword)" },
  { tag: [tags.string, tags.special(tags.string), tags.escape], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
  {
    tag: [tags.function(tags.variableName), tags.function(tags.definition(tags.variableName))],
    color: "var(--code-function)",
  },
  { tag: [tags.className, tags.definition(tags.className), tags.typeName], color: "var(--code-type)" },
  { tag: [tags.variableName, tags.propertyName, tags.operator, tags.punctuation], color: "var(--code-variable)" },
]);

/** The same type, spacing and padding as the text area that stands here until this is loaded. */
const theme = EditorView.theme({
  "&": { color: "var(--code-variable)", backgroundColor: "transparent", fontSize: "var(--text-sm)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--font-mono)", lineHeight: "var(--leading-code)", overflow: "auto" },
  ".cm-content": { padding: "var(--space-3) 0", caretColor: "var(--color-text)" },
  ".cm-line": { padding: "0 var(--space-4)" },
  ".cm-cursor, .cm-dropCursor": { borderLeftColor: "var(--color-text)", borderLeftWidth: "2px" },
  ".cm-placeholder": { color: "var(--color-text-muted)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    background: "color-mix(in srgb, var(--color-accent) 25%, transparent)",
  },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--color-accent-soft)", outline: "none" },
  "&.cm-focused .cm-nonmatchingBracket": { backgroundColor: "var(--color-danger-soft)" },
  ".cm-tooltip": {
    overflow: "hidden",
    border: "1px solid var(--color-border)",
    borderRadius: "var(--radius-sm)",
    backgroundColor: "var(--color-bg-raised)",
    color: "var(--color-text)",
    boxShadow: "var(--shadow-raised)",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--font-mono)", fontSize: "var(--text-sm)" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "var(--space-1) var(--space-3)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": {
    backgroundColor: "var(--color-accent-soft)",
    color: "var(--color-text)",
  },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "var(--weight-bold)" },
});
