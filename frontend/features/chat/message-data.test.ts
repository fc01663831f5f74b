import type { UIMessage } from "ai";
import { expect, test } from "vitest";
import { amountOf, drawnFrom, isOpen, markdownOf, metadataOf, reconciled, textOf, withHeld } from "./message-data";

const execution = {
  execution: "e1",
  status: "ok",
  outputs: [
    { type: "stream", seq: 1, name: "stdout", text: "\u001b[31mred\u001b[0m\n" },
    { type: "execute_result", seq: 2, data: { "text/plain": "42" } },
  ],
};

function answer(text: string, metadata: object = {}): UIMessage {
  return { id: "t1", role: "assistant", metadata, parts: [{ type: "text", text }] };
}

test("a copied answer has its words, its code and what that printed, as Markdown", () => {
  const message: UIMessage = {
    id: "t1",
    role: "assistant",
    parts: [
      { type: "step-start" },
      { type: "reasoning", text: "hm" },
      { type: "text", text: "Let me see." },
      { type: "tool-python", toolCallId: "c", state: "output-available", input: { code: "x" }, output: execution },
    ],
  };
  expect(textOf(message)).toBe("Let me see.");
  expect(markdownOf(message)).toBe("Let me see.\n\n```python\nx\n```\n\n```text\nred\n\n42\n```");
});

test("code with a fence in it gets a longer one", () => {
  const part = { type: "tool-python", toolCallId: "c", state: "input-available", input: { code: "'```'" } } as const;
  expect(markdownOf({ id: "t", role: "assistant", parts: [part] })).toBe("````python\n'```'\n````");
});

test("what is kept with a message may have any shape", () => {
  expect(metadataOf({ ...answer("a"), metadata: { ended: 7 } })).toEqual({});
  expect(isOpen(answer("a", { ended: "nonsense" }))).toBe(true);
  expect(isOpen(answer("a", { ended: "stopped" }))).toBe(false);
  expect(isOpen(undefined)).toBe(false);
});

test("an answer that is replayed stays as it was until the replay has caught up", () => {
  const held = answer("hello world");
  const replayed = answer("hello");
  expect(amountOf(replayed)).toBeLessThan(amountOf(held));
  expect(withHeld([replayed], held)).toEqual([held]);
  const further = [answer("hello world, again")];
  expect(withHeld(further, held)).toBe(further);
  const ended = [answer("hello", { ended: "stopped" })];
  expect(withHeld(ended, held)).toBe(ended);
});

test("messages of another tab keep those that are the same, and whole answers over those under way", () => {
  const [same, whole] = [
    answer("same", { ended: "finished" }),
    { ...answer("whole", { ended: "finished" }), id: "t2" },
  ];
  const next = reconciled([same, whole], [structuredClone(same), { ...answer("wh"), id: "t2" }, answer("new")]);
  expect(next[0]).toBe(same);
  expect(next[1]).toBe(whole);
  expect(next).toHaveLength(3);
});

test("of a long conversation only the newest messages are drawn at first, the last one always", () => {
  const messages = Array.from({ length: 100 }, (_, i) => ({ ...answer("a"), id: `t${i}` }));
  expect(drawnFrom(messages, 10)).toBe(90);
  expect(drawnFrom(messages, 500)).toBe(0);
  expect(drawnFrom(messages, 0)).toBe(99);
  expect(drawnFrom([], 10)).toBe(0);
});
