import { z } from "@/lib/zod";
import { ApiError, authorization, failureOf, request, unreachable, urlOf } from "@/lib/api";
import { begun, fold, type Folding, isOver, type ShownExecution, wireOutputSchema } from "@/lib/outputs";

/**
 * Code run in a session's sandbox, and what it shows as it comes.
 *
 * Outputs are read as server-sent events: their heartbeat tells a slow cell from a connection that is dead.
 */
const PUBLISH_EVERY_MS = 50;
const HEARD_WITHIN_MS = 45_000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 8_000;
/** Attempts without one new output or good connection before a run is given up, about half a minute. */
const ATTEMPTS = 8;
/** A connection on which something was heard for so long was a good one: the attempts before it no longer count. */
const GOOD_AFTER_MS = 10_000;
const START_WAIT_S = 25;

export interface Watch {
  signal?: AbortSignal;
  /** What it shows so far: at most about twenty times a second, the last state always. */
  onState(execution: ShownExecution): void;
  /** The connection broke and is being made again (true), or is there again (false). */
  onReconnecting?(reconnecting: boolean): void;
}

export interface RunOptions extends Watch {
  /** The kernel; the session's own when left out. */
  context?: string;
  timeout_s?: number;
  /** Admits this run once, however often it is sent. */
  executionKey: string;
  /** The session has no sandbox yet and one is made. */
  onStarting?(): void;
}

interface Timing {
  firstWaitMs: number;
  heardWithinMs: number;
  goodAfterMs: number;
}
const TIMING: Timing = { firstWaitMs: FIRST_WAIT_MS, heardWithinMs: HEARD_WITHIN_MS, goodAfterMs: GOOD_AFTER_MS };

const started = new Map<string, number>();
const initialized = new Set<string>();
const sandboxSchema = z.object({ state: z.string() });
const summarySchema = z.object({ status: z.string(), started_at: z.iso.datetime().optional() });
const completionSchema = z.object({ matches: z.array(z.string()), cursor_start: z.number(), cursor_end: z.number() });

/** Return when an execution began to run, in ms since the epoch, as far as this page knows. */
export function startedAt(execution: string): number | undefined {
  return started.get(execution);
}

/** Whether this page has seen the session's sandbox: asking it something makes none. */
export function isInitialized(session: string): boolean {
  return initialized.has(session);
}

/**
 * Run code in a session and return its last state, whatever it is. Makes the session if it is new, and wakes it.
 *
 * A connection that breaks is taken up again where it was; the same `executionKey` never runs twice. Throws ApiError, with
 * words for people, when the code could not be run or its end not be learnt, and the signal's reason once it is aborted:
 * that stops watching, not the code.
 */
