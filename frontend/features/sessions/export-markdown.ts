import type { UIMessage } from "ai";
import type { CellKind } from "@/features/notebook/cells";
import { z } from "@/lib/zod";
import { bytes, count } from "@/lib/format";
import { type RichOutput, type ShownExecution, shownExecutionSchema, type ShownOutput } from "@/lib/outputs";

/**
 * A session as Markdown: texts as they are, code and what it printed in fences.
 *
 * Pictures are linked where the server has an address for them, else left out with a note, so that the file stays
 * one that a person can read.
 */

/** A notebook's cell with its last run. */
export interface ExportedCell {
  kind: CellKind;
  code: string;
  execution: ShownExecution | undefined;
}

/** Return the absolute address of a path of execute. */
export type Absolute = (path: string) => string;

/** Return a conversation as Markdown. */
export function messagesAsMarkdown(title: string, messages: readonly UIMessage[], absolute: Absolute): string {
  const blocks = messages.flatMap((message) => {
    const parts = message.parts.flatMap((part) => ofPart(part, absolute));
    return parts.length > 0 ? [`## ${message.role === "user" ? "You" : "Caesarion"}`, ...parts] : [];
  });
  return joined([heading(title), ...blocks]);
}

/** Return a notebook's cells as Markdown. */
export function cellsAsMarkdown(title: string, cells: readonly ExportedCell[], absolute: Absolute): string {
  const blocks = cells.flatMap(({ kind, code, execution }) => {
    if (code.trim() === "") return [];
    if (kind === "text") return [code];
    return [fenced(code, "python"), ...(execution ? ofExecution(execution, absolute) : [])];
  });
  return joined([heading(title), ...blocks]);
}

const toolPartSchema = z.looseObject({
  type: z.string(),
  toolName: z.string().optional(),
  input: z.unknown().optional(),
  output: z.unknown().optional(),
  errorText: z.string().optional(),
});
const codeSchema = z.object({ code: z.string() });

function ofPart(part: UIMessage["parts"][number], absolute: Absolute): string[] {
  switch (part.type) {
    case "text":
      return part.text.trim() ? [part.text.trim()] : [];
    case "file":
      return [`*File: ${inline(part.filename ?? part.mediaType)}*`];
    case "source-url":
      return [`Source: ${link(part.title ?? part.url, part.url)}`];
    default:
      return part.type === "dynamic-tool" || part.type.startsWith("tool-") ? ofTool(part, absolute) : [];
  }
}

function ofTool(part: unknown, absolute: Absolute): string[] {
  const parsed = toolPartSchema.safeParse(part);
  if (!parsed.success) return [];
  const { type, toolName, input, output, errorText } = parsed.data;
  const name = toolName ?? type.replace(/^tool-/, "");
  const failure = errorText === undefined ? [] : [`*It failed: ${inline(errorText)}*`];
  const code = codeSchema.safeParse(input);
  if (name === "python" && code.success) {
    const execution = shownExecutionSchema.safeParse(output);
    const outputs = execution.success ? ofExecution(execution.data, absolute) : [];
    return [fenced(code.data.code, "python"), ...outputs, ...failure];
  }
  const given = input === undefined ? [] : [fenced(JSON.stringify(input, undefined, 2), "json")];
  return [`*Used \`${name}\`*`, ...given, ...failure];
}

function ofExecution(execution: ShownExecution, absolute: Absolute): string[] {
  const blocks = execution.outputs.flatMap((output) => ofOutput(output, absolute));
  if (execution.left_out) blocks.push(`*${count(execution.left_out, "output")} left out.*`);
  if (execution.status === "interrupted") blocks.push("*Stopped.*");
  if (execution.status === "timeout") blocks.push("*Stopped: it ran longer than is allowed.*");
  if (execution.status === "died") blocks.push("*The kernel died; variables were lost.*");
  return blocks;
}

function ofOutput(output: ShownOutput, absolute: Absolute): string[] {
  switch (output.type) {
    case "stream": {
      const cut = output.cut_chars ? [`*${count(output.cut_chars, "character")} before this left out.*`] : [];
      return output.text.trim() ? [...cut, fenced(plain(output.text), "text")] : cut;
    }
    case "error": {
      const traceback = plain(output.traceback.join("\n"));
      return [fenced(traceback || `${output.ename}: ${output.evalue}`, "text")];
    }
    case "truncated":
      return [`*${bytes(output.dropped_bytes)} of output left out.*`];
    case "display_data":
    case "execute_result":
      return ofRich(output, absolute);
  }
}

const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"];

function ofRich({ data, urls = {} }: RichOutput, absolute: Absolute): string[] {
  const picture = PICTURES.find((type) => type in urls || type in data);
  if (picture !== undefined) {
    const address = urls[picture];
    if (address !== undefined) return [`![Picture made by the code](<${absolute(address)}>)`];
    return [`*Picture (${picture}) left out.*`];
  }
  const markdown = textOf(data["text/markdown"]) ?? textOf(data["text/latex"]);
  if (markdown !== undefined) return [markdown.trim()];
  const text = textOf(data["text/plain"]);
  if (text !== undefined) return text.trim() ? [fenced(plain(text), "text")] : [];
  const types = [...new Set([...Object.keys(data), ...Object.keys(urls)])];
  return types.length > 0 ? [`*Output (${types.map(inline).join(", ")}) left out.*`] : [];
}

/** Jupyter allows a text to come as a list of its pieces. */
function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return Array.isArray(value) && value.every((piece) => typeof piece === "string") ? value.join("") : undefined;
}

/** A fence that is longer than any in the text. */
function fenced(text: string, language: string): string {
  const longest = Math.max(0, ...Array.from(text.matchAll(/`+/g), ([ticks]) => ticks.length));
  const fence = "`".repeat(Math.max(3, longest + 1));
  return `${fence}${language}\n${text.replace(/\n+$/, "")}\n${fence}`;
}

/** Without the terminal's colours. */
function plain(text: string): string {
  return text.replace(/\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g, "");
}

function inline(text: string): string {
  return text.replace(/\s+/g, " ").replace(/[\\`*_[\]<>]/g, "\\$&");
}

function link(text: string, url: string): string {
  return `[${inline(text)}](<${url.replace(/[<>\s]/g, encodeURIComponent)}>)`;
}

function heading(title: string): string {
  return `# ${inline(title).trim()}`;
}

function joined(blocks: readonly string[]): string {
  return `${blocks.join("\n\n")}\n`;
}
