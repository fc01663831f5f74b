import { expect, test } from "vitest";
import { grouped, matching } from "./groups";
import type { SessionMeta } from "./store";

const TODAY = new Date(2026, 2, 30); // the day after summer time began in Europe

function used(title: string, ...at: [number, number, number, number?, number?]): SessionMeta {
  const used_at = new Date(...at).toISOString();
  return { id: title, title, kind: "chat", created_at: used_at, used_at };
}

test.each([
  ["a minute after midnight", new Date(2026, 2, 30, 0, 1), "Today"],
  ["tomorrow, by a clock that is ahead", new Date(2026, 2, 31, 9), "Today"],
  ["a minute before midnight", new Date(2026, 2, 29, 23, 59), "Yesterday"],
  ["the day before yesterday", new Date(2026, 2, 28, 12), "Last 7 days"],
  ["a week ago", new Date(2026, 2, 23, 0, 0), "Last 7 days"],
  ["eight days ago", new Date(2026, 2, 22, 23, 59), "Earlier"],
  ["last year", new Date(2025, 2, 30), "Earlier"],
])("a session last used %s is found in its group", (_, at, name) => {
  const session = { ...used("x", 2026, 0, 1), used_at: at.toISOString() };
  expect(grouped([session], TODAY)).toEqual([{ name, sessions: [session] }]);
});

test("groups keep the order of the list, and empty ones are left out", () => {
  const sessions = [used("a", 2026, 2, 30, 9), used("b", 2026, 2, 30, 8), used("c", 2026, 0, 1)];
  const shown = grouped(sessions, TODAY).map((group) => [group.name, group.sessions.map(({ id }) => id)]);
  expect(shown).toEqual([
    ["Today", ["a", "b"]],
    ["Earlier", ["c"]],
  ]);
});

test("a search finds titles that have all its words, in any case and order", () => {
  const sessions = [used("Sales by Region", 2026, 0, 1), used("Regional weather", 2026, 0, 1)];
  expect(matching(sessions, " region SALES ").map(({ id }) => id)).toEqual(["Sales by Region"]);
  expect(matching(sessions, "  ")).toBe(sessions);
  expect(matching(sessions, "(.*")).toEqual([]);
});
