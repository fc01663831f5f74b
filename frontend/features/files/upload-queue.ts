import { createStore } from "zustand/vanilla";
import { announce } from "@/lib/announce";
import { ApiError, request, wordsOf } from "@/lib/api";
import { loadConfig } from "@/lib/config";
import { count } from "@/lib/format";
import { newId } from "@/lib/ids";
import { problemOf } from "./checks";
import { listFiles } from "./file-list";
import { sendFile } from "./send-file";

export interface Upload {
  id: string;
  name: string;
  size_bytes: number;
  sent_bytes: number;
  state: "waiting" | "sending" | "done" | "refused" | "failed" | "cancelled";
  /** What is wrong and what to do, for `refused` and `failed`. */
  problem?: string;
  /** What is waited for while nothing is sent. */
  waitsFor?: "sandbox" | "server";
  /** Whether the session had a file of this name, which this one takes the place of. */
  replaces?: boolean;
}

/** Something that cannot be sent, such as a folder, and why. */
export interface Refusal {
  name: string;
  problem: string;
}

const AT_ONCE = 2;
/** The longest that an upload waits for a server that has too much to do, before the user is asked. */
const MAX_WAIT_S = 20;
/** Refusals that another try cannot change. */
const FINAL = new Set([
  "empty_file",
  "file_too_large",
  "file_unreadable",
  "invalid_path",
  "too_large",
  "unsupported_type",
]);

/** A session's uploads in this tab: checked, sent two at a time in the order in which they came, and told. */
export class UploadQueue {
  readonly store = createStore<{ items: readonly Upload[] }>(() => ({ items: [] }));
  readonly #session: string;
  readonly #files = new Map<string, File>();
  readonly #running = new Map<string, AbortController>();
  readonly #listeners = new Set<() => void>();
  /** The names of the session's files, once its sandbox is there. Asked for once while uploads run. */
  #ready: Promise<Set<string>> | undefined;

  constructor(session: string) {
    this.#session = session;
  }

  /** Take files in, and refuse at once those that the server would. */
  async add(files: readonly File[], refusals: readonly Refusal[] = []): Promise<void> {
    const known = await loadConfig().catch((error: unknown) => wordsOf(error));
    const added = files.map((file): Upload => {
      const item = { id: newId("upload"), name: file.name.normalize("NFC"), size_bytes: file.size, sent_bytes: 0 };
      this.#files.set(item.id, file);
      if (typeof known === "string") return { ...item, state: "failed", problem: known };
      const problem = problemOf({ name: item.name, size: file.size }, known);
      return problem === undefined ? { ...item, state: "waiting" } : { ...item, state: "refused", problem };
    });
    for (const { name, problem } of refusals) {
      added.push({ id: newId("upload"), name, size_bytes: 0, sent_bytes: 0, state: "refused", problem });
    }
    this.store.setState(({ items }) => ({ items: [...items, ...added] }));
    const problems = added.flatMap(({ problem }) => problem ?? []);
    if (problems.length > 3) announce(`${count(problems.length, "file")} cannot be uploaded. ${problems[0] ?? ""}`);
    else if (problems.length > 0) announce(problems.join(" "));
    this.#pump();
  }

  cancel(id: string): void {
    this.#running.get(id)?.abort();
    this.#change(id, (item) => (item.state === "waiting" ? { state: "cancelled" } : {}));
  }

