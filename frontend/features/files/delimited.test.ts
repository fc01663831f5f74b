import { describe, expect, it } from "vitest";
import { delimiterOf, numericColumns, parseDelimited } from "./delimited";

function rowsOf(text: string, options: { delimiter?: string; maxRows?: number; cut?: boolean } = {}): string[][] {
  return parseDelimited(text, { delimiter: ",", maxRows: 100, ...options }).rows;
}

describe("rows of a text", () => {
  it.each<[string, string, string[][]]>([
    ["no text", "", []],
    ["one field", "a", [["a"]]],
    [
      "rows and columns",
      "a,b\n1,2\n",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "no line end after the last row",
      "a,b\n1,2",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "line ends of Windows",
      "a,b\r\n1,2\r\n",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "line ends of old Macs",
      "a,b\r1,2\r",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "empty fields",
      ",\n,,",
      [
        ["", ""],
        ["", "", ""],
      ],
    ],
    ["a delimiter at the very end", "a,", [["a", ""]]],
    ["empty lines", "a\n\n\nb\n", [["a"], ["b"]]],
    ["an empty field in quotes", '""\n', [[""]]],
    ["a delimiter in quotes", '"a,b",c', [["a,b", "c"]]],
    [
      "a line end in quotes",
      '"a\nb",c\nd,e',
      [
        ["a\nb", "c"],
        ["d", "e"],
      ],
    ],
    ["doubled quotes", '"say ""hi""",c', [['say "hi"', "c"]]],
    ["nothing but doubled quotes", '"""",c', [['"', "c"]]],
    ["a quote within a field", '5" nail,c', [['5" nail', "c"]]],
    ["text after the closing quote", '"a"b,c', [["ab", "c"]]],
    ["a quote that is never closed", 'a,"b\nc', [["a", "b\nc"]]],
    ["a byte order mark", "\uFEFFa,b", [["a", "b"]]],
    ["rows of different length", "a\nb,c\nd,e,f", [["a"], ["b", "c"], ["d", "e", "f"]]],
    ["spaces as they are", " a , b ", [[" a ", " b "]]],
  ])("%s", (_, text, expected) => {
    expect(rowsOf(text)).toEqual(expected);
  });

  it.each<[string, string, string[][]]>([
    [
      "within a field",
      "a,b\n1,2\n3",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    ["after a delimiter", "a,b\n1,", [["a", "b"]]],
    ["within quotes", 'a,b\n1,"2\n3', [["a", "b"]]],
    [
      "after a line end",
      "a,b\n1,2\n",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
  ])("of a text cut off %s the last whole row is the last", (_, text, expected) => {
    expect(rowsOf(text, { cut: true })).toEqual(expected);
  });

  it("says when there are more rows than asked for", () => {
    expect(parseDelimited("a\nb\nc\n", { delimiter: ",", maxRows: 2 })).toEqual({ rows: [["a"], ["b"]], more: true });
    expect(parseDelimited("a\nb\n\n", { delimiter: ",", maxRows: 2 })).toEqual({ rows: [["a"], ["b"]], more: false });
  });

  it("reads a long text of quotes without going through it twice", () => {
    const text = `"${'""'.repeat(100_000)}",b`;
    expect(rowsOf(text)[0]?.[0]).toHaveLength(100_000);
  });
});

it.each([
  ["a,b,c\n1,2,3", ","],
  ["a;b;c\n1,5;2;3", ";"],
  ["a\tb\n1\t2", "\t"],
  ["a|b|c", "|"],
  ['"a;b;c;d",e', ","],
  ["one column", ","],
  ["", ","],
])("the delimiter of %j is %j", (text, expected) => {
  expect(delimiterOf(text)).toBe(expected);
});

it("tells columns of numbers from those of text", () => {
  const rows = [
    ["1", "x", "", "12%", "2024-01-01", "-1.5e3"],
    ["2.5", "3", "", "", "2024-01-02", "1,000"],
  ];
  expect(numericColumns(rows, 6)).toEqual([true, false, false, true, false, true]);
});
