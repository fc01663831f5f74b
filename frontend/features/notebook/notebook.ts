import { announce } from "@/lib/announce";
import { wordsOf } from "@/lib/api";
import { isOver, type ShownExecution } from "@/lib/outputs";
import { loadPart, onSaved, savePart, untilLoaded } from "@/features/sessions/store";
import {
  announceEnd,
  type CellRun,
  followCell,
  isActive,
  keptOf,
  parsedRun,
  runCell,
  shownOf,
  waitingRun,
} from "./cell-run";
import {
  type CellKind,
  changed,
  type Deleted,
  emptyCell,
  indexOf,
  inserted,
  moved,
  type NotebookCell,
  parsedCells,
  restored,
  runnable,
  without,
} from "./cells";
import { interrupt, restartKernel } from "./run";

/** A notebook without a model: its cells, their runs one after the other, and what the browser keeps of them. */
export interface NotebookState {
  loaded: boolean;
  cells: readonly NotebookCell[];
  /** By cell. */
  runs: Readonly<Record<string, CellRun>>;
  /** The cell deleted last, until it is put back, or something is run. */
  deleted?: Deleted & { run?: CellRun };
  restarting: boolean;
  /** Why something that was asked for did not happen. */
  problem?: string;
}

const SAVE_AFTER_MS = 400;
const known = new Map<string, Notebook>();

/** Return the session's notebook, the same one for as long as the page lives: its runs go on while it is not in view. */
export function notebookOf(session: string): Notebook {
  const notebook = known.get(session) ?? new Notebook(session);
  known.set(session, notebook);
  return notebook;
}

export class Notebook {
  private state: NotebookState = { loaded: false, cells: [], runs: {}, restarting: false };
  private readonly listeners = new Set<() => void>();
  private readonly endListeners = new Set<() => void>();
  private readonly running = new Map<string, AbortController>();
  private queue: { id: string; code: string; before: CellRun | undefined }[] = [];
  private working = false;
  private saving: ReturnType<typeof setTimeout> | undefined;
  private loading: Promise<void> | undefined;
  private forgotten = false;
  /** What other tabs have kept before this one had read. */
  private readonly missed = new Set<string>();

