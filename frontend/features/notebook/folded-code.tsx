"use client";

import { type ReactNode, useId, useState } from "react";
import { Button } from "@/components/ui/button";
import { CodeBlock } from "@/features/outputs/code-block";
import { count } from "@/lib/format";
import styles from "./folded-code.module.css";

const FOLDED_LINES = 14;
/** Hiding fewer lines than this would not be worth a press. */
const LEAST_HIDDEN = 4;

/** Python to read: a long one shows its first lines until it is asked for in full. */
export function FoldedCode({ code, open: startsOpen = false }: { code: string; open?: boolean }): ReactNode {
  const [open, setOpen] = useState(startsOpen);
  const id = useId();
  const lines = code.replace(/\n+$/, "").split("\n");
  const foldable = lines.length >= FOLDED_LINES + LEAST_HIDDEN;
  const shown = foldable && !open ? lines.slice(0, FOLDED_LINES) : lines;
  return (
    <>
      <div id={id}>
        <CodeBlock code={shown.join("\n")} language="python" />
      </div>
      {foldable && (
        <Button
          look="quiet"
          className={styles.more}
          aria-expanded={open}
          aria-controls={id}
          onClick={() => setOpen(!open)}
        >
          {open ? "Show fewer lines" : `Show all ${count(lines.length, "line")}`}
        </Button>
      )}
    </>
  );
}
