"use client";

import { Play, Power, RotateCcw } from "lucide-react";
import { Popover } from "radix-ui";
import { type ReactNode, useId, useRef, useState } from "react";
import { Button } from "@/components/ui/button";
import { Confirm } from "@/components/ui/dialog";
import { Notice } from "@/components/ui/notice";
import { announce } from "@/lib/announce";
import { wordsOf } from "@/lib/api";
import { bytes, count, timeLeft } from "@/lib/format";
import styles from "./sandbox-badge.module.css";
import { type SandboxState, type SessionDocument, wordsOfSuspended } from "./sandbox-state";
import { type SandboxView, useSandbox } from "./use-sandbox";

const SENTENCES: Record<Exclude<SandboxState, "suspended">, string> = {
  unknown: "Its state is not known yet.",
  "not started": "It starts with the next message or cell.",
  starting: "It is starting. That takes a few seconds.",
  ready: "It waits for code. Variables and files are kept between runs.",
  busy: "It runs code.",
  idle: "Nothing has run for a while. Variables and files are still there.",
  gone: "It was removed. The next message or cell starts a new one, without the old files and variables.",
  unreachable: "The server cannot be reached. This page tries again by itself.",
};

type Asking = "restart" | "close" | undefined;

/** The state of the session's sandbox; opens what is known of it, and what can be done. */
export function SandboxBadge({ session }: { session: string }): ReactNode {
  const sandbox = useSandbox(session);
  const [open, setOpen] = useState(false);
  const [asking, setAsking] = useState<Asking>();
  const [failure, setFailure] = useState<string>();
  const trigger = useRef<HTMLButtonElement>(null);

  const act = (action: Promise<void>, done: string): void => {
    setFailure(undefined);
    action.then(
      () => announce(done),
      (error: unknown) => {
        setFailure(wordsOf(error));
        setOpen(true);
      },
    );
  };
  const ask = (what: Asking): void => {
    setOpen(false);
    setAsking(what);
  };
  const asked = (): void => {
    setAsking(undefined);
    requestAnimationFrame(() => trigger.current?.focus()); // when the dialog has let go of the focus
  };

  return (
    <Popover.Root open={open} onOpenChange={setOpen}>
      <Popover.Trigger asChild>
        <Button look="quiet" ref={trigger} className={styles.badge}>
          <span aria-hidden className={styles.dot} data-state={sandbox.state} />
          <span>
            <span className={styles.prefix}>Sandbox: </span>
            {sandbox.state}
          </span>
        </Button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          className={styles.popover}
          aria-label="Sandbox"
          sideOffset={6}
          align="end"
          collisionPadding={8}
        >
          <p>{sentenceOf(sandbox)}</p>
          {failure !== undefined && <Notice kind="error">{failure}</Notice>}
          {sandbox.document !== undefined && <Facts sandbox={sandbox} document={sandbox.document} />}
          <Actions
            state={sandbox.state}
            onStart={() => act(sandbox.start(), "The sandbox is starting.")}
            onRefresh={sandbox.refresh}
            onAsk={ask}
          />
        </Popover.Content>
      </Popover.Portal>
      <Confirm
        open={asking === "restart"}
        title="Restart the kernel?"
        description="What runs is stopped and all variables of this session are gone. Files are kept."
        action="Restart kernel"
        onConfirm={() => act(sandbox.restart(), "The kernel was restarted.")}
        onClose={asked}
      />
      <Confirm
        open={asking === "close"}
        title="Close the sandbox?"
        description="All variables and files of this session are gone. The conversation is kept here, and the next message starts a new sandbox."
        action="Close sandbox"
        onConfirm={() => act(sandbox.close(), "The sandbox was closed.")}
        onClose={asked}
      />
    </Popover.Root>
  );
}

function sentenceOf({ state, document }: SandboxView): string {
  if (state !== "suspended") return SENTENCES[state];
  return `${wordsOfSuspended(document)}. It wakes up with the next message or cell.`;
}

interface ActionsProps {
  state: SandboxState;
  onStart(): void;
  onRefresh(): void;
  onAsk(what: Asking): void;
}

function Actions({ state, onStart, onRefresh, onAsk }: ActionsProps): ReactNode {
  const startable = state === "not started" || state === "suspended" || state === "gone";
  const running = state === "ready" || state === "busy" || state === "idle";
  return (
    <div className={styles.actions}>
      {startable && (
        <Button onClick={onStart}>
          <Play aria-hidden size={16} />
          {state === "suspended" ? "Wake it now" : "Start"}
        </Button>
      )}
      {(state === "unreachable" || state === "unknown") && <Button onClick={onRefresh}>Try now</Button>}
      {running && (
        <Button onClick={() => onAsk("restart")}>
          <RotateCcw aria-hidden size={16} />
          Restart kernel
        </Button>
      )}
      {(running || state === "suspended") && (
        <Button look="danger" onClick={() => onAsk("close")}>
          <Power aria-hidden size={16} />
          Close sandbox
        </Button>
      )}
    </div>
  );
}

function Facts({ sandbox, document }: { sandbox: SandboxView; document: SessionDocument }): ReactNode {
  const { memory_bytes, memory_limit_bytes, disk_bytes, disk_limit_bytes, contexts = [] } = document;
  const executions = contexts.reduce((sum, context) => sum + (context.execution_count ?? 0), 0);
  const waits = sandbox.state === "ready" || sandbox.state === "idle";
  return (
    <dl className={styles.facts}>
      {waits && sandbox.expires_in_s !== undefined && (
        <Fact name="Suspended in">{timeLeft(sandbox.expires_in_s)}, unless it is used</Fact>
      )}
      {memory_bytes !== undefined && <Used name="Memory" used={memory_bytes} limit={memory_limit_bytes} />}
      {disk_bytes !== undefined && <Used name="Disk" used={disk_bytes} limit={disk_limit_bytes} />}
      {contexts.length > 0 && (
        <Fact name="Executions">
          {executions.toLocaleString("en-US")}
          {contexts.length > 1 && `, in ${count(contexts.length, "kernel")}`}
        </Fact>
      )}
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }): ReactNode {
  return (
    <div className={styles.fact}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** An amount, and where there is a limit, how near it is. */
function Used({ name, used, limit }: { name: string; used: number; limit: number | undefined }): ReactNode {
  const label = useId();
  return (
    <div className={styles.fact}>
      <dt id={label}>{name}</dt>
      <dd>
        {limit === undefined ? bytes(used) : `${bytes(used)} of ${bytes(limit)}`}
        {limit !== undefined && limit > 0 && (
          <meter
            aria-labelledby={label}
            className={styles.meter}
            min={0}
            max={limit}
            high={limit * 0.85}
            value={Math.min(used, limit)}
          />
        )}
      </dd>
    </div>
  );
}
