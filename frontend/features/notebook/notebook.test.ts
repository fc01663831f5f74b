import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { loadPart, savePart } from "@/features/sessions/store";
import { Notebook } from "./notebook";

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

const KEPT = { cells: [{ id: "c1", kind: "python", code: "1 + 1" }] };

beforeEach(() => {
  broken.reads = 0;
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => vi.useRealTimers());

test("a notebook that cannot be read says so, keeps nothing over it, and is shown once it can", async () => {
  await savePart("s1", "cells", KEPT);
  broken.reads = 4;
  const notebook = new Notebook("s1");
  notebook.subscribe(() => undefined);
  await vi.waitFor(() => expect(notebook.snapshot().problem).toContain("cannot be read"));
  notebook.add("below");
  notebook.flush();
  expect(notebook.snapshot()).toMatchObject({ loaded: false, cells: [] });
  await vi.advanceTimersByTimeAsync(4_000);
  expect(notebook.snapshot()).toMatchObject({ loaded: true, problem: undefined, cells: KEPT.cells });
  expect(await loadPart("s1", "cells")).toEqual(KEPT);
  notebook.forget();
});

test("a notebook that cannot be read again when another tab has kept it stays as it is shown", async () => {
  await savePart("s2", "cells", KEPT);
  const notebook = new Notebook("s2");
  notebook.subscribe(() => undefined);
  await vi.waitFor(() => expect(notebook.snapshot().loaded).toBe(true));
  broken.reads = 2;
  const tab = new BroadcastChannel("caesarion");
  tab.postMessage({ type: "saved", id: "s2", name: "cells" });
  await vi.waitFor(() => expect(broken.reads).toBe(0));
  tab.close();
  expect(notebook.snapshot().cells).toMatchObject(KEPT.cells);
  notebook.forget();
});
