import type { UIMessageChunk } from "ai";
import { duration } from "@/lib/format";
import type { ShownExecution } from "@/lib/outputs";
import { executionOf } from "./message-data";

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
