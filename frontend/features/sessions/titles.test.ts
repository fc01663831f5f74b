import { expect, test } from "vitest";
import { fileNameFrom, titleFrom } from "./titles";

test("a title is the first words of the message, at most 60 characters", () => {
  expect(titleFrom("  Plot\n the sales ")).toBe("Plot the sales");
  const title = titleFrom("Please read the file sales.csv, group it by region, and plot the sums of each month");
  expect(title).toBe("Please read the file sales.csv, group it by region, and…");
  expect(Array.from(titleFrom("x".repeat(500)))).toHaveLength(60);
  expect(titleFrom("🎈".repeat(100))).toBe(`${"🎈".repeat(59)}…`);
  expect(titleFrom(" \n ")).toBe("");
});

test("a title becomes a file name that every system takes", () => {
  expect(fileNameFrom('../a: "b" <c>|d?')).toBe("a b c d");
  expect(fileNameFrom("Größe 売上")).toBe("Größe 売上");
  expect(fileNameFrom("???")).toBe("session");
});
