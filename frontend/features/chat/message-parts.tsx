"use client";

import { FileText } from "lucide-react";
import { memo, type ReactNode } from "react";
import { Notice } from "@/components/ui/notice";
import { Spinner } from "@/components/ui/spinner";
import { Cell } from "@/features/notebook/cell";
import { MarkdownText } from "@/features/outputs/markdown-text";
import { executionOf, type Part } from "./message-data";
import styles from "./message-parts.module.css";
import { settled, shownPart } from "./parts";
import { ToolLine } from "./tool-line";

export interface PartContext {
  session: string;
  /** Whether nothing of this message runs any more. */
  over: boolean;
  onStop(): void;
}

/** One part of an answer. */
export function MessagePart({ part, context }: { part: Part; context: PartContext }): ReactNode {
  const { session, over, onStop } = context;
  const shown = shownPart(part);
  switch (shown.kind) {
    case "text":
      return <MarkdownText text={shown.text} streaming={shown.streaming && !over} />;
    case "thinking":
      return <Thinking text={shown.text} streaming={shown.streaming && !over} />;
    case "code":
      return (
        <CodePart
          session={session}
          id={shown.id}
          code={shown.code}
          writing={shown.writing && !over}
          output={shown.output}
          failure={shown.failure}
          over={over}
          onStop={onStop}
        />
      );
    case "tool":
      return (
        <ToolLine name={shown.name} input={shown.input} output={shown.output} failure={shown.failure} over={over} />
      );
    case "file":
      return <FileChip name={shown.name} />;
    case "notice":
      return <Notice>{shown.text}</Notice>;
    case "unknown":
      return <p className={styles.quiet}>Something that this page cannot show ({shown.name}).</p>;
    case "nothing":
      return null;
  }
}

interface CodePartProps extends PartContext {
  id: string;
  code: string;
  writing: boolean;
  output: unknown;
  failure: string | undefined;
}

/** Outputs keep their identity while other parts of the message grow, so that only the cell that runs is drawn anew. */
const CodePart = memo(function CodePart({ output, failure, over, onStop, ...rest }: CodePartProps): ReactNode {
  const execution = executionOf(output);
  const unread =
    output !== undefined && execution === undefined
      ? "Its outputs have a shape that this page does not know."
      : undefined;
  const notRun =
    over && output === undefined && failure === undefined ? "Not run: the answer ended before." : undefined;
  return (
    <Cell
      {...rest}
      execution={execution && settled(execution, over)}
      failure={failure ?? unread ?? notRun}
      onStop={over ? undefined : onStop}
    />
  );
});

function Thinking({ text, streaming }: { text: string; streaming: boolean }): ReactNode {
  return (
    <details className={styles.details}>
      <summary className={styles.summary}>
        {streaming && <Spinner />}
        Thinking
      </summary>
      <div className={styles.thought}>{text}</div>
    </details>
  );
}

export function FileChip({ name }: { name: string }): ReactNode {
  return (
    <span className={styles.chip}>
      <FileText aria-hidden />
      {name}
    </span>
  );
}
