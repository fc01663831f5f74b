"use client";

import { type ReactNode, useEffect, useState } from "react";
import { Spinner } from "@/components/ui/spinner";
import { duration } from "@/lib/format";
import { isOver, type ShownExecution } from "@/lib/outputs";
import type { CellRun } from "./cell-run";
import styles from "./cell-status.module.css";
import { startedAt } from "./run";

export interface CellStatusProps {
  execution?: ShownExecution;
  phase?: CellRun["phase"];
  writing?: boolean;
  /** It could not be run. */
  failed?: boolean;
  /** The page could not learn how it ended. */
  unknown?: boolean;
  /** Nothing was asked of this cell yet. */
  idle?: boolean;
}

/** A cell's count and the word for its state. Takes the same height whatever it says. */
export function CellStatus(props: CellStatusProps): ReactNode {
  const { execution } = props;
  const { words, tone } = stateOf(props);
  const runs = tone === "running";
  return (
    <p className={styles.status}>
      <span className={styles.count} aria-hidden={execution?.execution_count === undefined}>
        {`In [${execution?.execution_count ?? (runs ? "*" : "\u00a0")}]`}
      </span>
      <span className={`${styles.state} ${styles[tone]}`}>
        {(runs || tone === "waiting") && <Spinner />}
        {words}
        {runs && execution !== undefined && <Elapsed key={execution.execution} execution={execution.execution} />}
      </span>
    </p>
  );
}

type Tone = "quiet" | "waiting" | "running" | "good" | "bad";

function stateOf({ execution, phase, writing, failed, unknown, idle }: CellStatusProps): { words: string; tone: Tone } {
  if (writing) return { words: "Writing code", tone: "waiting" };
  if (failed) return { words: "Failed", tone: "bad" };
  if (unknown && (execution === undefined || !isOver(execution.status))) {
    return { words: execution?.execution ? "End not known" : "Not run", tone: "bad" };
  }
  if (phase === "starting") return { words: "Starting sandbox", tone: "waiting" };
  if (phase === "reconnecting") return { words: "Connecting again", tone: "waiting" };
  if (idle) return { words: "", tone: "quiet" };
  switch (execution?.status) {
    case undefined:
    case "queued":
      return { words: "Queued", tone: "waiting" };
    case "running":
      return { words: "Running", tone: "running" };
    case "ok": {
      const { duration_ms } = execution;
      return { words: duration_ms === undefined ? "Done" : `Done in ${duration(duration_ms)}`, tone: "good" };
    }
    case "error":
      return { words: "Failed", tone: "bad" };
    case "interrupted":
      return { words: "Interrupted", tone: "quiet" };
    case "timeout":
      return { words: "Timed out", tone: "bad" };
    case "died":
      return { words: "Kernel lost", tone: "bad" };
  }
}

/** Whole seconds since it began; nothing in the first, so that quick cells do not flicker. */
function Elapsed({ execution }: { execution: string }): ReactNode {
  const [seenAt] = useState(() => Date.now());
  const [now, setNow] = useState(seenAt);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  const ms = now - (startedAt(execution) ?? seenAt);
  if (ms < 1_000) return null;
  return (
    <span aria-hidden className={styles.elapsed}>
      {duration(Math.floor(ms / 1_000) * 1_000).replace(".0 s", " s")}
    </span>
  );
}
