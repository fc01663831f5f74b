import { z } from "./zod";

/**
 * What an execution shows, in Jupyter's words.
 *
 * Two sources give the same shape: the chat's `python` tool output (already folded by the server) and the lines that
 * execute streams, which `fold` takes one by one.
 */
const mimeBundle = z.record(z.string(), z.unknown());

const errorSchema = z.object({
  type: z.literal("error"),
  seq: z.number(),
  ename: z.string(),
  evalue: z.string(),
  traceback: z.array(z.string()),
});
const truncatedSchema = z.object({ type: z.literal("truncated"), seq: z.number(), dropped_bytes: z.number() });

export const shownOutputSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("stream"),
    seq: z.number(),
    name: z.enum(["stdout", "stderr"]),
    text: z.string(),
    cut_chars: z.number().optional(),
  }),
  z.object({
    type: z.enum(["display_data", "execute_result"]),
    seq: z.number(),
    data: mimeBundle,
    /** Addresses of forms that are too large to come along, by media type; paths of the execute function. */
    urls: z.record(z.string(), z.string()).optional(),
    metadata: mimeBundle.optional(),
    display_id: z.string().optional(),
  }),
  errorSchema,
  truncatedSchema,
]);

export type ShownOutput = z.infer<typeof shownOutputSchema>;
export type RichOutput = Extract<ShownOutput, { data: unknown }>;

export const executionStatuses = ["queued", "running", "ok", "error", "interrupted", "timeout", "died"] as const;
export type ExecutionStatus = (typeof executionStatuses)[number];

export const shownExecutionSchema = z.object({
  execution: z.string(),
  status: z.enum(executionStatuses),
  execution_count: z.number().optional(),
  duration_ms: z.number().optional(),
  outputs: z.array(z.unknown()).transform((items) => items.flatMap(knownOutput)),
  /** How many outputs were left out of the middle. */
  left_out: z.number().optional(),
});

export type ShownExecution = z.infer<typeof shownExecutionSchema>;

/** An output of a type that this page does not know is left out rather than ending the turn. */
function knownOutput(item: unknown): ShownOutput[] {
  const parsed = shownOutputSchema.safeParse(item);
  return parsed.success ? [parsed.data] : [];
}

export function isOver(status: ExecutionStatus): boolean {
  return status !== "queued" && status !== "running";
}

/** One line of execute's stream. */
export const wireOutputSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("queued"), seq: z.number(), position: z.number() }),
  z.object({
    type: z.literal("started"),
    seq: z.number(),
    execution: z.string(),
    context: z.string(),
    execution_count: z.number().optional(),
  }),
  z.object({ type: z.literal("stream"), seq: z.number(), name: z.enum(["stdout", "stderr"]), text: z.string() }),
  z.object({
    type: z.enum(["display_data", "execute_result", "update_display_data"]),
    seq: z.number(),
    data: mimeBundle,
    metadata: mimeBundle.optional(),
    display_id: z.string().optional(),
  }),
  z.object({ type: z.literal("clear_output"), seq: z.number(), wait: z.boolean() }),
  errorSchema,
  truncatedSchema,
  z.object({
    type: z.literal("finished"),
    seq: z.number(),
    status: z.enum(["ok", "error", "interrupted", "timeout", "died"]),
    execution_count: z.number().optional(),
    duration_ms: z.number().optional(),
  }),
]);

export type WireOutput = z.infer<typeof wireOutputSchema>;

/** A `ShownExecution` that is being built; `clearNext` is set by `clear_output(wait=True)`. */
export interface Folding extends ShownExecution {
  clearNext: boolean;
  /** The last sequence number seen, for resuming. */
  after: number;
  /** How much all outputs hold together. */
  chars: number;
}

export const MAX_TEXT_CHARS = 200_000;
export const MAX_OUTPUTS = 1_000;
/** More than a server keeps of one execution by default: a bound for those that keep more. */
export const MAX_ALL_CHARS = 50_000_000;
/** A text that is full loses a piece at a time, so that many small prints do not copy all of it each. */
const CUT_CHARS = 20_000;

export function begun(execution: string): Folding {
  return { execution, status: "queued", outputs: [], clearNext: false, after: 0, chars: 0 };
}

/** Return the state after one more output. The state given is left as it is. */
export function fold(state: Folding, output: WireOutput): Folding {
  const next = { ...state, after: Math.max(state.after, output.seq) };
  switch (output.type) {
    case "queued":
      return { ...next, status: "queued" };
    case "started":
      return { ...next, status: "running", execution: output.execution, execution_count: output.execution_count };
    case "finished":
      return {
        ...next,
        status: output.status,
        duration_ms: output.duration_ms,
        execution_count: output.execution_count ?? state.execution_count,
      };
    case "clear_output":
      return output.wait ? { ...next, clearNext: true } : cleared(next);
    case "update_display_data":
      return updated(next, output);
    case "stream":
      return pushed(next, { ...output, ...kept(overwritten("", output.text)) });
    case "display_data":
    case "execute_result":
      return pushed(next, { ...output, type: output.type });
    case "error":
    case "truncated":
      return pushed(next, output);
  }
}

