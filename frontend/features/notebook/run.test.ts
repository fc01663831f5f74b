// @vitest-environment node
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { ShownExecution } from "@/lib/outputs";

/** A server that answers as execute does, and writes down what it was asked. */
type Answer = (request: IncomingMessage, response: ServerResponse, body: string) => void;

const TIMING = { firstWaitMs: 1, heardWithinMs: 10_000, goodAfterMs: 10_000 };
let server: Server;
let answers: Record<string, Answer[]>;
let asked: { line: string; key?: string; body: string }[];
let run: typeof import("./run");

beforeEach(async () => {
  answers = {};
  asked = [];
  server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const line = `${request.method} ${request.url}`;
      const body = Buffer.concat(parts).toString();
      const key = request.headers["idempotency-key"];
      asked.push({ line, body, ...(typeof key === "string" && { key }) });
      const next = answers[line]?.shift();
      if (next) next(request, response, body);
      else failure(418, "unexpected", `nothing is expected at ${line}`)(request, response, body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  vi.resetModules();
  vi.doMock("@/lib/config", () => ({ loadConfig: async () => ({ execute_url: url, chat_url: url }) }));
  run = await import("./run");
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function failure(status: number, code: string, message: string, headers: Record<string, string> = {}): Answer {
  return (_, response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify({ error: { code, message, id: "r_1" } }));
  };
}

function json(value: unknown, status = 200, headers: Record<string, string> = {}): Answer {
  return (_, response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };
}

function outputs(lines: object[], { cut = false, execution = "e1" } = {}): Answer {
  return (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream", "X-Execution-Id": execution });
    const text = lines.map((line) => `id: 1\ndata: ${JSON.stringify(line)}\n\n`).join("");
    if (cut) response.write(text, () => response.destroy());
    else response.end(`: still running\n\n${text}`);
  };
}

const READY = json({ id: "s", state: "ready" });
const STARTED = { seq: 1, type: "started", execution: "e1", context: "default", execution_count: 3 };
const said = (seq: number, text: string): object => ({ seq, type: "stream", name: "stdout", text });
const finished = (seq: number, status = "ok"): object => ({ seq, type: "finished", status, duration_ms: 12.5 });
const INITIALIZE = "POST /sessions/s/initialize?wait_s=25";
const RUN = "POST /sessions/s/executions";

async function ran(onState: (state: ShownExecution) => void = () => undefined): Promise<ShownExecution> {
  return run.runCode("s", "1", { executionKey: "k1", onState }, TIMING);
}

function textOf(state: ShownExecution): string {
  return state.outputs.map((output) => (output.type === "stream" ? output.text : output.type)).join("|");
}

test("a new session is made first, waited for while it starts, and the code runs once", async () => {
  answers[INITIALIZE] = [json({ id: "s", state: "starting" }, 202, { "Retry-After": "0" }), READY];
  answers[RUN] = [outputs([STARTED, said(2, "hello\n"), finished(3)])];
  const state = await ran();
  expect(state).toMatchObject({ execution: "e1", status: "ok", execution_count: 3, duration_ms: 12.5 });
  expect(textOf(state)).toBe("hello\n");
  expect(asked.map(({ line }) => line)).toEqual([INITIALIZE, INITIALIZE, RUN]);
  expect(asked[2]).toMatchObject({ key: "k1", body: '{"code":"1"}' });
});

test("a session that was swept since is made again and the code is sent again under the same key", async () => {
  answers[INITIALIZE] = [READY, READY];
  answers[RUN] = [
    outputs([STARTED, finished(2)]),
    failure(404, "session_not_found", "There is no session."),
    outputs([STARTED, finished(2)]),
  ];
  await ran();
  expect((await ran()).status).toBe("ok");
  expect(asked.map(({ line }) => line)).toEqual([INITIALIZE, RUN, RUN, INITIALIZE, RUN]);
});

test("outputs go on where they were when the connection breaks, without loss and without doubles", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [outputs([STARTED, said(2, "a"), said(3, "b")], { cut: true })];
  answers["GET /sessions/s/executions/e1/outputs?after=3"] = [outputs([said(3, "b"), said(4, "c")], { cut: true })];
  answers["GET /sessions/s/executions/e1/outputs?after=4"] = [
    failure(503, "sandbox_unavailable", "Busy.", { "Retry-After": "0" }),
    outputs([said(5, "d"), finished(6)]),
  ];
  const connecting: boolean[] = [];
  const state = await run.runCode(
    "s",
    "1",
    { executionKey: "k1", onState: () => undefined, onReconnecting: (now) => connecting.push(now) },
    TIMING,
  );
  expect(textOf(state)).toBe("abcd");
  expect(connecting[0]).toBe(true);
  expect(connecting.at(-1)).toBe(false);
});

test("a request that got no answer is sent again under its key, so that the code runs once", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [(_, response) => response.destroy(), outputs([STARTED, finished(2)])];
  expect((await ran()).status).toBe("ok");
  expect(asked.filter(({ line }) => line === RUN).map(({ key }) => key)).toEqual(["k1", "k1"]);
});

