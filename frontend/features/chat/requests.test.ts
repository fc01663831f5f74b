import type { UIMessage } from "ai";
import { expect, test } from "vitest";
import { requestBody } from "./requests";

function said(id: string, role: "user" | "assistant", text: string): UIMessage {
  return { id, role, parts: [{ type: "text", text }] };
}

const base = { id: "s_1", trigger: "submit-message", messageId: undefined } as const;

test("the last user message is asked, with the texts of those before it and nothing of their tools", () => {
  const answer: UIMessage = {
    id: "a1",
    role: "assistant",
    metadata: { turn: "t1" },
    parts: [
      { type: "text", text: "It is 2." },
      { type: "tool-python", toolCallId: "c1", state: "output-available", input: { code: "1 + 1" }, output: {} },
    ],
  };
  const messages = [said("u1", "user", "1 + 1?"), answer, said("u2", "user", "And 2 + 2?")];
  expect(requestBody({ ...base, messages })).toEqual({
    id: "s_1",
    trigger: "submit-message",
    messages: [said("u1", "user", "1 + 1?"), said("a1", "assistant", "It is 2."), said("u2", "user", "And 2 + 2?")],
  });
});

test("an edit names the message that it is about", () => {
  const body = requestBody({ ...base, messages: [said("u1", "user", "new")], messageId: "u1" });
  expect(body).toMatchObject({ messageId: "u1", messages: [{ id: "u1" }] });
});

test("of a long conversation the newest texts come along", () => {
  const long = Array.from({ length: 100 }, (_, i) => said(`u${i}`, "user", "x".repeat(5_000)));
  const body = JSON.stringify(requestBody({ ...base, messages: [...long, said("last", "user", "hello")] }));
  expect(body.length).toBeLessThan(70_000);
  expect(body).toContain('"u99"');
  expect(body).not.toContain('"u0"');
});
