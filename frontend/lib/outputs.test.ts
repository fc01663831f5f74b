import { expect, test } from "vitest";
import {
  begun,
  fold,
  type Folding,
  lightened,
  MAX_ALL_CHARS,
  MAX_OUTPUTS,
  MAX_TEXT_CHARS,
  overwritten,
  shownExecutionSchema,
  type WireOutput,
} from "./outputs";

type Unnumbered = WireOutput extends infer T ? (T extends WireOutput ? Omit<T, "seq"> : never) : never;

function folded(outputs: Unnumbered[], from: Folding = begun("e1")): Folding {
  return outputs.reduce<Folding>(
    (state, output) => fold(state, { ...output, seq: state.after + 1 } as WireOutput),
    from,
  );
}
const said = (text: string, name: "stdout" | "stderr" = "stdout"): Unnumbered => ({ type: "stream", name, text });
const shown = (data: Record<string, unknown>, display_id?: string): Unnumbered => ({
  type: "display_data",
  data,
  display_id,
});

test("an execution is queued, runs, and ends with its count and duration", () => {
  const queued = folded([{ type: "queued", position: 1 }]);
  expect(queued.status).toBe("queued");
  const running = folded([{ type: "started", execution: "e2", context: "default", execution_count: 4 }], queued);
  expect(running).toMatchObject({ execution: "e2", status: "running", execution_count: 4, after: 2 });
  const over = folded([{ type: "finished", status: "timeout", duration_ms: 5 }], running);
  expect(over).toMatchObject({ status: "timeout", execution_count: 4, duration_ms: 5, after: 3 });
});

test("neighbouring texts of one stream are one output that keeps its number while it grows", () => {
  const state = folded([said("a"), said("b"), said("c", "stderr"), said("d")]);
  expect(state.outputs).toMatchObject([
    { text: "ab", seq: 1 },
    { text: "c", name: "stderr", seq: 3 },
    { text: "d", seq: 4 },
  ]);
});

test("a progress bar shows its last state only, also when it comes in pieces", () => {
  expect(folded([said("10%\r20"), said("%\r"), said("30%\ndone")]).outputs).toMatchObject([{ text: "30%\ndone" }]);
  expect(overwritten("", "a\r\nb\r\n")).toBe("a\r\nb\r\n");
});

test("a text keeps its end and says how much is left out", () => {
  const line = `${"x".repeat(99)}\n`;
  const state = folded(Array.from({ length: 50 }, () => said(line.repeat(100))));
  const [text] = state.outputs;
  if (text?.type !== "stream") throw new Error("expected a stream");
  expect(text.text.length).toBeLessThanOrEqual(MAX_TEXT_CHARS);
  expect(text.text.length + (text.cut_chars ?? 0)).toBe(500_000);
  expect(text.text.startsWith("xxx")).toBe(true);
  expect(text.text.split("\n")[0]).toHaveLength(99);
});

test("of very many outputs the middle is left out, and counted", () => {
  const state = folded(Array.from({ length: MAX_OUTPUTS + 50 }, (_, index) => shown({ "text/plain": `${index}` })));
  expect(state.outputs).toHaveLength(MAX_OUTPUTS);
  expect(state.left_out).toBe(50);
  expect(state.outputs[0]).toMatchObject({ data: { "text/plain": "0" } });
  expect(state.outputs.at(-1)).toMatchObject({ data: { "text/plain": `${MAX_OUTPUTS + 49}` } });
});

test("very large outputs do not add up without end, also when they are updated", () => {
  const large = "x".repeat(MAX_ALL_CHARS / 4);
  const state = folded(Array.from({ length: 9 }, () => shown({ "image/png": large })));
  expect(state.outputs).toHaveLength(4);
  expect(state.left_out).toBe(5);
  const updating = folded([shown({ "text/plain": "" }, "d"), shown({ "text/plain": "" }, "d")]);
  const updated = folded(
    [{ type: "update_display_data", data: { "image/png": large.repeat(3) }, display_id: "d" }],
    updating,
  );
  expect(updated.chars).toBeLessThanOrEqual(MAX_ALL_CHARS);
});

test("outputs are cleared at once, or with the next output", () => {
  expect(folded([said("a"), { type: "clear_output", wait: false }]).outputs).toEqual([]);
  const waiting = folded([said("a"), { type: "clear_output", wait: true }]);
  expect(waiting.outputs).toHaveLength(1);
  expect(folded([said("b")], waiting).outputs).toMatchObject([{ text: "b" }]);
});

test("a display is updated wherever it is shown, others stay", () => {
  const state = folded([
    shown({ "text/plain": "1" }, "d"),
    shown({ "text/plain": "other" }),
    shown({ "text/plain": "1" }, "d"),
    { type: "update_display_data", data: { "text/plain": "2" }, display_id: "d" },
    { type: "update_display_data", data: { "text/plain": "3" } },
  ]);
  expect(state.outputs).toMatchObject([
    { data: { "text/plain": "2" } },
    { data: { "text/plain": "other" } },
    { data: { "text/plain": "2" } },
  ]);
});

test("what is kept in the browser has the address of each large form in place of it", () => {
  const state = folded([shown({ "text/plain": "plot", "image/png": "x".repeat(200) }), said("text")]);
  const kept = lightened(state, "s1", 100);
  expect(kept.outputs[0]).toMatchObject({
    data: { "text/plain": "plot" },
    urls: { "image/png": "/sessions/s1/executions/e1/outputs/1?form=image%2Fpng" },
  });
  expect(Object.keys(kept)).not.toContain("after");
  expect(shownExecutionSchema.parse(kept).outputs).toHaveLength(2);
});

test("an output of a type that this page does not know is left out, the others stay", () => {
  const kept = {
    execution: "e",
    status: "ok",
    outputs: [
      { type: "hologram", seq: 1 },
      { ...said("a"), seq: 2 },
    ],
  };
  expect(shownExecutionSchema.parse(kept).outputs).toMatchObject([{ text: "a" }]);
});

test("a run of carriage returns of any length is no work", () => {
  expect(overwritten("1%", "\r".repeat(1_000_000) + "2%")).toBe("2%");
  expect(overwritten("1%", "\r".repeat(1_000_000))).toBe("1%" + "\r".repeat(1_000_000));
  expect(overwritten("", "\r")).toBe("\r");
});
