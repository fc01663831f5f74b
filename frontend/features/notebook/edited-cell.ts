import { z } from "@/lib/zod";
import { loadPart, savePart } from "@/features/sessions/store";
import { isOver } from "@/lib/outputs";
import { announceEnd, type CellRun, followCell, isActive, keptOf, parsedRun, runCell } from "./cell-run";
import { interrupt } from "./run";

/** A chat's cell that the user has edited and run again. Lives as long as the page, whether the cell is in view or not. */
export interface EditedState {
  /** Undefined when the cell is as the model wrote it. */
  edited?: { code: string; run: CellRun };
  /** Whether the original is shown although there is an edited run. */
  original: boolean;
}

const keptSchema = z.object({ code: z.string(), execution: z.unknown() });
const known = new Map<string, EditedCell>();

export function editedCell(session: string, id: string): EditedCell {
  const name = `${session}/${id}`;
  const cell = known.get(name) ?? new EditedCell(session, id);
  known.set(name, cell);
  return cell;
}

export class EditedCell {
  private state: EditedState = { original: false };
  private readonly listeners = new Set<() => void>();
  private running: AbortController | undefined;
  private loading: Promise<void> | undefined;

  constructor(
    private readonly session: string,
    private readonly id: string,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    this.loading ??= this.load();
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): EditedState => this.state;

  async run(code: string, onEnd: () => void): Promise<void> {
    const before = this.state.edited?.run;
    await this.carry(code, (signal, put) => runCell(this.session, code, before, signal, put), true);
    onEnd();
  }

  async stop(): Promise<void> {
    const execution = this.state.edited?.run.execution.execution;
    if (execution) await interrupt(this.session, execution);
    else this.running?.abort();
  }

  showOriginal(original: boolean): void {
    this.set({ ...this.state, original });
  }

  private async load(): Promise<void> {
    const kept = keptSchema.safeParse(await loadPart(this.session, this.part).catch(() => undefined));
    const execution = kept.success ? parsedRun(kept.data.execution) : undefined;
    if (!kept.success || execution === undefined || this.state.edited !== undefined) return;
    const { code } = kept.data;
    if (isOver(execution.status)) this.set({ ...this.state, edited: { code, run: { execution } } });
    else await this.carry(code, (signal, put) => followCell(this.session, execution, signal, put), false);
  }

  private async carry(
    code: string,
    begin: (signal: AbortSignal, put: (run: CellRun) => void) => Promise<CellRun | undefined>,
    isNew: boolean,
  ): Promise<void> {
    this.running?.abort();
    const control = new AbortController();
    this.running = control;
    const before = this.state.edited;
    let named = "";
    const put = (run: CellRun): void => {
      this.set({ edited: { code, run }, original: false });
      if (run.execution.execution === named) return;
      named = run.execution.execution;
      void this.keep();
    };
    const last = await begin(control.signal, put);
    if (this.running !== control) return;
    this.running = undefined;
    if (last === undefined) this.set({ edited: isNew ? before : this.state.edited, original: false });
    else {
      announceEnd(last);
      await this.keep();
    }
  }

  private async keep(): Promise<void> {
    const { edited } = this.state;
    if (edited === undefined || edited.run.execution.execution === "") return;
    await savePart(this.session, this.part, { code: edited.code, execution: keptOf(this.session, edited.run) });
  }

  private get part(): string {
    return `cell-${this.id}`;
  }

  private set(state: EditedState): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}

export function isRunning(state: EditedState): boolean {
  return isActive(state.edited?.run);
}
