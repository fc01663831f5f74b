import type katex from "katex";
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { KATEX_LIMITS, MAX_FORMULA_CHARS } from "./latex";

type Katex = typeof katex;

let engine: Katex | undefined;
let loading: Promise<void> | undefined;
const listeners = new Set<() => void>();

/** Load KaTeX and its style sheet, once, when there is a formula. Without it formulas stay as they are written. */
function loadKatex(): Promise<void> {
  loading ??= Promise.all([import("katex"), import("./katex-styles")]).then(
    ([loaded]) => {
      engine = loaded.default;
      for (const listener of listeners) listener();
    },
    () => {
      loading = undefined;
    },
  );
  return loading;
}

function onLoaded(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export type SetFormula =
  /** KaTeX is on its way. */
  | { state: "loading" }
  | { state: "set"; element: HTMLElement }
  /** KaTeX cannot set it: its source is to be shown. */
  | { state: "unknown" };

/** Set a formula. KaTeX builds elements, so that no HTML passes through a string. */
export function useFormula(tex: string, display: boolean): SetFormula {
  const loaded = useSyncExternalStore(
    onLoaded,
    () => engine,
    () => undefined,
  );
  useEffect(() => void loadKatex(), []);
  const made = useMemo(
    () => (loaded === undefined ? undefined : setFormula(loaded, tex, display)),
    [loaded, tex, display],
  );
  if (loaded === undefined) return { state: "loading" };
  return made === undefined ? { state: "unknown" } : { state: "set", element: made };
}

function setFormula(loaded: Katex, tex: string, displayMode: boolean): HTMLElement | undefined {
  if (tex.length > MAX_FORMULA_CHARS) return undefined;
  const element = document.createElement("span");
  try {
    loaded.render(tex, element, { ...KATEX_LIMITS, displayMode, throwOnError: true });
    return element;
  } catch {
    return undefined;
  }
}
