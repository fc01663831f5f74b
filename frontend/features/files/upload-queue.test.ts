import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { afterAll, afterEach, beforeAll, expect, it, onTestFinished } from "vitest";
import { newId } from "@/lib/ids";
import { type Upload, UploadQueue } from "./upload-queue";

/** A server of the functions' shape that keeps what is put, and answers one file's PUT as a test says. */
type Answer = (request: IncomingMessage, reply: ServerResponse) => void;

let server: Server;
let stored: Map<string, string>;
let answers: Map<string, Answer[]>;
let asked: string[];

beforeAll(async () => {
  server = createServer((request, reply) => void answer(request, reply));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address === "string" || address === null) throw new Error("no port");
  (window as unknown as { happyDOM: { setURL(url: string): void } }).happyDOM.setURL(
    `http://127.0.0.1:${address.port}/`,
  );
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

afterEach(() => {
  localStorage.clear();
});

async function answer(request: IncomingMessage, reply: ServerResponse): Promise<void> {
  const path = decodeURIComponent(request.url ?? "");
  const name = path.slice(path.lastIndexOf("/") + 1);
  asked.push(`${request.method ?? ""} ${name}`);
  if (path === "/config.json") return json(reply, 200, { max_upload_bytes: 1000, upload_types: [".csv"] });
  if (name === "initialize") return json(reply, 200, {});
  if (name === "files") {
    const files = [...stored].map(([key, text]) => ({
      path: key,
      size_bytes: text.length,
      media_type: "text/csv",
      modified_at: "2024-01-01T00:00:00Z",
    }));
    return json(reply, 200, { files });
  }
  const special = answers.get(name)?.shift();
  if (special !== undefined) return special(request, reply);
  let text = "";
  for await (const chunk of request) text += String(chunk);
  stored.set(name, text);
  return json(reply, 201, {});
}

function json(reply: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  reply.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));
}

function refusal(status: number, code: string, message: string, headers?: Record<string, string>): Answer {
  return (request, reply) => {
    request.resume();
    json(reply, status, { error: { code, message } }, headers);
  };
}

function newQueue(special: Record<string, Answer[]> = {}): UploadQueue {
  stored = new Map();
  asked = [];
  answers = new Map(Object.entries(special));
  return new UploadQueue(newId("s"));
}

function file(name: string, text = "a,b\n1,2\n"): File {
  return new File([text], name);
}

/** Wait until the queue looks as it should. */
function until(queue: UploadQueue, isSo: (items: readonly Upload[]) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (isSo(queue.store.getState().items)) resolve();
    };
    onTestFinished(queue.store.subscribe(look));
    look();
  });
}

const settled = (items: readonly Upload[]): boolean =>
  items.length > 0 && items.every(({ state }) => state !== "waiting" && state !== "sending");

function seen(queue: UploadQueue): unknown[] {
  return queue.store.getState().items.map(({ name, state, problem }) => [name, state, problem]);
}

it("uploads files as they are, after the session is there", async () => {
  const queue = newQueue();
  let told = 0;
  queue.listen(() => (told += 1));
  await queue.add([file("one.csv", "x\n1\n"), file("zwei & drei.csv")]);
  await until(queue, settled);
  expect(Object.fromEntries(stored)).toEqual({ "one.csv": "x\n1\n", "zwei & drei.csv": "a,b\n1,2\n" });
  expect(asked.filter((line) => !line.startsWith("PUT")).slice(-2)).toEqual(["POST initialize", "GET files"]);
  expect(told).toBe(3);
});

it("tells what is not taken without sending it, and sends the rest", async () => {
  const queue = newQueue();
  await queue.add(
    [file("a.exe"), file("b.csv", "x".repeat(1001)), file("c.csv", ""), file("d.csv")],
    [{ name: "folder", problem: "folder is a folder." }],
  );
  await until(queue, settled);
  expect(seen(queue)).toEqual([
    ["a.exe", "refused", "a.exe is not taken: CSV files are."],
    ["b.csv", "refused", "b.csv has 1.0 KB; at most 1.0 KB is taken."],
    ["c.csv", "refused", "c.csv is empty, so there is nothing to upload."],
    ["d.csv", "done", undefined],
    ["folder", "refused", "folder is a folder."],
  ]);
  expect([...stored.keys()]).toEqual(["d.csv"]);
});

it("says that a file took the place of its namesake, and keeps the one that was added last", async () => {
  const queue = newQueue();
  stored.set("a.csv", "old");
  await queue.add([file("a.csv", "first"), file("a.csv", "second")]);
  await until(queue, settled);
  expect(stored.get("a.csv")).toBe("second");
  expect(queue.store.getState().items.map(({ state, replaces }) => [state, replaces])).toEqual([["done", true]]);
});

it("shows a refusal in the server's words", async () => {
  const queue = newQueue({ "a.csv": [refusal(415, "unsupported_type", "'a.csv' holds no text.")] });
  await queue.add([file("a.csv")]);
  await until(queue, settled);
  expect(seen(queue)).toEqual([["a.csv", "refused", "'a.csv' holds no text."]]);
});

it("waits once for a server that has too much to do", async () => {
  const busy = refusal(429, "quota_exceeded", "Too many uploads.", { "Retry-After": "0" });
  const queue = newQueue({ "a.csv": [busy], "b.csv": [busy, busy] });
  await queue.add([file("a.csv"), file("b.csv")]);
  await until(queue, settled);
  expect(seen(queue)).toEqual([
    ["a.csv", "done", undefined],
    ["b.csv", "failed", "Too many uploads."],
  ]);
});

it("tries again when the connection broke and the user says so", async () => {
  const queue = newQueue({ "a.csv": [(request) => request.socket.destroy()] });
  await queue.add([file("a.csv")]);
  await until(queue, settled);
  expect(seen(queue)[0]).toEqual(["a.csv", "failed", expect.stringContaining("cannot be reached")]);
  queue.retry(queue.store.getState().items[0]?.id ?? "");
  await until(queue, settled);
  expect(seen(queue)).toEqual([["a.csv", "done", undefined]]);
  expect(stored.get("a.csv")).toBe("a,b\n1,2\n");
});

it("cancels one that is being sent, and goes on with those that wait", async () => {
  const held: Array<() => void> = [];
  const arrived = new Promise<void>((resolve) => held.push(resolve));
  const silent: Answer = (request) => {
    request.resume();
    held[0]?.();
  };
  const queue = newQueue({ "a.csv": [silent], "b.csv": [silent] });
  await queue.add([file("a.csv"), file("b.csv"), file("c.csv")]);
  await arrived;
  const [a, b] = queue.store.getState().items;
  queue.cancel(a?.id ?? "");
  await until(queue, ([, , c]) => c?.state === "done");
  queue.cancel(b?.id ?? "");
  await until(queue, settled);
  expect(seen(queue)).toEqual([
    ["a.csv", "cancelled", undefined],
    ["b.csv", "cancelled", undefined],
    ["c.csv", "done", undefined],
  ]);
  queue.clearDone();
  expect(seen(queue)).toEqual([]);
});

it("gives the key", async () => {
  localStorage.setItem("caesarion.key", "k-1");
  const keys: unknown[] = [];
  const queue = newQueue({
    "a.csv": [
      (request, reply) => {
        keys.push(request.headers.authorization);
        request.resume();
        json(reply, 201, {});
      },
    ],
  });
  await queue.add([file("a.csv")]);
  await until(queue, settled);
  expect(keys).toEqual(["Bearer k-1"]);
});
