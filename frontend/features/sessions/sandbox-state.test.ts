import { describe, expect, test } from "vitest";
import { ApiError, unreachable } from "@/lib/api";
import {
  acknowledged,
  type Answer,
  expiresIn,
  lostOf,
  pollAfter,
  sandboxState,
  type Seen,
  seenAfter,
  type SessionDocument,
  sessionDocumentSchema,
  wordsOfSuspended,
} from "./sandbox-state";

const NOW = "2026-03-30T12:00:00.000Z";
const CREATED = "2026-03-30T11:00:00.000Z";
const RESTORED = {
  at: "2026-03-30T11:50:00.000Z",
  lost: [{ context: "default", name: "conn", type: "sqlite3.Connection", reason: "cannot pickle" }],
};
const SEEN: Seen = { created_at: CREATED, generation: 1, acknowledged: 1, gone: false, replaced: false };

function answer(document: Partial<SessionDocument> | undefined): Answer {
  return {
    document: document && { state: "ready", created_at: CREATED, ...document },
    server_ms: Date.parse(NOW),
  };
}

describe("the state that is shown", () => {
  test.each<[string, Answer | undefined, unknown, Seen | null, string]>([
    ["before the first answer", undefined, null, SEEN, "unknown"],
    ["never made", answer(undefined), null, null, "not started"],
    ["was there, and is not any more", answer(undefined), null, { ...SEEN, gone: true }, "gone"],
    ["is being made: what is remembered is ahead of the answer", answer(undefined), null, SEEN, "not started"],
    ["first start", answer({ state: "starting" }), null, null, "starting"],
    ["used just now", answer({ last_activity_at: "2026-03-30T11:59:30Z" }), null, SEEN, "ready"],
    ["not used for a while", answer({ last_activity_at: "2026-03-30T11:58:00Z" }), null, SEEN, "idle"],
    ["ready, and says no more", answer({}), null, SEEN, "ready"],
    ["runs, however long", answer({ state: "busy", last_activity_at: CREATED }), null, SEEN, "busy"],
    ["suspended", answer({ state: "suspended" }), null, SEEN, "suspended"],
    ["server away", answer({}), unreachable(), SEEN, "unreachable"],
    ["proxy says that it is away", undefined, new ApiError("", "http_error", 502), SEEN, "unreachable"],
    ["key refused", undefined, new ApiError("", "unauthorized", 401), SEEN, "unknown"],
  ])("%s", (_, last, failure, seen, state) => {
    expect(sandboxState(last, failure, seen)).toBe(state);
  });
});

