import { TypeValidationError, type UIMessageChunk } from "ai";
import { expect, test } from "vitest";
import { backoffMs, Cut, watched, withoutSilence } from "./streams";

function streamOf(chunks: UIMessageChunk[], error?: Error): ReadableStream<UIMessageChunk> {
  const left = [...chunks];
  return new ReadableStream({
    pull(controller) {
      const next = left.shift();
      if (next !== undefined) controller.enqueue(next);
      else if (error !== undefined) controller.error(error);
      else controller.close();
    },
  });
}

async function read<T>(stream: ReadableStream<T>): Promise<T[]> {
  const read: T[] = [];
  for (const reader = stream.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return read;
    read.push(value);
  }
}

const ignore = (): void => undefined;
const start: UIMessageChunk = { type: "start", messageId: "t1" };

test("a turn that came to its end says so in its message", async () => {
  const chunks = await read(watched(streamOf([start, { type: "finish", finishReason: "stop" }]), ignore));
  expect(chunks).toContainEqual({
    type: "message-metadata",
    messageMetadata: { ended: "finished", finish_reason: "stop" },
  });
});

test("a turn that failed ends with its words in the message, not with an error of the stream", async () => {
  const chunks = await read(watched(streamOf([start, { type: "error", errorText: "No key." }]), ignore));
  expect(chunks).toContainEqual({ type: "message-metadata", messageMetadata: { ended: "failed", failure: "No key." } });
  expect(chunks.map(({ type }) => type)).not.toContain("error");
});

test("an end without a last chunk is a cut, and so is a connection that breaks", async () => {
  await expect(read(watched(streamOf([start]), ignore))).rejects.toBeInstanceOf(Cut);
  await expect(read(watched(streamOf([start], new TypeError("network error")), ignore))).rejects.toBeInstanceOf(Cut);
});

test("a connection that breaks after the last chunk is no cut", async () => {
  const chunks = watched(streamOf([start, { type: "abort" }], new TypeError("network error")), ignore);
  expect((await read(chunks)).at(-1)).toEqual({ type: "abort" });
});

test("a chunk of a shape that the page does not know is not followed again", async () => {
  const wrong = new TypeValidationError({ value: {}, cause: undefined });
  await expect(read(watched(streamOf([start], wrong), ignore))).rejects.toBe(wrong);
});

test("a body that falls silent is a cut", async () => {
  const silent = new ReadableStream<Uint8Array>({ start: (controller) => controller.enqueue(new Uint8Array([1])) });
  await expect(read(withoutSilence(silent, 5))).rejects.toBeInstanceOf(Cut);
});

test("waits grow up to a limit", () => {
  expect(backoffMs(0, 0)).toBe(200);
  expect(backoffMs(0, 1)).toBe(400);
  expect(backoffMs(3, 1)).toBe(3_200);
  expect(backoffMs(40, 1)).toBe(15_000);
});
