"use client";

import { CloudSun, FileSearch, FolderOpen, Wrench } from "lucide-react";
import { memo, type ReactNode } from "react";
import { Spinner } from "@/components/ui/spinner";
import { CodeBlock } from "@/features/outputs/code-block";
import styles from "./message-parts.module.css";
import { lineFor } from "./parts";

export interface ToolLineProps {
  name: string;
  input: unknown;
  output: unknown;
  failure: string | undefined;
  /** Whether nothing of its message runs any more. */
  over: boolean;
}

const ICONS: Record<string, typeof Wrench> = {
  list_files: FolderOpen,
  read_file: FileSearch,
  get_weather: CloudSun,
};

/** A step other than code: one quiet line, with what went in and came out behind it. */
export const ToolLine = memo(function ToolLine({ name, input, output, failure, over }: ToolLineProps): ReactNode {
  const running = output === undefined && failure === undefined && !over;
  const Icon = ICONS[name] ?? Wrench;
  return (
    <details className={styles.details}>
      <summary className={styles.summary}>
        {running ? <Spinner /> : <Icon aria-hidden />}
        <span>
          {lineFor(name, input, output, running)}
          {failure !== undefined && <span className={styles.failed}>, failed</span>}
        </span>
      </summary>
      <div className={styles.facts}>
        {failure !== undefined && <p className={styles.failed}>{failure}</p>}
        {input !== undefined && <CodeBlock code={asJson(input)} language="json" />}
        {output !== undefined && <CodeBlock code={asJson(output)} language="json" />}
      </div>
    </details>
  );
});

const MAX_CHARS = 8_000;

function asJson(value: unknown): string {
  const text = JSON.stringify(value, undefined, 2) ?? "";
  return text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}\n…` : text;
}
