import { expect, it } from "vitest";
import { pastedFiles } from "./transfer-items";

const now = new Date(2024, 4, 7, 9, 5, 3);

function clipboard(names: string[], text: string): DataTransfer {
  const data = new DataTransfer();
  for (const name of names) data.items.add(new File(["x"], name, { type: "image/png" }));
  data.setData("text/plain", text);
  return data;
}

it.each<[string, string[], string, string[]]>([
  ["text", [], "hello", []],
  ["cells of an office program, with a picture of them", ["image.png"], "1\t2", []],
  ["a file of a file manager, with its name", ["a.csv"], "a.csv", ["a.csv"]],
  [
    "files of a file manager, with their addresses",
    ["a b.csv", "c.csv"],
    "file:///x/a%20b.csv\n/x/c.csv\n",
    ["a b.csv", "c.csv"],
  ],
  ["a file alone", ["a.csv"], "", ["a.csv"]],
  ["a picture", ["image.png"], "", ["picture-20240507-090503.png"]],
])("pasting %s", (_, names, text, expected) => {
  expect(pastedFiles(clipboard(names, text), now).map(({ name }) => name)).toEqual(expected);
});
