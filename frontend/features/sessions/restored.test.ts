import { expect, test } from "vitest";
import { inWords, restoredSchema } from "./restored";

const lost = (name: string, type = "module", context = "default") => ({ context, name, type });

test("what could not be kept is named with its type", () => {
  expect(inWords([])).toBe("");
  expect(inWords([lost("conn", "sqlite3.Connection")])).toBe("conn (sqlite3.Connection)");
  expect(inWords([lost("conn", "sqlite3.Connection"), lost("lock", "_thread.lock", "second")])).toBe(
    "conn (sqlite3.Connection), lock (_thread.lock) in second",
  );
});

test("variables that are not known by name are told as what they are", () => {
  expect(inWords([{ ...lost("*", ""), reason: "the kernel had ended" }])).toBe("all that there were");
  expect(inWords([lost("conn", ""), { ...lost("*", "", "second"), reason: "22 more" }])).toBe(
    "conn, 22 more in second",
  );
});

test("of many only the first are named, and long names are cut", () => {
  const many = Array.from({ length: 30 }, (_, index) => lost(`v${index}`));
  expect(inWords(many)).toMatch(/^v0 \(module\), .*v7 \(module\) and 22 more$/);
  expect(inWords([lost("x".repeat(500))])).toHaveLength(60 + " (module)".length);
});

test("a wake-up is read as the session's document tells it", () => {
  const told = { at: "2026-03-30T11:50:00Z", lost: [{ ...lost("f", "file"), reason: "cannot pickle" }] };
  expect(restoredSchema.parse(told)).toEqual(told);
  expect(restoredSchema.parse({ at: "2026-03-30T11:50:00Z", lost: [] }).lost).toEqual([]);
  expect(restoredSchema.safeParse({ at: "2026-03-30T11:50:00Z" }).success).toBe(false);
});
