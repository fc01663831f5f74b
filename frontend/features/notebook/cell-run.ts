import { ApiError, wordsOf } from "@/lib/api";
import { announce } from "@/lib/announce";
import { duration } from "@/lib/format";
import { newId } from "@/lib/ids";
import { isOver, lightened, type ShownExecution, shownExecutionSchema } from "@/lib/outputs";
import { follow, runCode, type Watch } from "./run";

/** One cell's run as the page shows it, from the wish to run it to what is kept of it in the browser. */
export interface CellRun {
  execution: ShownExecution;
  /** What the page does for it, where the execution itself does not tell. */
  phase?: "waiting" | "starting" | "reconnecting";
  /** Why it could not be run, or its end not be learnt, in words for people. */
  problem?: string;
  /** The run before this one, shown until this one has something to show, so that nothing jumps. */
  before?: ShownExecution;
}

/** Forms up to this size are kept in the browser, so that they outlive the sandbox; larger ones by address. */
const KEPT_FORM_CHARS = 1_000_000;

/** Return the run as it stands while it waits for its turn. */
export function waitingRun(before: CellRun | undefined): CellRun {
  return { execution: { execution: "", status: "queued", outputs: [] }, phase: "waiting", before: shownOf(before) };
}

/** Whether it waits or runs, and may be stopped. */
export function isActive(run: CellRun | undefined): boolean {
  return run !== undefined && run.problem === undefined && !isOver(run.execution.status);
}

/** Return the execution whose outputs are to be shown now. */
export function shownOf(run: CellRun | undefined): ShownExecution | undefined {
  if (run === undefined) return undefined;
  const { execution, before } = run;
  const hasNothingYet = execution.outputs.length === 0 && !isOver(execution.status);
  return hasNothingYet && before !== undefined ? before : execution;
}

/** Run code; `put` is called with each state. Returns the last one, or undefined when `signal` was aborted. */
export async function runCell(
  session: string,
  code: string,
  before: CellRun | undefined,
  signal: AbortSignal,
  put: (run: CellRun) => void,
): Promise<CellRun | undefined> {
  return carried({ ...waitingRun(before), phase: undefined }, signal, put, (watch, starting) =>
    runCode(session, code, { ...watch, executionKey: newId("cell"), onStarting: starting }),
  );
}

/** Show a run again that was going on when the page was left. */
export async function followCell(
  session: string,
  kept: ShownExecution,
  signal: AbortSignal,
  put: (run: CellRun) => void,
): Promise<CellRun | undefined> {
  const first: CellRun = { execution: { ...kept, outputs: [] }, before: kept };
  return carried(first, signal, put, (watch) => follow(session, kept.execution, watch));
}

/** Say how a run ended. */
export function announceEnd(run: CellRun): void {
  const { execution, problem } = run;
  if (problem !== undefined) announce(`Cell not run: ${problem}`);
  else if (execution.status === "ok") {
    announce(
      execution.duration_ms === undefined ? "Cell finished" : `Cell finished in ${duration(execution.duration_ms)}`,
    );
  } else announce(endOf(execution));
}

/** Return what is kept in the browser of a run. */
export function keptOf(session: string, run: CellRun): ShownExecution {
  const { execution, before, problem } = run;
  const told = problem !== undefined && execution.outputs.length === 0 && before !== undefined ? before : execution;
  return lightened(told, session, KEPT_FORM_CHARS);
}

/** Return a kept run; undefined for anything else. */
export function parsedRun(kept: unknown): ShownExecution | undefined {
  const parsed = shownExecutionSchema.safeParse(kept);
  return parsed.success && parsed.data.execution !== "" ? parsed.data : undefined;
}

async function carried(
  first: CellRun,
  signal: AbortSignal,
  put: (run: CellRun) => void,
  watch: (watch: Watch, starting: () => void) => Promise<ShownExecution>,
): Promise<CellRun | undefined> {
  let run = first;
  const next = (change: Partial<CellRun>): void => {
    if (signal.aborted) return;
    run = { ...run, ...change };
    put(run);
  };
  next({});
  try {
    const watching: Watch = {
      signal,
      onState: (execution) => next({ execution, phase: run.phase === "starting" ? undefined : run.phase }),
      onReconnecting: (reconnecting) => next({ phase: reconnecting ? "reconnecting" : undefined }),
    };
    await watch(watching, () => next({ phase: "starting" }));
    next({ phase: undefined, before: undefined });
  } catch (error) {
    if (signal.aborted) return undefined;
    next({ phase: undefined, problem: wordsOf(error), execution: isGone(error) ? lostIn(run) : run.execution });
  }
  return run;
}

/** What was shown last, as that of a kernel that is no longer there. */
function lostIn(run: CellRun): ShownExecution {
  const shown = shownOf(run) ?? run.execution;
  return isOver(shown.status) ? shown : { ...shown, status: "died" };
}

function isGone(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 404 || error.status === 410);
}

function endOf({ status, outputs }: ShownExecution): string {
  const failure = outputs.findLast((output) => output.type === "error");
  switch (status) {
    case "interrupted":
      return "Cell interrupted";
    case "timeout":
      return "Cell timed out";
    case "died":
      return "Cell failed: the kernel was lost, and its variables with it";
    default:
      return failure?.type === "error" ? `Cell failed: ${failure.ename}` : "Cell failed";
  }
}