export async function runCode(
  session: string,
  code: string,
  options: RunOptions,
  timing: Timing = TIMING,
): Promise<ShownExecution> {
  const { context, timeout_s, executionKey, signal } = options;
  const body = JSON.stringify({ code, context, timeout_s });
  const post = async (): Promise<Response> =>
    ask(`/sessions/${session}/executions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": executionKey },
      body,
      signal,
    });
  const begin = async (): Promise<Response> => {
    if (!initialized.has(session)) await initialize(session, options);
    try {
      return await post();
    } catch (error) {
      if (!isNoSession(error)) throw error;
      await initialize(session, options);
      return post();
    }
  };
  return watched(session, begun(""), begin, options, timing);
}

/**
 * Show an execution that was begun before, from its first output to its end.
 *
 * Throws as `runCode` does; ApiError with status 404 or 410 when its outputs are no longer kept.
 */
export async function follow(
  session: string,
  execution: string,
  options: Watch,
  timing: Timing = TIMING,
): Promise<ShownExecution> {
  const begin = async (): Promise<Response> => {
    const path = `/sessions/${session}/executions/${execution}`;
    const summary = summarySchema.parse(await (await request("execute", path, { signal: options.signal })).json());
    if (summary.started_at !== undefined) noteStart(execution, Date.parse(summary.started_at));
    return ask(`${path}/outputs?after=0`, { signal: options.signal });
  };
  return watched(session, begun(execution), begin, options, timing);
}

/** Interrupt an execution; variables stay. One that has ended, or is gone, is no failure. */
export async function interrupt(session: string, execution: string): Promise<void> {
  try {
    await request("execute", `/sessions/${session}/executions/${execution}`, { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof ApiError && (error.status === 404 || error.status === 409))) throw inWords(error);
  }
}

/** End a kernel's variables and start it anew. */
export async function restartKernel(session: string, context = "default"): Promise<void> {
  try {
    await request("execute", `/sessions/${session}/contexts/${context}/restart`, { method: "POST" });
  } catch (error) {
    if (!isNoSession(error)) throw inWords(error);
  }
}

export interface Completion {
  matches: string[];
  /** Where the matches stand, in UTF-16 units as the editor counts. */
  from: number;
  to: number;
}

/** Return what the kernel would write at the cursor; undefined when it cannot be asked now. */
export async function complete(
  session: string,
  code: string,
  cursor: number,
  signal?: AbortSignal,
): Promise<Completion | undefined> {
  if (!initialized.has(session)) return undefined;
  const limit = AbortSignal.timeout(2_000);
  try {
    const reply = await request("execute", `/sessions/${session}/contexts/default/complete`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code, cursor_pos: [...code.slice(0, cursor)].length }),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    const { matches, cursor_start, cursor_end } = completionSchema.parse(await reply.json());
    const points = [...code];
    const units = (count: number): number => points.slice(0, count).join("").length;
    return { matches, from: units(cursor_start), to: units(cursor_end) };
  } catch {
    return undefined;
  }
}

/** Make or wake the session's sandbox, and wait until it is ready. */
async function initialize(session: string, { signal, onStarting }: RunOptions): Promise<void> {
  onStarting?.();
  for (;;) {
    const path = `/sessions/${session}/initialize?wait_s=${START_WAIT_S}`;
    const reply = await request("execute", path, { method: "POST", signal });
    sandboxSchema.parse(await reply.json());
    if (reply.status !== 202) {
      initialized.add(session);
      return;
    }
    const wait = Number(reply.headers.get("retry-after") ?? 1);
    await delay(Number.isFinite(wait) ? wait * 1_000 : 1_000, signal);
  }
}

/** Read outputs to the last, asking again after the last one seen whenever the connection breaks. */
async function watched(
  session: string,
  first: Folding,
  begin: () => Promise<Response>,
  watch: Watch,
  timing: Timing,
): Promise<ShownExecution> {
  const { signal } = watch;
  const publishing = new Publishing(watch.onState);
  let state = first;
  let reply: Response | undefined;
  let failures = 0;
  try {
    for (;;) {
      try {
        reply ??= state.after === 0 ? await begin() : await resumed(session, state, signal);
        if (reply.status === 204) throw lost();
        initialized.add(session);
        if (failures > 0) watch.onReconnecting?.(false);
        const openedMs = performance.now();
        const heard = (): void => {
          if (performance.now() - openedMs >= timing.goodAfterMs) failures = 0;
        };
        const named = reply.headers.get("x-execution-id");
        if (named !== null && state.execution !== named) publishing.put((state = { ...state, execution: named }));
        for await (const line of events(reply, timing.heardWithinMs, heard, signal)) {
          const next = taken(state, line);
          if (next.after > state.after) failures = 0;
          if (next.status === "running" && state.status !== "running") noteStart(next.execution, Date.now());
          state = next;
          publishing.put(state);
          if (isOver(state.status)) return state;
        }
        throw unreachable();
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        reply = undefined;
        failures += 1;
        if (!mayPass(error) || failures > ATTEMPTS) throw inWords(error);
        watch.onReconnecting?.(true);
        const asked = error instanceof ApiError && error.retryAfterS !== undefined ? error.retryAfterS * 1_000 : 0;
        const backoff = timing.firstWaitMs * 2 ** (failures - 1);
        await delay(Math.min(LONGEST_WAIT_MS, Math.max(asked, backoff)), signal);
      }
    }
  } finally {
    publishing.end();
    if (isOver(state.status)) started.delete(state.execution);
    if (failures > 0) watch.onReconnecting?.(false);
  }
}

async function resumed(session: string, state: Folding, signal: AbortSignal | undefined): Promise<Response> {
  return ask(`/sessions/${session}/executions/${state.execution}/outputs?after=${state.after}`, { signal });
}

/** Ask execute for outputs. Unlike `request`, an answer that breaks off is told apart from one that refuses. */
async function ask(path: string, init: RequestInit): Promise<Response> {
  const url = await urlOf("execute", path);
  const headers = { ...authorization(), ...Object.fromEntries(new Headers(init.headers)), Accept: "text/event-stream" };
  let reply: Response;
  try {
    reply = await fetch(url, { ...init, headers });
  } catch (error) {
    throw init.signal?.aborted ? error : unreachable();
  }
  if (!reply.ok) throw await failureOf(reply);
  return reply;
}

/** Return the state after one event; of a type that is not known only the number counts. */
function taken(state: Folding, line: string): Folding {
  const value: unknown = JSON.parse(line);
  const known = wireOutputSchema.safeParse(value);
  if (known.success) return known.data.seq > state.after ? fold(state, known.data) : state;
  const numbered = z.object({ seq: z.number() }).safeParse(value);
  return numbered.success ? { ...state, after: Math.max(state.after, numbered.data.seq) } : state;
}

/**
 * Yield the data of each server-sent event, and call `heard` for whatever comes, heartbeats too.
 *
 * Throws when nothing, not even a heartbeat, comes in time.
 */
async function* events(
  reply: Response,
  heardWithinMs: number,
  heard: () => void,
  signal: AbortSignal | undefined,
): AsyncGenerator<string, void, undefined> {
  if (reply.body === null) return;
  const reader = reply.body.getReader();
  const decoder = new TextDecoder();
  let pending: string[] = [];
  let silence: ReturnType<typeof setTimeout> | undefined;
  const leave = (): void => void reader.cancel().catch(() => undefined);
  signal?.addEventListener("abort", leave);
  try {
    for (;;) {
      silence = setTimeout(leave, heardWithinMs);
      const { done, value } = await reader.read().catch(() => {
        throw unreachable();
      });
      clearTimeout(silence);
      if (done) return;
      heard();
      const lines = decoder.decode(value, { stream: true }).split("\n");
      const rest = lines.pop() ?? "";
      for (const line of lines) {
        pending.push(line);
        const whole = pending.join("").replace(/\r$/, "");
        pending = [];
        if (whole.startsWith("data:")) yield whole.slice(5).trimStart();
      }
      pending.push(rest);
    }
  } finally {
    clearTimeout(silence);
    signal?.removeEventListener("abort", leave);
    leave();
  }
}

/** Passes states on, at most one each `PUBLISH_EVERY_MS`; the first at once, and the last when it ends. */
class Publishing {
  private waiting: Folding | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly publish: (execution: ShownExecution) => void) {}

  put(state: Folding): void {
    this.waiting = state;
    if (this.timer === undefined) this.flush();
  }

  end(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.waiting !== undefined) this.publish(this.waiting);
    this.waiting = undefined;
  }

  private flush(): void {
    if (this.waiting === undefined) {
      this.timer = undefined;
      return;
    }
    this.publish(this.waiting);
    this.waiting = undefined;
    this.timer = setTimeout(() => this.flush(), PUBLISH_EVERY_MS);
  }
}

/** Whether asking again may help: the network, or a function or sandbox that is not there at this moment. */
function mayPass(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || [502, 503, 504].includes(error.status));
}

function isNoSession(error: unknown): boolean {
  return error instanceof ApiError && error.code === "session_not_found";
}

/** Return the failure with what can be done about it in its words. */
function inWords(error: unknown): unknown {
  if (!(error instanceof ApiError)) return error;
  const { message, code, status, id, retryAfterS } = error;
  const told = (words: string): ApiError => new ApiError(words, code, status, id, retryAfterS);
  if (status === 429) return told(`${message} ${retryAfterS === undefined ? "Try again soon." : waiting(retryAfterS)}`);
  if (code === "session_not_found") return told("The sandbox of this session is gone. Run the cell to get a new one.");
  if (status === 404 || status === 410) return told("What this run put out is no longer kept. Run the cell again.");
  return error;
}

function waiting(seconds: number): string {
  return `Try again in ${seconds} ${seconds === 1 ? "second" : "seconds"}.`;
}

function lost(): ApiError {
  return new ApiError("The end of this run is not known. Run the cell again.", "outputs_lost", 410);
}

function noteStart(execution: string, ms: number): void {
  if (!started.has(execution)) started.set(execution, Math.min(ms, Date.now()));
}

async function delay(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
  });
}