  constructor(readonly session: string) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    this.loading ??= this.load();
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): NotebookState => this.state;

  /** Call `listener` whenever a run has ended. */
  onEnd(listener: () => void): () => void {
    this.endListeners.add(listener);
    return () => this.endListeners.delete(listener);
  }

  edit(id: string, code: string): void {
    this.setCells(changed(this.state.cells, id, { code }));
  }

  setKind(id: string, kind: CellKind): void {
    if (kind === "text") this.clearOutput(id);
    this.setCells(changed(this.state.cells, id, { kind }));
  }

  /** Add an empty cell and return its id. */
  add(place: "above" | "below", beside?: string, kind: CellKind = "python"): string {
    const cell = emptyCell(kind);
    this.setCells(inserted(this.state.cells, cell, place, beside));
    return cell.id;
  }

  remove(id: string): void {
    const index = indexOf(this.state.cells, id);
    const cell = this.state.cells[index];
    if (cell === undefined) return;
    const run = this.state.runs[id];
    if (isActive(run)) void this.stop(id);
    this.forgetRun(id);
    this.setCells(without(this.state.cells, id));
    this.set({ deleted: { cell, index, ...(run !== undefined && !isActive(run) && { run }) } });
    announce("Cell deleted");
  }

  undoRemove(): string | undefined {
    const { deleted } = this.state;
    if (deleted === undefined) return undefined;
    this.setCells(restored(this.state.cells, deleted));
    this.set({ deleted: undefined });
    if (deleted.run !== undefined) this.putRun(deleted.cell.id, deleted.run, true);
    return deleted.cell.id;
  }

  move(id: string, by: number): void {
    this.setCells(moved(this.state.cells, id, by));
    announce(`Cell moved to place ${indexOf(this.state.cells, id) + 1} of ${this.state.cells.length}`);
  }

  /** Have a cell run once those before it are done. */
  run(id: string): void {
    const cell = this.state.cells[indexOf(this.state.cells, id)];
    if (cell?.kind === "python" && cell.code.trim() !== "") this.enqueue([cell]);
  }

  /** Run all cells in order, or those before one; the first that fails ends it. */
  runAll(before?: string): void {
    this.enqueue(runnable(this.state.cells, before));
  }

  /** Interrupt a cell that runs, or take one that waits out of the queue. */
  async stop(id: string): Promise<void> {
    const run = this.state.runs[id];
    if (this.unqueue((waiting) => waiting === id)) return;
    this.unqueue(() => true);
    const execution = run?.execution.execution;
    if (execution) await this.tried(() => interrupt(this.session, execution));
    else this.running.get(id)?.abort();
  }

  async stopAll(): Promise<void> {
    this.unqueue(() => true);
    await Promise.all([...this.running.keys()].map((id) => this.stop(id)));
  }

  async restart(): Promise<void> {
    this.unqueue(() => true);
    this.set({ restarting: true });
    const done = await this.tried(() => restartKernel(this.session));
    this.set({ restarting: false });
    if (done) announce("Kernel restarted. Variables are gone.");
    this.tellEnd();
  }

  clearOutput(id: string): void {
    if (!isActive(this.state.runs[id])) this.forgetRun(id);
  }

  clearOutputs(): void {
    for (const id of Object.keys(this.state.runs)) this.clearOutput(id);
    announce("Outputs cleared");
  }

  dismiss(): void {
    this.set({ problem: undefined, deleted: undefined });
  }

  /** Keep what was typed now, for a page that is about to go. */
  flush(): void {
    if (this.saving === undefined) return;
    clearTimeout(this.saving);
    this.saving = undefined;
    void savePart(this.session, "cells", { cells: this.state.cells });
  }

  /** End everything: the session was removed. */
  forget(): void {
    this.forgotten = true;
    clearTimeout(this.saving);
    this.saving = undefined;
    this.queue = [];
    for (const control of this.running.values()) control.abort();
    known.delete(this.session);
  }

  private async load(): Promise<void> {
    onSaved(this.session, (name) => void this.saved(name));
    let problem: string | undefined;
    const cells = await untilLoaded(
      async () => parsedCells(await loadPart(this.session, "cells")),
      (error) => this.set({ problem: (problem = `${wordsOf(error)} It is tried again.`) }),
      () => !this.forgotten,
    );
    if (cells === undefined) return;
    // An output that cannot be read is not shown; what is kept of it stays until the cell runs again.
    const kept = await Promise.all(
      cells.map(async ({ id }) => parsedRun(await loadPart(this.session, outputPart(id)).catch(() => undefined))),
    );
    const runs: Record<string, CellRun> = {};
    const running: [string, ShownExecution][] = [];
    cells.forEach(({ id }, index) => {
      const execution = kept[index];
      if (execution !== undefined && isOver(execution.status)) runs[id] = { execution };
      else if (execution !== undefined) running.push([id, execution]);
    });
    const solved = problem !== undefined && this.state.problem === problem;
    this.set({ loaded: true, cells, runs, ...(solved && { problem: undefined }) });
    for (const name of this.missed) void this.saved(name);
    await Promise.all(running.map(([id, execution]) => this.attach(id, execution)));
  }

  private async loadRun(id: string): Promise<void> {
    const kept = await loadPart(this.session, outputPart(id)).then(
      (part) => ({ execution: parsedRun(part) }),
      () => undefined,
    );
    if (kept === undefined || this.running.has(id) || this.isQueued(id)) return;
    const { execution } = kept;
    if (execution === undefined) {
      if (this.state.runs[id] !== undefined) this.set({ runs: withoutKey(this.state.runs, id) });
    } else if (isOver(execution.status)) this.putRun(id, { execution }, false);
    else await this.attach(id, execution);
  }

  /** Go on showing what was running when the page was left. */
  private async attach(id: string, execution: ShownExecution): Promise<void> {
    await this.carry(id, (signal, put) => followCell(this.session, execution, signal, put));
  }

  /** Another tab has kept something. What is typed here and not kept yet wins; what cannot be read changes nothing. */
  private async saved(name: string): Promise<void> {
    if (!this.state.loaded) this.missed.add(name);
    else if (name === "cells" && this.saving === undefined) {
      const cells = await loadPart(this.session, "cells").then(parsedCells, () => undefined);
      if (cells !== undefined && this.saving === undefined) this.set({ cells });
    } else if (name.startsWith(OUTPUT)) await this.loadRun(name.slice(OUTPUT.length));
  }

  private enqueue(cells: readonly NotebookCell[]): void {
    const { runs } = this.state;
    const fresh = cells.filter(({ id }) => !this.isQueued(id) && !isActive(runs[id]));
    this.queue.push(...fresh.map(({ id, code }) => ({ id, code, before: runs[id] })));
    const waiting = Object.fromEntries(fresh.map(({ id }) => [id, waitingRun(runs[id])]));
    this.set({ runs: { ...runs, ...waiting }, deleted: undefined, problem: undefined });
    void this.work();
  }

  private async work(): Promise<void> {
    if (this.working) return;
    this.working = true;
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      const { id, code, before } = next;
      const last = await this.carry(id, (signal, put) => runCell(this.session, code, before, signal, put));
      if (last === undefined) this.revert(id, before);
      if (last?.problem !== undefined || last?.execution.status !== "ok") this.unqueue(() => true);
    }
    this.working = false;
  }

  private async carry(
    id: string,
    begin: (signal: AbortSignal, put: (run: CellRun) => void) => Promise<CellRun | undefined>,
  ): Promise<CellRun | undefined> {
    const control = new AbortController();
    this.running.set(id, control);
    let named = "";
    const last = await begin(control.signal, (run) => {
      if (!this.isThere(id)) return;
      const isNew = run.execution.execution !== named;
      named = run.execution.execution;
      this.putRun(id, run, isNew);
    });
    this.running.delete(id);
    if (last !== undefined && this.isThere(id)) {
      this.putRun(id, last, true);
      announceEnd(last);
    }
    this.tellEnd();
    return last;
  }

  /** Take cells that wait out of the queue; they show again what they showed before. */
  private unqueue(which: (id: string) => boolean): boolean {
    const out = this.queue.filter(({ id }) => which(id));
    this.queue = this.queue.filter(({ id }) => !which(id));
    for (const { id, before } of out) this.revert(id, before);
    return out.length > 0;
  }

  private revert(id: string, before: CellRun | undefined): void {
    const runs = withoutKey(this.state.runs, id);
    this.set({ runs: before === undefined ? runs : { ...runs, [id]: before } });
  }

  private async tried(action: () => Promise<void>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (error) {
      this.set({ problem: wordsOf(error) });
      return false;
    }
  }

  private putRun(id: string, run: CellRun, keep: boolean): void {
    this.set({ runs: { ...this.state.runs, [id]: run } });
    if (keep && shownOf(run)?.execution) void savePart(this.session, outputPart(id), keptOf(this.session, run));
  }

  private forgetRun(id: string): void {
    this.set({ runs: withoutKey(this.state.runs, id) });
    void savePart(this.session, outputPart(id), undefined);
  }

  private isQueued(id: string): boolean {
    return this.queue.some((waiting) => waiting.id === id);
  }

  private isThere(id: string): boolean {
    return indexOf(this.state.cells, id) >= 0;
  }

  /** Nothing is saved over cells that have not been read. */
  private setCells(cells: readonly NotebookCell[]): void {
    if (!this.state.loaded) return;
    this.set({ cells });
    this.saving ??= setTimeout(() => this.flush(), SAVE_AFTER_MS);
  }

  private tellEnd(): void {
    for (const listener of [...this.endListeners]) listener();
  }

  private set(change: Partial<NotebookState>): void {
    this.state = { ...this.state, ...change };
    for (const listener of [...this.listeners]) listener();
  }
}

const OUTPUT = "out-";

/** The name under which a cell's last run is kept with its session. */
export function outputPart(id: string): string {
  return OUTPUT + id;
}

function withoutKey<T>(record: Readonly<Record<string, T>>, key: string): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([name]) => name !== key));
}
