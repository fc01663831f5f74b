"use client";

import { Download } from "lucide-react";
import { type CSSProperties, type ReactNode, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Button } from "@/components/ui/button";
import { count } from "@/lib/format";
import { plainText, type Segment, segments } from "./ansi";
import { saveBlob } from "@/lib/save";
import { ScrollRegion } from "./scroll-region";
import styles from "./text-output.module.css";

/** So much is shown at first, of the end; the rest is a press away. */
export const FIRST_CHARS = 40_000;
/** More than this is only to be saved. */
export const MOST_CHARS = 400_000;

export interface TextOutputProps {
  text: string;
  name: "stdout" | "stderr" | "text";
  /** How many characters before the text were not kept. */
  cutChars?: number;
  /** Whether more is coming: the end stays in sight until the reader scrolls up. */
  running?: boolean;
}

const LABELS = { stdout: "Printed output", stderr: "Error output", text: "Result" };

/** Text of a kernel with terminal colours, in a box of bounded height. */
export function TextOutput({ text, name, cutChars = 0, running = false }: TextOutputProps): ReactNode {
  const [all, setAll] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const follows = useRef(name !== "text");
  const shown = cutTo(text, all ? MOST_CHARS : FIRST_CHARS);
  const hidden = text.length - shown.length;
  const runs = useMemo(() => segments(shown), [shown]);
  useLayoutEffect(() => {
    const element = box.current;
    if (element !== null && follows.current) element.scrollTop = element.scrollHeight;
  }, [runs, running]);
  const noteScroll = (): void => {
    const element = box.current;
    if (element === null || name === "text") return;
    follows.current = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  };
  const save = (): void => saveBlob(new Blob([plainText(text)], { type: "text/plain" }), "output.txt");
  return (
    <div className={styles.text} data-name={name}>
      {(cutChars > 0 || hidden > 0) && (
        <div className={styles.note}>
          <span>{noteOf(cutChars, hidden)}</span>
          {hidden > 0 && !all && (
            <Button look="quiet" onClick={() => setAll(true)}>
              {text.length > MOST_CHARS ? "Show more" : "Show all"}
            </Button>
          )}
          <Button look="quiet" onClick={save}>
            <Download aria-hidden size={16} /> Save as text
          </Button>
        </div>
      )}
      <ScrollRegion label={LABELS[name]} ref={box} className={styles.box} onScroll={noteScroll}>
        <pre className={styles.pre}>
          <Runs runs={runs} />
        </pre>
      </ScrollRegion>
    </div>
  );
}

/** Coloured runs of text. */
export function Runs({ runs }: { runs: Segment[] }): ReactNode {
  return runs.map((run, index) => {
    const look = lookOf(run);
    return look === undefined ? (
      run.text
    ) : (
      <span key={index} style={look}>
        {run.text}
      </span>
    );
  });
}

function lookOf(run: Segment): CSSProperties | undefined {
  const look: CSSProperties = {};
  if (run.dim) look.color = "var(--color-text-muted)";
  if (run.color !== undefined) look.color = run.color;
  if (run.background !== undefined) look.background = run.background;
  if (run.bold) look.fontWeight = "var(--weight-bold)";
  if (run.italic) look.fontStyle = "italic";
  const lines = [run.underline && "underline", run.strike && "line-through"].filter(Boolean).join(" ");
  if (lines !== "") look.textDecoration = lines;
  return Object.keys(look).length > 0 ? look : undefined;
}

/** Return the end of a text, from the start of a line if one is near. */
function cutTo(text: string, chars: number): string {
  if (text.length <= chars) return text;
  const end = text.slice(-chars);
  const line = end.indexOf("\n");
  return line >= 0 && line < 2_000 ? end.slice(line + 1) : end;
}

function noteOf(cutChars: number, hidden: number): string {
  const lost = cutChars > 0 ? `The first ${count(cutChars, "character")} were not kept.` : "";
  const folded = hidden > 0 ? `${count(hidden, "earlier character")} are not shown.` : "";
  return [lost, folded].filter(Boolean).join(" ");
}
