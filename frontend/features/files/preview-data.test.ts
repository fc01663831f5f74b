import { expect, it } from "vitest";
import { MAX_COLUMNS, MAX_ROWS, shownTable } from "./preview-data";
import { languageOf, previewKind } from "./preview-kind";

function lines(count: number): string {
  return `name,amount\n${Array.from({ length: count }, (_, at) => `n${at},${at}\n`).join("")}`;
}

it("shows all of a small table", () => {
  const { head, rows, words } = shownTable({ text: "name;amount\na;1\nb\n", cut: false }, "a.csv");
  expect(head).toEqual(["name", "amount"]);
  expect(rows).toEqual([
    ["a", "1"],
    ["b", ""],
  ]);
  expect(words).toBe("2 rows, 2 columns.");
});

it.each([
  [MAX_ROWS, false, "200 rows, 2 columns."],
  [MAX_ROWS + 1, false, "The first 200 rows, 2 columns. Download the file to see the rest."],
  [20, true, "The first 20 rows, 2 columns. Download the file to see the rest."],
  [1, false, "1 row, 2 columns."],
])("says how much of a table of %i rows is shown, cut off: %s", (count, cut, words) => {
  expect(shownTable({ text: lines(count), cut }, "a.csv").words).toBe(words);
});

it("shows the first columns of a wide table and the beginning of a long cell", () => {
  const text = `${Array.from({ length: 100 }, (_, at) => `c${at}`).join(",")}\n${"x".repeat(1000)}`;
  const { head, rows, words } = shownTable({ text, cut: false }, "a.csv");
  expect(head).toHaveLength(MAX_COLUMNS);
  expect(rows[0]?.[0]).toHaveLength(301);
  expect(words).toBe("1 row, 100 columns. The first 60 columns are shown.");
});

it("splits a .tsv at tabs whatever else it holds", () => {
  expect(shownTable({ text: "a,b,c\td\n", cut: false }, "A.TSV").head).toEqual(["a,b,c", "d"]);
});

it.each([
  ["a.csv", "text/csv", "table", undefined],
  ["plots/A.PNG", "image/png", "picture", undefined],
  ["run.py", "text/x-python", "text", "python"],
  ["a.json", "application/json", "text", "json"],
  ["notes", "text/plain", "text", undefined],
  ["x.parquet", "application/vnd.apache.parquet", "none", undefined],
  [".csv", "application/octet-stream", "none", undefined],
  ["folder.csv/file", "application/octet-stream", "none", undefined],
])("%s of type %s is shown as %s", (path, media_type, kind, language) => {
  expect(previewKind({ path, media_type })).toBe(kind);
  expect(languageOf(path)).toBe(language);
});
