"use client";

import { type ReactNode, useEffect, useState } from "react";
import { Button } from "@/components/ui/button";
import { Notice, type NoticeProps } from "@/components/ui/notice";
import { announce } from "@/lib/announce";
import { wordsOf } from "@/lib/api";
import { inWords } from "./restored";
import { wordsOfSuspended } from "./sandbox-state";
import { useSession } from "./store";
import { type SandboxView, useSandbox } from "./use-sandbox";

interface Told {
  kind: NoticeProps["kind"];
  text: string;
  action: string;
  act(): void | Promise<void>;
}

/** What the user should know about the sandbox (variables lost, suspended, gone, unreachable), and buttons for it. */
export function SandboxNotice({ session }: { session: string }): ReactNode {
  const sandbox = useSandbox(session);
  const [failure, setFailure] = useState<string>();
  const next = useSession(session)?.kind === "notebook" ? "cell that you run" : "message";
  const told = toldOf(sandbox, next);
  const text = told?.text;
  useEffect(() => {
    if (text !== undefined) announce(text);
  }, [text]);

  if (told === undefined) return null;
  const act = (): void => {
    setFailure(undefined);
    Promise.resolve(told.act()).catch((error: unknown) => setFailure(wordsOf(error)));
  };
  return (
    <Notice kind={failure === undefined ? told.kind : "error"} actions={<Button onClick={act}>{told.action}</Button>}>
      {told.text}
      {failure !== undefined && ` That did not work: ${failure}`}
    </Notice>
  );
}

/** `next` is what wakes or makes a sandbox without a button. */
function toldOf(sandbox: SandboxView, next: string): Told | undefined {
  switch (sandbox.state) {
    case "unreachable":
      return {
        kind: "warning",
        text: "The server cannot be reached. This page tries again by itself; what is here is kept.",
        action: "Try now",
        act: sandbox.refresh,
      };
    case "gone":
      return {
        kind: "warning",
        text:
          "This session's sandbox was removed, as happens after being idle. What you see is kept in this browser; " +
          `the next ${next} starts a new one, without the old files and variables.`,
        action: "Start a new sandbox",
        act: sandbox.start,
      };
    case "suspended":
      return {
        kind: "info",
        text: `${wordsOfSuspended(sandbox.document)}. It wakes up with the next ${next}.`,
        action: "Wake it now",
        act: sandbox.start,
      };
    default:
      return lossOf(sandbox);
  }
}

function lossOf({ lost, notKept, acknowledge }: SandboxView): Told | undefined {
  const known = { action: "Got it", act: acknowledge };
  switch (lost) {
    case "some": {
      const names = inWords(notKept);
      return {
        kind: "info",
        text: `Woken; ${names ? `these variables could not be kept: ${names}` : "some variables could not be kept"}.`,
        ...known,
      };
    }
    case "variables":
      return {
        kind: "warning",
        text: "The kernel was started anew, so variables are gone; files are kept. Run the cells that you need again.",
        ...known,
      };
    case "all":
      return {
        kind: "warning",
        text: "The sandbox was replaced by a new one, so files and variables are gone. Upload files and run cells again.",
        ...known,
      };
    case undefined:
      return undefined;
  }
}