  retry(id: string): void {
    this.#change(id, (item) =>
      item.state === "failed" || item.state === "cancelled"
        ? { state: "waiting", sent_bytes: 0, problem: undefined }
        : {},
    );
    this.#pump();
  }

  dismiss(id: string): void {
    this.#running.get(id)?.abort();
    this.#forget((item) => item.id === id);
  }

  clearDone(): void {
    this.#forget(({ state }) => state === "done" || state === "cancelled");
  }

  /** Call one of those who listen when the sandbox was started for an upload and when a file came in. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #pump(): void {
    const { items } = this.store.getState();
    const names = new Set(items.filter(({ id }) => this.#running.has(id)).map(({ name }) => name));
    for (const item of items) {
      if (this.#running.size >= AT_ONCE) break;
      // Files of one name take turns, so that the one that was added last is the one that stays.
      if (item.state !== "waiting" || names.has(item.name)) continue;
      names.add(item.name);
      void this.#run(item);
    }
    if (this.#running.size === 0) this.#ready = undefined;
  }

  async #run({ id, name }: Upload): Promise<void> {
    const file = this.#files.get(id);
    if (file === undefined) return;
    const abort = new AbortController();
    this.#running.set(id, abort);
    try {
      this.#change(id, () => ({ state: "sending", waitsFor: "sandbox" }));
      const names = await abortable(this.#prepared(), abort.signal);
      this.#change(id, () => ({ waitsFor: undefined, replaces: names.has(name) }));
      await this.#sent(id, name, file, abort.signal);
      this.#forget((item) => item.name === name && item.state === "done");
      this.#change(id, (item) => ({ state: "done", sent_bytes: item.size_bytes }));
      announce(names.has(name) ? `${name} uploaded in place of the earlier one` : `${name} uploaded`);
      names.add(name);
      this.#files.delete(id);
      this.#tell();
    } catch (error) {
      if (abort.signal.aborted) {
        this.#change(id, () => ({ state: "cancelled", sent_bytes: 0, waitsFor: undefined }));
      } else {
        const problem = wordsOf(error);
        const final = error instanceof ApiError && FINAL.has(error.code);
        this.#change(id, () => ({ state: final ? "refused" : "failed", problem, waitsFor: undefined }));
        announce(`${name} was not uploaded. ${problem}`);
      }
    } finally {
      this.#running.delete(id);
      this.#pump();
    }
  }

  /** Send a file; if the server has too much to do, once more after the time it names. */
  async #sent(id: string, name: string, file: File, signal: AbortSignal): Promise<void> {
    const onSent = (sentBytes: number): void => this.#change(id, () => ({ sent_bytes: sentBytes }));
    const sending = { session: this.#session, name, file, signal, onSent };
    try {
      await sendFile(sending);
    } catch (error) {
      const waitS = error instanceof ApiError && error.status === 429 ? error.retryAfterS : undefined;
      if (waitS === undefined || waitS > MAX_WAIT_S) throw error;
      this.#change(id, () => ({ sent_bytes: 0, waitsFor: "server" }));
      await abortable(after(waitS), signal);
      this.#change(id, () => ({ waitsFor: undefined }));
      await sendFile(sending);
    }
  }

  #prepared(): Promise<Set<string>> {
    this.#ready ??= prepare(this.#session).then(
      (names) => {
        this.#tell();
        return names;
      },
      (error: unknown) => {
        this.#ready = undefined;
        throw error;
      },
    );
    return this.#ready;
  }

  #change(id: string, changed: (item: Upload) => Partial<Upload>): void {
    this.store.setState(({ items }) => ({
      items: items.map((item) => (item.id === id ? { ...item, ...changed(item) } : item)),
    }));
  }

  #forget(unwanted: (item: Upload) => boolean): void {
    const { items } = this.store.getState();
    for (const item of items) if (unwanted(item)) this.#files.delete(item.id);
    this.store.setState({ items: items.filter((item) => !unwanted(item)) });
  }

  #tell(): void {
    // All listeners do the same for the one page, so the first is enough.
    for (const listener of this.#listeners) {
      listener();
      return;
    }
  }
}

const queues = new Map<string, UploadQueue>();

export function uploadQueue(session: string): UploadQueue {
  let queue = queues.get(session);
  if (queue === undefined) {
    queue = new UploadQueue(session);
    queues.set(session, queue);
  }
  return queue;
}

/** Make or wake the session's sandbox, and return the names of its files. */
async function prepare(session: string): Promise<Set<string>> {
  while ((await request("execute", `/sessions/${session}/initialize`, { method: "POST" })).status === 202) {
    await after(1);
  }
  const files = await listFiles(session).catch(() => []);
  return new Set(files.map(({ path }) => path));
}

function after(waitS: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, waitS * 1000));
}

/** Wait for something, but no longer than until the signal. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
