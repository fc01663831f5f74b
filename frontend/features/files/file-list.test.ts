import { expect, it } from "vitest";
import { changedWords, filePath, nameOf } from "./file-list";

it.each([
  ["a b.csv", "/sessions/s_1/files/a%20b.csv"],
  ["plots/100%.png", "/sessions/s_1/files/plots/100%25.png"],
  ["a?b#c", "/sessions/s_1/files/a%3Fb%23c"],
  ["größe.csv", "/sessions/s_1/files/gr%C3%B6%C3%9Fe.csv"],
])("the file %j is at %s", (path, expected) => {
  expect(filePath("s_1", path)).toBe(expected);
});

it.each([
  ["a.csv", "", "a.csv"],
  ["plots/b/c.png", "plots/b", "c.png"],
])("%s is in %j", (path, folder, name) => {
  expect(nameOf(path)).toEqual({ folder, name });
});

it.each([
  [new Date(2024, 4, 7, 9, 5), "09:05"],
  [new Date(2024, 4, 6, 9, 5), "6 May"],
  [new Date(2023, 4, 7, 9, 5), "7 May 2023"],
])("a change at %s reads as %j", (at, expected) => {
  expect(changedWords(at.toISOString(), new Date(2024, 4, 7, 18, 0))).toBe(expected);
});

it("shows no time that it cannot read", () => {
  expect(changedWords("soon", new Date())).toBe("");
});
