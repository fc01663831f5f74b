"use client";

import { memo, type ReactNode } from "react";
import { bytes, count } from "@/lib/format";
import { isOver, type ShownExecution, type ShownOutput } from "@/lib/outputs";
import { ErrorOutput } from "./error-output";
import { Guard } from "./guard";
import { Failed } from "./placeholder";
import { RichOutput } from "./rich-output";
import { sameOutput } from "./same-output";
import { TextOutput } from "./text-output";
import styles from "./outputs.module.css";

export interface OutputsProps {
  session: string;
  execution: ShownExecution;
}

/** All that one execution shows, in the order in which it came. */
export function Outputs({ session, execution }: OutputsProps): ReactNode {
  const { outputs, left_out: leftOut = 0 } = execution;
  const running = !isOver(execution.status);
  const gap = Math.ceil(outputs.length / 2);
  if (outputs.length === 0) return null;
  return (
    <div className={styles.outputs}>
      {outputs.map((output, index) => (
        <Item key={index} note={leftOut > 0 && index === gap ? leftOut : 0}>
          <One
            output={output}
            id={`${session}/${execution.execution}/${output.seq}`}
            running={running && index === outputs.length - 1}
          />
        </Item>
      ))}
    </div>
  );
}

function Item({ note, children }: { note: number; children: ReactNode }): ReactNode {
  return (
    <>
      {note > 0 && (
        <p className={styles.note}>
          {count(note, "output")} {note === 1 ? "was" : "were"} left out here.
        </p>
      )}
      {children}
    </>
  );
}

interface OneProps {
  output: ShownOutput;
  id: string;
  running: boolean;
}

const One = memo(
  function One({ output, id, running }: OneProps): ReactNode {
    return (
      <Guard key={output.type} fallback={<Failed words="This output cannot be shown." />}>
        <Shown output={output} id={id} running={running} />
      </Guard>
    );
  },
  (before, after) =>
    before.id === after.id && before.running === after.running && sameOutput(before.output, after.output),
);

function Shown({ output, id, running }: OneProps): ReactNode {
  switch (output.type) {
    case "stream":
      return <TextOutput text={output.text} name={output.name} cutChars={output.cut_chars} running={running} />;
    case "display_data":
    case "execute_result":
      return <RichOutput output={output} id={id} />;
    case "error":
      return <ErrorOutput output={output} />;
    case "truncated":
      return (
        <p className={styles.note}>
          The output was cut here: {bytes(output.dropped_bytes)} more came than an execution may print.
        </p>
      );
  }
}
