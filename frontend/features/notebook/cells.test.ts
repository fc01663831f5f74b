import { expect, test } from "vitest";
import { besides, changed, emptyCell, inserted, moved, parsedCells, restored, runnable, without } from "./cells";

const cells = ["a", "b", "c"].map((id) => ({ id, kind: "python" as const, code: `code ${id}` }));
const ids = (list: readonly { id: string }[]): string => list.map(({ id }) => id).join("");

test("a cell goes above or below the one it is added beside, and to the end when that is gone", () => {
  const cell = { ...emptyCell(), id: "x" };
  expect(ids(inserted(cells, cell, "above", "b"))).toBe("axbc");
  expect(ids(inserted(cells, cell, "below", "b"))).toBe("abxc");
  expect(ids(inserted(cells, cell, "above", "gone"))).toBe("abcx");
  expect(ids(inserted(cells, cell, "below", undefined))).toBe("abcx");
});

test("a deleted cell comes back where it was, also when the others have changed", () => {
  const deleted = { cell: { id: "b", kind: "python" as const, code: "code b" }, index: 1 };
  expect(ids(restored(without(cells, "b"), deleted))).toBe("abc");
  expect(ids(restored(cells, deleted))).toBe("abc");
  expect(ids(restored([cells[0] ?? emptyCell()], { ...deleted, index: 7 }))).toBe("ab");
});

test("a notebook always has a cell, and the one that stands in goes when the deleted one comes back", () => {
  const only = cells.slice(0, 1);
  const left = without(only, "a");
  expect(left).toMatchObject([{ kind: "python", code: "" }]);
  expect(ids(restored(left, { cell: cells[0] ?? emptyCell(), index: 0 }))).toBe("a");
});

test("cells move, at most to an end", () => {
  expect(ids(moved(cells, "a", 1))).toBe("bac");
  expect(ids(moved(cells, "c", -1))).toBe("acb");
  expect(ids(moved(cells, "a", -1))).toBe("abc");
  expect(ids(moved(cells, "b", 9))).toBe("acb");
  expect(ids(moved(cells, "gone", 1))).toBe("abc");
});

test("the focus goes to the next cell when one is deleted, or to the one before", () => {
  expect(besides(cells, "b")).toBe("c");
  expect(besides(cells, "c")).toBe("b");
  expect(besides(cells.slice(0, 1), "a")).toBeUndefined();
});

test("only cells of Python with code are run, in order, all or those above", () => {
  const mixed = changed(changed(cells, "a", { kind: "text" }), "b", { code: "  \n" });
  expect(ids(runnable(mixed))).toBe("c");
  expect(ids(runnable(cells, "c"))).toBe("ab");
  expect(ids(runnable(cells, "gone"))).toBe("");
});

test("what another version of the page kept is taken as far as it is understood", () => {
  expect(ids(parsedCells({ cells: [cells[0], { id: 1 }, null, cells[0], cells[2]] }))).toBe("ac");
  expect(parsedCells("nonsense")).toMatchObject([{ kind: "python", code: "" }]);
  expect(parsedCells(undefined)).toHaveLength(1);
});
