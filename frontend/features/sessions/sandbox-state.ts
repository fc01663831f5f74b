import { z } from "@/lib/zod";
import { ApiError } from "@/lib/api";
import { type LostVariable, restoredSchema } from "./restored";

/** A session as execute tells it; what only a running sandbox knows may be missing. */
export const sessionDocumentSchema = z.object({
  state: z.enum(["starting", "ready", "busy", "suspended"]),
  created_at: z.string().optional(),
  last_activity_at: z.string().optional(),
  expires_at: z.string().optional(),
  /** When the sweep put it away, variables included; one whose processes ended by themselves has none. */
  suspended_at: z.string().optional(),
  generation: z.number().optional(),
  memory_bytes: z.number().optional(),
  memory_limit_bytes: z.number().optional(),
  disk_bytes: z.number().optional(),
  disk_limit_bytes: z.number().optional(),
  contexts: z
    .array(z.object({ name: z.string(), state: z.string(), execution_count: z.number().optional() }))
    .optional(),
  /** When it was woken last, and what of its variables could not be kept. */
  restored: restoredSchema.optional(),
});
export type SessionDocument = z.infer<typeof sessionDocumentSchema>;

/** What was asked and answered last; `server_ms` is the server's clock then, as far as it is known. */
export interface Answer {
  /** Undefined: the server has no such session. */
  document: SessionDocument | undefined;
  server_ms: number;
}

/** What this browser remembers of a session's sandbox. */
export const seenSchema = z.object({
  created_at: z.string(),
  generation: z.number().optional(),
  /** The generation that the user knows of. */
  acknowledged: z.number().optional(),
  /** The wake-up that was seen last. */
  restored_at: z.string().optional(),
  /** What the user does not know of yet went with that wake-up, so only what could not be kept is gone. */
  woken: z.boolean().optional(),
  /** The server did not have it any more, and the user was told. */
  gone: z.boolean(),
  /** Another sandbox took its place, without the old files, and the user was not told yet. */
  replaced: z.boolean(),
});
export type Seen = z.infer<typeof seenSchema>;

export type SandboxState =
  "unknown" | "not started" | "starting" | "ready" | "busy" | "idle" | "suspended" | "gone" | "unreachable";

const IDLE_AFTER_MS = 60_000;
const POLL_MS = 5_000;
const SLOW_POLL_MS = 30_000;
const SOONEST_POLL_MS = 1_000;

/** Return what the user is told of the sandbox. `failure` is why the last question had no answer. */
export function sandboxState(answer: Answer | undefined, failure: unknown, seen: Seen | null): SandboxState {
  if (failure !== null && failure !== undefined) return isUnreachable(failure) ? "unreachable" : "unknown";
  if (answer === undefined) return "unknown";
  // What is remembered is ahead of the answer for a moment, so only it says that there was a sandbox that is no more.
  if (answer.document === undefined) return seen?.gone ? "gone" : "not started";
  const { state, last_activity_at } = answer.document;
  if (state !== "ready" || last_activity_at === undefined) return state;
  return answer.server_ms - Date.parse(last_activity_at) > IDLE_AFTER_MS ? "idle" : "ready";
}

/** Return what is remembered after an answer; the same object when nothing changed. */
export function seenAfter(seen: Seen | null, document: SessionDocument | undefined): Seen | null {
  if (document === undefined) return seen === null || seen.gone ? seen : { ...seen, gone: true };
  const { created_at, generation, restored } = document;
  if (created_at === undefined) return seen;
  const restored_at = restored?.at;
  if (seen === null || seen.created_at !== created_at) {
    const replaced = seen !== null && !seen.gone;
    return { created_at, generation, acknowledged: generation, restored_at, gone: false, replaced };
  }
  const next: Seen = {
    ...seen,
    generation: generation ?? seen.generation,
    acknowledged: seen.acknowledged ?? generation,
    restored_at: restored_at ?? seen.restored_at,
    woken: isWoken(seen, document),
    gone: false,
  };
  const same =
    next.generation === seen.generation &&
    next.acknowledged === seen.acknowledged &&
    next.restored_at === seen.restored_at &&
    next.woken === seen.woken &&
    !seen.gone;
  return same ? seen : next;
}

export function acknowledged(seen: Seen): Seen {
  return { ...seen, acknowledged: seen.generation, woken: undefined, replaced: false };
}

/** What was lost without the user's knowing: what a wake-up could not keep, all variables, or the files too. */
export function lostOf(seen: Seen | null): "some" | "variables" | "all" | undefined {
  if (seen === null || seen.gone) return undefined;
  if (seen.replaced) return "all";
  if ((seen.generation ?? 0) <= (seen.acknowledged ?? seen.generation ?? 0)) return undefined;
  return seen.woken ? "some" : "variables";
}

/** What the last wake-up could not keep. */
export function notKept(answer: Answer | undefined): LostVariable[] {
  return answer?.document?.restored?.lost ?? [];
}

/** Whether all that the user does not know of went with a wake-up: one is the last step of `generation`, if it lost. */
function isWoken(seen: Seen, document: SessionDocument): boolean | undefined {
  const { generation, restored } = document;
  const steps = (generation ?? 0) - (seen.generation ?? generation ?? 0);
  if (steps === 0) return seen.woken;
  const fresh = restored !== undefined && restored.at !== seen.restored_at && restored.lost.length > 0;
  const before = lostOf(seen);
  return (steps === 1 && fresh && (before === undefined || before === "some")) || undefined;
}

/** Seconds until an idle sandbox is suspended. */
export function expiresIn(answer: Answer | undefined): number | undefined {
  const expires_at = answer?.document?.expires_at;
  if (answer === undefined || expires_at === undefined) return undefined;
  return Math.max(0, (Date.parse(expires_at) - answer.server_ms) / 1000);
}

/** What is told of a suspended session: what was put away comes back whole, what ended has only its files. */
export function wordsOfSuspended(document: SessionDocument | undefined): string {
  return document?.suspended_at === undefined
    ? "Its machine ended; files are kept, variables are gone"
    : "Put away after a rest; files and variables are kept";
}

/** When to ask again, in milliseconds; false for not by itself. */
export function pollAfter(state: SandboxState, expires_in_s: number | undefined, expected: boolean): number | false {
  switch (state) {
    case "starting":
      return SOONEST_POLL_MS;
    case "ready":
    case "busy":
    case "unknown":
    case "unreachable":
      return POLL_MS;
    case "idle":
      return Math.min(SLOW_POLL_MS, Math.max(SOONEST_POLL_MS, ((expires_in_s ?? Infinity) + 1) * 1000));
    case "suspended":
    case "gone":
      return SLOW_POLL_MS;
    case "not started":
      return expected ? POLL_MS : false;
  }
}

function isUnreachable(failure: unknown): boolean {
  return failure instanceof ApiError && [0, 502, 503, 504].includes(failure.status);
}
