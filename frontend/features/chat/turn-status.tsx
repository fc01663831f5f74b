"use client";

import type { ReactNode } from "react";
import { Button } from "@/components/ui/button";
import { Notice } from "@/components/ui/notice";
import { Spinner } from "@/components/ui/spinner";
import styles from "./turn-status.module.css";
import type { ShownConversation } from "./use-conversation";

/** Below the messages: what is going on, and what went wrong on the way. Its line keeps its room. */
export function TurnStatus({ shown }: { shown: ShownConversation }): ReactNode {
  const { conversation, phase, stopping, failure, notice, unanswered } = shown;
  const tryAgain = <Button onClick={() => conversation.tryAgain()}>Try again</Button>;
  const dismiss = <Button onClick={() => conversation.dismiss()}>Dismiss</Button>;
  return (
    <div className={styles.status}>
      {notice !== undefined && <Notice actions={dismiss}>{notice}</Notice>}
      {phase === "idle" && failure !== undefined && (
        <Notice
          kind="error"
          actions={failure.again === undefined ? dismiss : <Button onClick={failure.again}>Try again</Button>}
        >
          {failure.text}
        </Notice>
      )}
      {phase === "idle" && failure === undefined && unanswered && (
        <Notice actions={tryAgain}>This message has no answer.</Notice>
      )}
      <p className={styles.line}>
        {phase === "reconnecting" && !stopping ? (
          <span key="reconnecting" className={styles.late}>
            <Spinner />
            Reconnecting…
            <Button look="quiet" onClick={() => conversation.nudge()}>
              Try now
            </Button>
          </span>
        ) : (
          phase !== "idle" && (
            <span key="working" className={styles.working}>
              <Spinner />
              {stopping ? "Stopping…" : phase === "sending" ? "Waiting for the answer…" : "Working…"}
            </span>
          )
        )}
      </p>
    </div>
  );
}
