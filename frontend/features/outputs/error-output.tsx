"use client";

import { ChevronRight } from "lucide-react";
import { type ReactNode, useId, useMemo, useState } from "react";
import type { ShownOutput } from "@/lib/outputs";
import { plainText, segments } from "./ansi";
import { CopyButton } from "./copy-button";
import { ScrollRegion } from "./scroll-region";
import { Runs } from "./text-output";
import styles from "./error-output.module.css";

/** A traceback of deep recursion is long; its end says most. */
const MOST_CHARS = 60_000;
const MOST_SUMMARY_CHARS = 600;

/** What the code raised: one line, and the traceback behind it. */
export function ErrorOutput({ output }: { output: Extract<ShownOutput, { type: "error" }> }): ReactNode {
  const [open, setOpen] = useState(false);
  const id = useId();
  const traceback = useMemo(() => shortened(output.traceback.join("\n")), [output.traceback]);
  const hasMore = traceback.trim() !== "";
  const summary = summaryOf(output.ename, output.evalue);
  return (
    <div className={styles.error}>
      <div className={styles.head}>
        <p className={styles.summary}>
          <strong>{summary.name}</strong>
          {summary.value !== "" && `: ${summary.value}`}
        </p>
        <div className={styles.actions}>
          {hasMore && (
            <button
              type="button"
              className={styles.toggle}
              aria-expanded={open}
              aria-controls={open ? id : undefined}
              onClick={() => setOpen(!open)}
            >
              <ChevronRight aria-hidden />
              {open ? "Hide traceback" : "Show traceback"}
            </button>
          )}
          <CopyButton
            label="Copy error"
            what="Error"
            text={() => (hasMore ? plainText(output.traceback.join("\n")) : `${summary.name}: ${summary.value}`)}
          />
        </div>
      </div>
      {open && (
        <div id={id}>
          <ScrollRegion label="Traceback" className={styles.box}>
            <pre className={styles.pre}>
              <Runs runs={segments(traceback)} />
            </pre>
          </ScrollRegion>
        </div>
      )}
    </div>
  );
}

function summaryOf(ename: string, evalue: string): { name: string; value: string } {
  const value = plainText(evalue.slice(0, MOST_SUMMARY_CHARS * 4)).trim();
  return {
    name: plainText(ename.slice(0, MOST_SUMMARY_CHARS)) || "Error",
    value: value.length > MOST_SUMMARY_CHARS ? `${value.slice(0, MOST_SUMMARY_CHARS)}…` : value,
  };
}

function shortened(text: string): string {
  if (text.length <= MOST_CHARS) return text;
  return `… (the beginning is left out; copying has all of it)\n${text.slice(-MOST_CHARS)}`;
}
