"use client";

import { type ReactNode, useCallback } from "react";
import { useFormula } from "./katex";
import { formulaOf } from "./latex";
import { ScrollRegion } from "./scroll-region";
import { TextOutput } from "./text-output";
import styles from "./formula.module.css";

/** A formula of Jupyter's `text/latex`; where KaTeX cannot set it, its source. */
export function LatexOutput({ latex }: { latex: string }): ReactNode {
  const formula = useFormula(formulaOf(latex), true);
  if (formula.state === "unknown") return <TextOutput text={latex} name="text" />;
  if (formula.state === "loading") return <pre className={styles.source}>{formulaOf(latex)}</pre>;
  return (
    <ScrollRegion label="Formula" className={styles.left}>
      <Holder element={formula.element} />
    </ScrollRegion>
  );
}

export interface FormulaProps {
  tex: string;
  display?: boolean;
}

/** A formula in a text. */
export function Formula({ tex, display = false }: FormulaProps): ReactNode {
  const formula = useFormula(tex, display);
  if (display) {
    return (
      <ScrollRegion label="Formula" className={styles.display}>
        {formula.state === "set" ? <Holder element={formula.element} /> : <pre className={styles.source}>{tex}</pre>}
      </ScrollRegion>
    );
  }
  return formula.state === "set" ? <Holder element={formula.element} /> : <code>{tex}</code>;
}

/** Has an element that was made outside of React. */
function Holder({ element }: { element: HTMLElement }): ReactNode {
  const hold = useCallback((place: HTMLElement | null) => place?.replaceChildren(element), [element]);
  return <span ref={hold} />;
}
