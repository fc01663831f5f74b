import { describe, expect, it } from "vitest";
import { problemOf, typesTaken, whatIsTaken } from "./checks";

const limits = { max_upload_bytes: 1_000_000_000, upload_types: [".csv", ".txt", ".json", ".py"] };

describe("what is told before a file is sent", () => {
  it.each([
    ["sales.csv", 12, undefined],
    ["SALES.CSV", 12, undefined],
    ["two.parts.json", 12, undefined],
    ["exact.csv", 1_000_000_000, undefined],
    ["sales.exe", 12, "sales.exe is not taken: CSV, TXT, JSON and Python files are."],
    ["csv", 12, "csv is not taken: CSV, TXT, JSON and Python files are."],
    [".csv", 12, ".csv is not taken: CSV, TXT, JSON and Python files are."],
    ["report.csv", 3_100_000_000, "report.csv has 3.1 GB; at most 1.0 GB is taken."],
    ["empty.csv", 0, "empty.csv is empty, so there is nothing to upload."],
  ])("%s of %i bytes", (name, size, expected) => {
    expect(problemOf({ name, size }, limits)).toBe(expected);
  });

  it("refuses no type when the server does not say which it takes", () => {
    expect(problemOf({ name: "a.bin", size: 1 }, { ...limits, upload_types: [] })).toBeUndefined();
  });
});

it.each([
  [[], ""],
  [[".csv"], "CSV"],
  [[".csv", ".py"], "CSV and Python"],
  [[".csv", ".txt", ".parquet"], "CSV, TXT and PARQUET"],
])("the types %j read as %j", (upload_types, expected) => {
  expect(typesTaken({ ...limits, upload_types })).toBe(expected);
});

it.each([
  [{ upload_types: [".csv", ".py"], max_upload_bytes: 104_857_600 }, "CSV and Python files up to 105 MB are taken."],
  [{ upload_types: [], max_upload_bytes: 2_000_000 }, "Files up to 2.0 MB are taken."],
  [{ upload_types: [], max_upload_bytes: Number.POSITIVE_INFINITY }, "Files of any type are taken."],
])("what is taken is a sentence: %j", (given, expected) => {
  expect(whatIsTaken(given)).toBe(expected);
});
