import type { UIMessage } from "ai";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

/** A page of its own: nothing is read yet, and there is no IndexedDB, as in a private window. */
async function page() {
  vi.resetModules();
  const store = await import("./store");
  const { storageProblem } = await import("./kept");
  const list = store.currentSessions;
  await vi.waitFor(() => expect(list().sessions).toBeDefined());
  const titleOf = (id: string): string | undefined => list().sessions?.find((session) => session.id === id)?.title;
  return { ...store, storageProblem, list, titleOf, ids: () => list().sessions?.map(({ id }) => id) };
}

const replies: Response[] = [];
let asked: string[] = [];

beforeEach(() => {
  asked = [];
  replies.length = 0;
  vi.stubGlobal("fetch", async (input: RequestInfo | URL, init?: RequestInit) => {
    const path = String(input);
    if (path.endsWith("/config.json")) return Response.json({});
    asked.push(`${init?.method ?? "GET"} ${path}`);
    const reply = replies.shift();
    if (reply === undefined) throw new TypeError("no network");
    return reply;
  });
});
afterEach(() => vi.unstubAllGlobals());

const HELLO: UIMessage = { id: "m", role: "user", parts: [{ type: "text", text: "Hello" }] };

test("where the browser keeps nothing the page works all the same, and says so", async () => {
  const { saveMessages, loadMessages, storageProblem } = await page();
  await saveMessages("s1", [HELLO]);
  expect(await loadMessages("s1")).toEqual([HELLO]);
  expect(storageProblem()).toBe("refused");
});

test("a session is called after its first message, once", async () => {
  const { list, titleOf } = await page();
  const { id } = list().create("chat");
  expect(titleOf(id)).toBe("New chat");
  list().touch(id, "Plot the sales\nof May");
  expect(titleOf(id)).toBe("Plot the sales of May");
  list().touch(id, "And June");
  expect(titleOf(id)).toBe("Plot the sales of May");
  list().rename(id, "  Sales ");
  list().rename(id, "  ");
  expect(titleOf(id)).toBe("Sales");
});

test("the session that was used last is the first, also one that comes by a link", async () => {
  const { list, ids } = await page();
  vi.useFakeTimers({ toFake: ["Date"], now: new Date("2026-01-01T00:00:00Z") });
  try {
    const a = list().create("chat").id;
    vi.setSystemTime(new Date("2026-01-01T00:00:01Z"));
    const b = list().create("notebook", "Cells").id;
    expect(ids()).toEqual([b, a]);
    vi.setSystemTime(new Date("2026-01-01T00:00:02Z"));
    list().touch(a);
    vi.setSystemTime(new Date("2026-01-01T00:00:03Z"));
    list().touch("linked", "Hi");
    expect(ids()).toEqual(["linked", a, b]);
  } finally {
    vi.useRealTimers();
  }
});

test("a deleted session is gone with all that was kept, and closed on the server", async () => {
  const { list, ids, saveMessages, savePart, loadMessages, loadPart, onRemoved } = await page();
  const { id } = list().create("chat");
  await saveMessages(id, [HELLO]);
  await savePart(id, "cells", [1]);
  await savePart(`${id}x`, "cells", [2]);
  const heard: string[] = [];
  onRemoved((gone) => heard.push(gone));
  replies.push(new Response(null, { status: 404 }));
  await list().remove(id);
  expect(asked).toEqual([`DELETE /sessions/${id}`]);
  expect(ids()).toEqual([]);
  expect(heard).toEqual([id]);
  await saveMessages(id, [HELLO]); // a stream that still runs
  expect(await loadMessages(id)).toEqual([]);
  expect(await loadPart(id, "cells")).toBeUndefined();
  expect(await loadPart(`${id}x`, "cells")).toEqual([2]);
});

test("a session that could not be closed on the server is gone here, and the user is told", async () => {
  const { list, ids } = await page();
  const { id } = list().create("chat");
  await expect(list().remove(id)).rejects.toThrow("cannot be reached");
  expect(ids()).toEqual([]);
});

test("a message that was kept in another shape is left out, and the others are shown", async () => {
  const { savePart, loadMessages } = await page();
  await savePart("s1", "messages", [HELLO, null, { id: "x" }, { ...HELLO, parts: [{}] }, { ...HELLO, role: "odd" }]);
  expect(await loadMessages("s1")).toEqual([HELLO]);
  await savePart("s1", "messages", "odd");
  expect(await loadMessages("s1")).toEqual([]);
});

test("of saves that come quickly the last one wins", async () => {
  const { savePart, loadPart } = await page();
  const saves = [1, 2, 3, 4].map((value) => savePart("s1", "cells", value));
  expect(await loadPart("s1", "cells")).toBe(4);
  await Promise.all(saves);
  window.dispatchEvent(new Event("pagehide"));
  expect(await loadPart("s1", "cells")).toBe(4);
});
