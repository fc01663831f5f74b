"use client";

import type { ReactNode } from "react";
import { Button } from "@/components/ui/button";
import { Notice } from "@/components/ui/notice";
import { Outputs } from "@/features/outputs/outputs";
import { type CellRun, shownOf } from "./cell-run";
import styles from "./cell.module.css";

export interface CellOutputsProps {
  session: string;
  run: CellRun;
  onAgain?(): void;
}

/** What a run shows, and why it failed to begin if it did. Outputs of the run before are dimmed until there are new ones. */
export function CellOutputs({ session, run, onAgain }: CellOutputsProps): ReactNode {
  const shown = shownOf(run);
  return (
    <>
      {shown !== undefined && shown.outputs.length > 0 && (
        <div className={styles.outputs} data-before={shown === run.before || undefined}>
          <Outputs session={session} execution={shown} />
        </div>
      )}
      {run.problem !== undefined && (
        <div className={styles.notice}>
          <Notice kind="error" actions={onAgain && <Button onClick={onAgain}>Try again</Button>}>
            {run.problem}
          </Notice>
        </div>
      )}
    </>
  );
}