test("a connection on which nothing is heard any more is made again", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [
    (_, response) => {
      response.writeHead(200, { "X-Execution-Id": "e1" });
      response.write(`data: ${JSON.stringify(STARTED)}\n\n`);
    },
  ];
  answers["GET /sessions/s/executions/e1/outputs?after=1"] = [outputs([finished(2)])];
  const state = await run.runCode(
    "s",
    "1",
    { executionKey: "k1", onState: () => undefined },
    { ...TIMING, heardWithinMs: 20 },
  );
  expect(state.status).toBe("ok");
});

test("a silent run is watched to its end, however often its connections break after a while", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [outputs([STARTED], { cut: true })];
  answers["GET /sessions/s/executions/e1/outputs?after=1"] = [
    ...Array.from({ length: 12 }, () => outputs([])),
    outputs([finished(2)]),
  ];
  const connecting: boolean[] = [];
  const state = await run.runCode(
    "s",
    "1",
    { executionKey: "k1", onState: () => undefined, onReconnecting: (now) => connecting.push(now) },
    { ...TIMING, goodAfterMs: 0 },
  );
  expect(state.status).toBe("ok");
  expect(connecting.slice(0, 26)).toEqual(Array.from({ length: 26 }, (_, index) => index % 2 === 0));
});

test("a run whose connections always break at once is given up", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [outputs([STARTED])];
  const line = "GET /sessions/s/executions/e1/outputs?after=1";
  answers[line] = Array.from({ length: 20 }, () => outputs([]));
  await expect(ran()).rejects.toThrow();
  expect(asked.filter((one) => one.line === line)).toHaveLength(8);
});

test("outputs of a type that this page does not know are left out, and what comes after them is shown", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [outputs([STARTED, { seq: 2, type: "hologram", data: 1 }], { cut: true })];
  answers["GET /sessions/s/executions/e1/outputs?after=2"] = [outputs([said(3, "x"), finished(4)])];
  expect(textOf(await ran())).toBe("x");
});

test("many small prints are shown in few steps, the last state always", async () => {
  answers[INITIALIZE] = [READY];
  const prints = Array.from({ length: 2_000 }, (_, index) => said(index + 2, "."));
  answers[RUN] = [outputs([STARTED, ...prints, finished(2_002, "error")])];
  const states: ShownExecution[] = [];
  await ran((state) => states.push(state));
  expect(states.length).toBeLessThan(200);
  expect(states.at(-1)).toMatchObject({ status: "error" });
  expect(textOf(states.at(-1) as ShownExecution)).toHaveLength(2_000);
});

test("too many runs at once are refused in words that say when to try again", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [failure(429, "quota_exceeded", "Too many executions.", { "Retry-After": "7" })];
  await expect(ran()).rejects.toThrow("Too many executions. Try again in 7 seconds.");
});

test("a run is shown again after a reload, from its first output", async () => {
  answers["GET /sessions/s/executions/e1"] = [
    json({ id: "e1", status: "running", started_at: "2026-01-01T00:00:00Z" }),
  ];
  answers["GET /sessions/s/executions/e1/outputs?after=0"] = [outputs([STARTED, said(2, "again"), finished(3)])];
  const state = await run.follow("s", "e1", { onState: () => undefined }, TIMING);
  expect(textOf(state)).toBe("again");
});

test("a run whose sandbox or outputs are gone says so and what to do", async () => {
  answers["GET /sessions/s/executions/e1"] = [
    failure(404, "session_not_found", "There is no session."),
    failure(410, "gone", "The outputs are no longer kept."),
  ];
  const gone = run.follow("s", "e1", { onState: () => undefined }, TIMING);
  await expect(gone).rejects.toThrow("The sandbox of this session is gone. Run the cell to get a new one.");
  const dropped = run.follow("s", "e1", { onState: () => undefined }, TIMING);
  await expect(dropped).rejects.toThrow("no longer kept. Run the cell again.");
});

test("who stops watching ends with the signal's reason, and the code is not interrupted", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [
    (_, response) => {
      response.writeHead(200, { "X-Execution-Id": "e1" });
      response.write(`data: ${JSON.stringify(STARTED)}\n\n`);
    },
  ];
  const control = new AbortController();
  const watching = run.runCode(
    "s",
    "1",
    {
      executionKey: "k1",
      signal: control.signal,
      onState: (state) => state.status === "running" && control.abort(new Error("left")),
    },
    TIMING,
  );
  await expect(watching).rejects.toThrow("left");
  expect(asked.map(({ line }) => line)).toEqual([INITIALIZE, RUN]);
});

test("a stop of what has ended already is no failure, other refusals are told", async () => {
  const line = "DELETE /sessions/s/executions/e1";
  answers[line] = [failure(404, "execution_not_found", "None."), failure(403, "forbidden", "Not yours.")];
  await run.interrupt("s", "e1");
  await expect(run.interrupt("s", "e1")).rejects.toThrow("Not yours.");
});

test("completion counts characters as the kernel does and as the editor does", async () => {
  answers[INITIALIZE] = [READY];
  answers[RUN] = [outputs([STARTED, finished(2)])];
  await ran();
  answers["POST /sessions/s/contexts/default/complete"] = [
    (_, response, body) => {
      expect(JSON.parse(body)).toEqual({ code: "'😀'; pri", cursor_pos: 8 });
      json({ matches: ["print"], cursor_start: 5, cursor_end: 8 })(_, response, body);
    },
  ];
  expect(await run.complete("s", "'😀'; pri", 9)).toEqual({ matches: ["print"], from: 6, to: 9 });
});
