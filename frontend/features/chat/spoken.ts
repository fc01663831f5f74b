import type { UIMessage, UIMessageChunk } from "ai";
import { duration } from "@/lib/format";
import type { ShownExecution } from "@/lib/outputs";
import { executionOf } from "./message-data";

/** What is said aloud of an answer as it comes; a replay says nothing twice. */
export class Spoken {
  private readonly told = new Set<string>();

  /** Return what is said of this chunk, if something is. */
  next(chunk: UIMessageChunk): string | undefined {
    return this.isNew(chunk) ? spokenFor(chunk) : undefined;
  }

  /** These messages have been heard. */
  remember(messages: readonly UIMessage[]): void {
    for (const message of messages) {
      for (const part of message.parts) {
        if ("toolCallId" in part && part.state.startsWith("output") && !("preliminary" in part && part.preliminary)) {
          this.told.add(part.toolCallId);
        }
      }
    }
  }

  private isNew(chunk: UIMessageChunk): boolean {
    if (!("toolCallId" in chunk) || ("preliminary" in chunk && chunk.preliminary)) return true;
    if (!/^tool-(output|input-error)/.test(chunk.type)) return true;
    if (this.told.has(chunk.toolCallId)) return false;
    this.told.add(chunk.toolCallId);
    return true;
  }
}

/** Return what is said aloud when this part of an answer is finished; nothing for what is only under way. */
export function spokenFor(chunk: UIMessageChunk): string | undefined {
  switch (chunk.type) {
    case "tool-output-available": {
      const execution = chunk.preliminary ? undefined : executionOf(chunk.output);
      return execution && spokenForExecution(execution);
    }
    case "tool-output-error":
    case "tool-input-error":
      return "A step failed";
    case "finish":
      return "Caesarion answered";
    case "abort":
      return "Stopped";
    default:
      return undefined;
  }
}

function spokenForExecution(execution: ShownExecution): string {
  const took = execution.duration_ms === undefined ? "" : ` in ${duration(execution.duration_ms)}`;
  const error = execution.outputs.findLast((output) => output.type === "error");
  const pictures = execution.outputs.filter(
    (output) => "data" in output && [...Object.keys(output.data), ...Object.keys(output.urls ?? {})].some(isPicture),
  ).length;
  const ends: Partial<Record<ShownExecution["status"], string>> = {
    ok: `Code finished${took}`,
    error: error === undefined ? "Code failed" : `Code failed: ${error.ename}`,
    interrupted: "Code was stopped",
    timeout: "Code took too long and was stopped",
    died: "Code ended the Python process; its variables are gone",
  };
  const shown = pictures === 0 ? [] : [pictures === 1 ? "Picture shown" : `${pictures} pictures shown`];
  return [ends[execution.status] ?? "Code is running", ...shown].join(". ");
}

function isPicture(type: string): boolean {
  return (
    type.startsWith("image/") || type.startsWith("application/vnd.plotly") || type.startsWith("application/vnd.vega")
  );
}
