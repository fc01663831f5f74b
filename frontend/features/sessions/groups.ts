import type { SessionMeta } from "./store";

export type GroupName = "Today" | "Yesterday" | "Last 7 days" | "Earlier";

export interface Group {
  name: GroupName;
  sessions: SessionMeta[];
}

const NAMES: readonly GroupName[] = ["Today", "Yesterday", "Last 7 days", "Earlier"];

/** Return the sessions by the calendar day they were last used on, in their own order, without empty groups. */
export function grouped(sessions: readonly SessionMeta[], today: Date): Group[] {
  const groups = NAMES.map((name): Group => ({ name, sessions: [] }));
  for (const session of sessions) {
    groups.find(({ name }) => name === groupOf(new Date(session.used_at), today))?.sessions.push(session);
  }
  return groups.filter((group) => group.sessions.length > 0);
}

function groupOf(used: Date, today: Date): GroupName {
  const days = dayNumber(today) - dayNumber(used);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return days <= 7 ? "Last 7 days" : "Earlier";
}

/** Days by the local calendar, whatever the hours that a change to summer time takes. */
function dayNumber(date: Date): number {
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000);
}

/** Return the sessions whose title has every word that is searched for. */
export function matching(sessions: readonly SessionMeta[], search: string): readonly SessionMeta[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return sessions;
  return sessions.filter(({ title }) => words.every((word) => title.toLowerCase().includes(word)));
}
