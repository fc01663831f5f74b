import { z } from "@/lib/zod";

const lostVariableSchema = z.object({
  context: z.string(),
  name: z.string(),
  type: z.string(),
  reason: z.string().optional(),
});

/** A wake-up, as the session's document tells it. */
export const restoredSchema = z.object({ at: z.string(), lost: z.array(lostVariableSchema) });
export type LostVariable = z.infer<typeof lostVariableSchema>;

/** The name of a loss that is not of one variable: all of a context's, or more than are named. */
const ALL = "*";
const MAX_NAMED = 8;
const MAX_NAME_CHARS = 60;

/** Say what a wake-up could not keep, as in "conn (sqlite3.Connection), lock (_thread.lock)". Empty for nothing. */
export function inWords(lost: readonly LostVariable[]): string {
  const named = lost.slice(0, MAX_NAMED).map(({ context, name, type, reason }) => {
    const where = context === "default" ? "" : ` in ${short(context)}`;
    if (name === ALL) return (/^\d+ more$/.test(reason ?? "") ? reason : "all that there were") + where;
    return short(name) + (type && ` (${short(type)})`) + where;
  });
  const more = lost.length - named.length;
  return more > 0 ? `${named.join(", ")} and ${more} more` : named.join(", ");
}

function short(text: string): string {
  return text.length > MAX_NAME_CHARS ? `${text.slice(0, MAX_NAME_CHARS - 1)}…` : text;
}