function cleared(state: Folding): Folding {
  return { ...state, clearNext: false, outputs: [], left_out: undefined, chars: 0 };
}

function updated(state: Folding, output: Extract<WireOutput, { data: unknown }>): Folding {
  if (output.display_id === undefined) return state;
  const { data, metadata, seq } = output;
  const outputs = state.outputs.map((shown) =>
    "data" in shown && shown.display_id === output.display_id ? { ...shown, data, metadata, seq } : shown,
  );
  return fitting({ ...state, outputs, chars: outputs.reduce((sum, shown) => sum + charsOf(shown), 0) });
}

function pushed(before: Folding, output: ShownOutput): Folding {
  const state = before.clearNext ? cleared(before) : before;
  const last = state.outputs.at(-1);
  if (output.type === "stream" && last?.type === "stream" && last.name === output.name) {
    const { text, cut_chars: cut = 0 } = kept(overwritten(last.text, output.text));
    const cut_chars = (last.cut_chars ?? 0) + (output.cut_chars ?? 0) + cut || undefined;
    const chars = state.chars - last.text.length + text.length;
    return fitting({ ...state, chars, outputs: [...state.outputs.slice(0, -1), { ...last, text, cut_chars }] });
  }
  return fitting({ ...state, outputs: [...state.outputs, output], chars: state.chars + charsOf(output) });
}

/** Leave out outputs of the middle while there are too many or they hold too much: the first and the last tell most. */
function fitting(state: Folding): Folding {
  const outputs = [...state.outputs];
  let { chars, left_out = 0 } = state;
  while (outputs.length > MAX_OUTPUTS || (chars > MAX_ALL_CHARS && outputs.length > 1)) {
    const [dropped] = outputs.splice(Math.floor((outputs.length - 1) / 2), 1);
    chars -= dropped === undefined ? 0 : charsOf(dropped);
    left_out += 1;
  }
  return left_out === (state.left_out ?? 0) ? state : { ...state, outputs, chars, left_out };
}

function charsOf(output: ShownOutput): number {
  switch (output.type) {
    case "stream":
      return output.text.length;
    case "display_data":
    case "execute_result":
      return [...Object.values(output.data), output.metadata].reduce<number>((sum, form) => sum + formChars(form), 0);
    case "error":
      return output.traceback.reduce((sum, line) => sum + line.length, output.evalue.length);
    case "truncated":
      return 0;
  }
}

function formChars(form: unknown): number {
  if (typeof form === "string") return form.length;
  return form === undefined ? 0 : JSON.stringify(form).length;
}

function kept(text: string): { text: string; cut_chars?: number } {
  if (text.length <= MAX_TEXT_CHARS) return { text };
  const least = text.length - MAX_TEXT_CHARS + CUT_CHARS;
  const newline = text.indexOf("\n", least);
  const cut = newline >= 0 && newline < least + 1_000 ? newline + 1 : least;
  return { text: text.slice(cut), cut_chars: cut };
}

/**
 * Return the execution with every form over `maxChars` replaced by its address, for keeping it where room is small.
 *
 * The addresses are those of execute, and last as long as the session keeps the outputs.
 */
export function lightened(execution: ShownExecution, session: string, maxChars: number): ShownExecution {
  const { status, execution_count, duration_ms, left_out } = execution;
  const outputs = execution.outputs.map((output) => {
    if (!("data" in output)) return output;
    const large = Object.keys(output.data).filter((type) => formChars(output.data[type]) > maxChars);
    if (large.length === 0) return output;
    const at = `/sessions/${session}/executions/${execution.execution}/outputs/${output.seq}`;
    const urls = Object.fromEntries(large.map((type) => [type, `${at}?form=${encodeURIComponent(type)}`]));
    const data = Object.fromEntries(Object.entries(output.data).filter(([type]) => !large.includes(type)));
    return { ...output, data, urls: { ...output.urls, ...urls } };
  });
  return { execution: execution.execution, status, execution_count, duration_ms, left_out, outputs };
}

/** Return both texts joined, of each new line only what follows the last carriage return that something follows. */
export function overwritten(before: string, text: string): string {
  if (!text.includes("\r") && !before.endsWith("\r")) return before + text;
  const start = before.lastIndexOf("\n") + 1;
  const lines = (before.slice(start) + text).split("\n");
  return before.slice(0, start) + lines.map(lastWritten).join("\n");
}

/** What follows the last carriage return that something follows. No pattern: `/\r+$/` is quadratic in a run of them. */
function lastWritten(line: string): string {
  let end = line.length;
  while (end > 0 && line[end - 1] === "\r") end -= 1;
  return end === 0 ? line : line.slice(line.lastIndexOf("\r", end - 1) + 1);
}
