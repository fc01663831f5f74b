import type { UIMessage } from "ai";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { loadMessages, saveMessages } from "@/features/sessions/store";
import { Conversation } from "./conversation";

/** How many of the next reads of this browser's storage fail. */
const broken = vi.hoisted(() => ({ reads: 0 }));
vi.mock("@/features/sessions/kept", async (original) => {
  const kept = await original<typeof import("@/features/sessions/kept")>();
  const read: typeof kept.read = async (place, key) => {
    if (broken.reads-- > 0) throw new DOMException("Internal error", "UnknownError");
    return kept.read(place, key);
  };
  return { ...kept, read };
});

const KEPT: UIMessage[] = [
  { id: "u", role: "user", parts: [{ type: "text", text: "Hello" }] },
  { id: "a", role: "assistant", parts: [{ type: "text", text: "Hi" }], metadata: { ended: "finished" } },
];

beforeEach(() => {
  broken.reads = 0;
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => vi.useRealTimers());

test("a chat that cannot be read says so, takes no message that would replace it, and is shown once it can", async () => {
  await saveMessages("s1", KEPT);
  broken.reads = 4;
  const conversation = new Conversation("s1");
  const opened = conversation.open();
  await vi.waitFor(() => expect(conversation.state.getState().failure?.text).toContain("cannot be read"));
  expect(conversation.state.getState().loaded).toBe(false);
  await conversation.send("New");
  expect(conversation.state.getState().returned).toEqual({ text: "New" });
  await vi.advanceTimersByTimeAsync(4_000);
  await opened;
  expect(conversation.state.getState()).toMatchObject({ loaded: true, failure: undefined });
  expect(conversation.chat.messages).toEqual(KEPT);
  expect(await loadMessages("s1")).toEqual(KEPT);
  conversation.close();
});

test("a chat that cannot be read again when another tab has kept it stays as it is shown", async () => {
  await saveMessages("s2", KEPT);
  const conversation = new Conversation("s2");
  await conversation.open();
  broken.reads = 2;
  const tab = new BroadcastChannel("caesarion");
  tab.postMessage({ type: "saved", id: "s2", name: "messages" });
  await vi.waitFor(() => expect(broken.reads).toBe(0));
  tab.close();
  expect(conversation.chat.messages).toEqual(KEPT);
  expect(await loadMessages("s2")).toEqual(KEPT);
  conversation.close();
});