describe("what was lost", () => {
  test("the first sandbox of a session has lost nothing", () => {
    const seen = seenAfter(null, answer({ generation: 3 }).document);
    expect(seen).toEqual({ ...SEEN, generation: 3, acknowledged: 3 });
    expect(lostOf(seen)).toBeUndefined();
  });

  test("a kernel that started anew lost the variables, until the user knows", () => {
    const seen = seenAfter(SEEN, answer({ generation: 2 }).document);
    expect(lostOf(seen)).toBe("variables");
    expect(lostOf(seen && acknowledged(seen))).toBeUndefined();
  });

  test("a suspended sandbox does not say its generation, and nothing is forgotten of it", () => {
    expect(seenAfter(SEEN, answer({ state: "suspended", generation: undefined }).document)).toBe(SEEN);
    expect(seenAfter(SEEN, { state: "starting" })).toBe(SEEN);
  });

  test("a generation that is learnt late is where counting begins", () => {
    const first = seenAfter(null, answer({ state: "suspended" }).document);
    const later = seenAfter(first, answer({ generation: 4 }).document);
    expect(lostOf(later)).toBeUndefined();
    expect(lostOf(seenAfter(later, answer({ generation: 5 }).document))).toBe("variables");
  });

  test("a wake-up that could not keep everything is told once, as what it is", () => {
    const woken = seenAfter(SEEN, answer({ generation: 2, restored: RESTORED }).document);
    expect(lostOf(woken)).toBe("some");
    expect(seenAfter(woken, answer({ generation: 2, restored: RESTORED }).document)).toBe(woken);
    const known = woken && acknowledged(woken);
    expect(lostOf(known)).toBeUndefined();
    expect(lostOf(seenAfter(known, answer({ generation: 2, restored: RESTORED }).document))).toBeUndefined();
  });

  test("a wake-up that kept everything is not told", () => {
    const woken = seenAfter(SEEN, answer({ generation: 1, restored: { at: NOW, lost: [] } }).document);
    expect(lostOf(woken)).toBeUndefined();
    expect(lostOf(seenAfter(woken, answer({ generation: 2, restored: { at: NOW, lost: [] } }).document))).toBe(
      "variables",
    );
  });

  test("a kernel that starts anew after a wake-up has lost all, whether the wake-up was seen or not", () => {
    const document = answer({ generation: 3, restored: RESTORED }).document;
    expect(lostOf(seenAfter(SEEN, document))).toBe("variables");
    const woken = seenAfter(SEEN, answer({ generation: 2, restored: RESTORED }).document);
    expect(lostOf(seenAfter(woken, document))).toBe("variables");
    expect(lostOf(seenAfter(woken && acknowledged(woken), document))).toBe("variables");
  });

  test("a wake-up does not hide that the kernel was started anew before it", () => {
    const anew = seenAfter(SEEN, answer({ generation: 2 }).document);
    expect(lostOf(seenAfter(anew, answer({ generation: 3, restored: RESTORED }).document))).toBe("variables");
  });

  test("of two wake-ups in a row the second is told too", () => {
    const first = seenAfter(SEEN, answer({ generation: 2, restored: RESTORED }).document);
    const again = answer({ generation: 3, restored: { ...RESTORED, at: NOW } }).document;
    expect(lostOf(seenAfter(first, again))).toBe("some");
    expect(lostOf(seenAfter(first && acknowledged(first), again))).toBe("some");
  });

  test("a sandbox that was told to be gone is followed by a new one without more words", () => {
    const gone = seenAfter(SEEN, undefined);
    expect(gone).toEqual({ ...SEEN, gone: true });
    expect(lostOf(gone)).toBeUndefined();
    const next = seenAfter(gone, answer({ created_at: NOW, generation: 1 }).document);
    expect(lostOf(next)).toBeUndefined();
  });

  test("a sandbox that was replaced while nobody looked is told with its files", () => {
    const next = seenAfter(SEEN, answer({ created_at: NOW, generation: 1 }).document);
    expect(lostOf(next)).toBe("all");
    expect(lostOf(next && acknowledged(next))).toBeUndefined();
  });
});

test("variables are said to be kept only where the sweep put them away", () => {
  const putAway = sessionDocumentSchema.parse({ state: "suspended", created_at: CREATED, suspended_at: NOW });
  expect(wordsOfSuspended(putAway)).toBe("Put away after a rest; files and variables are kept");
  const ended = sessionDocumentSchema.parse({ state: "suspended", created_at: CREATED });
  expect(wordsOfSuspended(ended)).toBe("Its machine ended; files are kept, variables are gone");
});

test("time left is counted by the server's clock", () => {
  expect(expiresIn(answer({ expires_at: "2026-03-30T12:10:00Z" }))).toBe(600);
  expect(expiresIn(answer({ expires_at: "2026-03-30T11:00:00Z" }))).toBe(0);
  expect(expiresIn(answer({}))).toBeUndefined();
  expect(expiresIn(undefined)).toBeUndefined();
});

test("it is asked often while something changes, seldom while nothing does, and never for what was never made", () => {
  expect(pollAfter("starting", undefined, false)).toBe(1_000);
  expect(pollAfter("busy", undefined, false)).toBe(5_000);
  expect(pollAfter("idle", 1_800, false)).toBe(30_000);
  expect(pollAfter("idle", 9, false)).toBe(10_000);
  expect(pollAfter("suspended", undefined, false)).toBe(30_000);
  expect(pollAfter("not started", undefined, true)).toBe(5_000);
  expect(pollAfter("not started", undefined, false)).toBe(false);
});
