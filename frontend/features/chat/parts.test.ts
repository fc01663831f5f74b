import { expect, test } from "vitest";
import { takenBack } from "./drafts";
import type { Part } from "./message-data";
import { lineFor, settled, shownPart } from "./parts";
import { Spoken, spokenFor } from "./spoken";

test("code is shown while the model still writes it", () => {
  const part: Part = { type: "tool-python", toolCallId: "c", state: "input-streaming", input: { code: "impo" } };
  expect(shownPart(part)).toMatchObject({ kind: "code", code: "impo", writing: true, output: undefined });
});

test("parts that this page does not know have a quiet line", () => {
  expect(shownPart({ type: "data-weird", data: 1 })).toEqual({ kind: "unknown", name: "data-weird" });
  expect(shownPart({ type: "data-notice", data: { words: "?" } })).toMatchObject({ kind: "unknown" });
  expect(shownPart({ type: "data-notice", data: { text: "Left out." } })).toEqual({
    kind: "notice",
    text: "Left out.",
  });
});

test("what still ran when its turn ended runs no more", () => {
  const running = { execution: "e", status: "running" as const, outputs: [] };
  expect(settled(running, true).status).toBe("interrupted");
  expect(settled(running, false)).toBe(running);
});

test("steps are named in words", () => {
  expect(lineFor("list_files", {}, { files: [1, 2] }, false)).toBe("Looked at 2 files");
  expect(lineFor("read_file", { path: "/uploaded_files/a.csv" }, undefined, true)).toBe("Reading a.csv");
  const output = { place: { name: "Berlin" }, current: { temperature_c: 12.5, sky: "clear" } };
  expect(lineFor("get_weather", { place: "berlin" }, output, false)).toBe("Weather in Berlin: 12.5 °C, clear");
  expect(lineFor("other", {}, undefined, false)).toBe("Used other");
});

test("finished parts are spoken, what is under way is not", () => {
  const outputs = [{ type: "display_data", seq: 1, data: {}, urls: { "image/png": "/x" } }];
  const output = { execution: "e", status: "ok", duration_ms: 1200, outputs };
  const chunk = { type: "tool-output-available", toolCallId: "c", output } as const;
  expect(spokenFor(chunk)).toBe("Code finished in 1.2 s. Picture shown");
  expect(spokenFor({ ...chunk, preliminary: true })).toBeUndefined();
  expect(spokenFor({ type: "text-delta", id: "p", delta: "a" })).toBeUndefined();
  expect(spokenFor({ type: "abort" })).toBe("Stopped");
});

test("a replay speaks of no step twice, nor of those that were kept", () => {
  const output = { execution: "e", status: "ok", outputs: [] };
  const chunk = { type: "tool-output-available", toolCallId: "c", output } as const;
  const spoken = new Spoken();
  expect(spoken.next({ ...chunk, preliminary: true })).toBeUndefined();
  expect(spoken.next(chunk)).toBe("Code finished");
  expect(spoken.next(chunk)).toBeUndefined();
  const part = { type: "tool-python", toolCallId: "d", state: "output-available", input: {}, output } as const;
  spoken.remember([{ id: "a", role: "assistant", parts: [part] }]);
  expect(spoken.next({ ...chunk, toolCallId: "d" })).toBeUndefined();
  expect(spoken.next({ type: "abort" })).toBe("Stopped");
});

test("a text that was refused comes back before what was typed since", () => {
  expect(takenBack("first", "")).toBe("first");
  expect(takenBack("first", "second")).toBe("first\n\nsecond");
});
