import { getToolName, isToolUIPart } from "ai";
import { isOver, type ShownExecution } from "@/lib/outputs";
import { codeOf, type Part } from "./message-data";

/** A part of a message as the page shows it. */
export type ShownPart =
  | { kind: "text"; text: string; streaming: boolean }
  | { kind: "thinking"; text: string; streaming: boolean }
  | { kind: "code"; id: string; code: string; writing: boolean; output: unknown; failure: string | undefined }
  | { kind: "tool"; id: string; name: string; input: unknown; output: unknown; failure: string | undefined }
  | { kind: "file"; name: string }
  | { kind: "notice"; text: string }
  | { kind: "unknown"; name: string }
  | { kind: "nothing" };

/** Return how a part is shown. One of a kind that this page does not know has a quiet line. */
export function shownPart(part: Part): ShownPart {
  if (isToolUIPart(part)) {
    const name = getToolName(part);
    const output = part.state === "output-available" ? part.output : undefined;
    const failure = part.state === "output-error" ? part.errorText : undefined;
    const id = part.toolCallId;
    if (name !== "python") return { kind: "tool", id, name, input: part.input, output, failure };
    return { kind: "code", id, code: codeOf(part.input), writing: part.state === "input-streaming", output, failure };
  }
  switch (part.type) {
    case "text":
      return part.text ? { kind: "text", text: part.text, streaming: part.state === "streaming" } : { kind: "nothing" };
    case "reasoning":
      return part.text
        ? { kind: "thinking", text: part.text, streaming: part.state === "streaming" }
        : { kind: "nothing" };
    case "file":
      return { kind: "file", name: part.filename ?? part.mediaType };
    case "step-start":
      return { kind: "nothing" };
    case "data-notice":
      return noticeOf(part.data);
    default:
      return { kind: "unknown", name: part.type };
  }
}

function noticeOf(data: unknown): ShownPart {
  if (typeof data === "object" && data !== null && "text" in data && typeof data.text === "string") {
    return { kind: "notice", text: data.text };
  }
  return { kind: "unknown", name: "data-notice" };
}

/** Return the execution as it stands once its turn is over: what still ran then runs no more. */
export function settled(execution: ShownExecution, over: boolean): ShownExecution {
  return over && !isOver(execution.status) ? { ...execution, status: "interrupted" } : execution;
}

/** Return a line that says what a tool does, or did. */
export function lineFor(name: string, input: unknown, output: unknown, running: boolean): string {
  switch (name) {
    case "list_files": {
      const files = field(output, "files");
      if (running) return "Looking at the files";
      return Array.isArray(files) ? `Looked at ${files.length === 1 ? "1 file" : `${files.length} files`}` : "Files";
    }
    case "read_file":
      return `${running ? "Reading" : "Read"} ${wordFrom(field(input, "path"), "a file").replace(/^\/uploaded_files\//, "")}`;
    case "get_weather": {
      const place = wordFrom(field(field(output, "place"), "name"), wordFrom(field(input, "place"), "a place"));
      const now = field(output, "current");
      const degrees = field(now, "temperature_c");
      if (running || typeof degrees !== "number")
        return `${running ? "Asking for the weather" : "Weather"} in ${place}`;
      return `Weather in ${place}: ${degrees} °C, ${wordFrom(field(now, "sky"), "unknown")}`;
    }
    default:
      return `${running ? "Using" : "Used"} ${name}`;
  }
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

function wordFrom(value: unknown, otherwise: string): string {
  return typeof value === "string" && value ? value : otherwise;
}
