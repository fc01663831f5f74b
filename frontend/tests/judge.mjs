// Judges one stream of the chat function with the client that chat pages use: the AI SDK's transport, chunk schema
// and message reader.
//
// Reads one job as JSON from stdin:
//   {api, id, mode: "send" | "resume", text? | messages?, trigger?, messageId?, headers?, abortAfterChunks?, live?}
// Writes one line of JSON: {status, headers, chunks, message, errors}. `errors` says what a page would stumble over,
// and what the protocol asks for beyond that; the text of an `error` chunk is not among them, it is a proper end.
// With `live`, a line {"chunk": ...} for each chunk comes before, as it arrives.
import { DefaultChatTransport, readUIMessageStream, validateUIMessages } from "ai";

const ENDS = ["finish", "error", "abort"];
const OPEN_STATES = ["streaming", "input-streaming", "input-available"];
const DONE = "data: [DONE]\n\n";

const print = (value) => new Promise((resolve) => process.stdout.write(`${JSON.stringify(value)}\n`, resolve));

async function readJob() {
  let text = "";
  for await (const piece of process.stdin.setEncoding("utf8")) text += piece;
  return JSON.parse(text);
}

function messagesOf(job) {
  return job.messages ?? [{ id: "message-1", role: "user", parts: [{ type: "text", text: job.text }] }];
}

/** Remember the last characters of what passes through. */
function tail(seen) {
  const decoder = new TextDecoder();
  return new TransformStream({
    transform(bytes, controller) {
      seen.tail = (seen.tail + decoder.decode(bytes, { stream: true })).slice(-DONE.length);
      controller.enqueue(bytes);
    },
  });
}

function fetchInto(verdict, seen) {
  return async (url, options) => {
    const response = await fetch(url, options);
    verdict.status = response.status;
    verdict.headers = Object.fromEntries(response.headers);
    if (response.status !== 200) return response;
    if (!/^text\/event-stream\b/.test(verdict.headers["content-type"] ?? "")) {
      verdict.errors.push(`content-type is ${verdict.headers["content-type"]}, not text/event-stream`);
    }
    if (verdict.headers["x-vercel-ai-ui-message-stream"] !== "v1") {
      verdict.errors.push("the header x-vercel-ai-ui-message-stream: v1 is missing");
    }
    const { status, headers } = response;
    return new Response(response.body.pipeThrough(tail(seen)), { status, headers });
  };
}

/** Keep and print the chunks that have passed the transport's schema, and leave after so many when asked to. */
function recorder(job, verdict, leave) {
  return new TransformStream({
    async transform(chunk, controller) {
      verdict.chunks.push(chunk);
      if (job.live) await print({ chunk });
      controller.enqueue(chunk);
      if (verdict.chunks.length === job.abortAfterChunks) leave.abort();
    },
  });
}

function checkEnd(verdict, seen) {
  const ends = verdict.chunks.filter(({ type }) => ENDS.includes(type));
  if (ends.length !== 1) verdict.errors.push(`${ends.length} chunks of type finish, error or abort, not one`);
  else if (ends[0] !== verdict.chunks.at(-1)) verdict.errors.push(`chunks come after ${ends[0].type}`);
  if (seen.tail !== DONE) verdict.errors.push(`the stream ends without data: [DONE]: ${JSON.stringify(seen.tail)}`);
  if (verdict.chunks.at(-1)?.type !== "finish") return;
  for (const { type, state } of verdict.message?.parts ?? []) {
    if (OPEN_STATES.includes(state)) verdict.errors.push(`after finish, a ${type} part is still ${state}`);
  }
}

async function judge(job) {
  const verdict = { status: null, headers: {}, chunks: [], message: null, errors: [] };
  const seen = { tail: "" };
  const leave = new AbortController();
  const note = (error) => {
    const ownLeaving = leave.signal.aborted && error?.name === "AbortError";
    const said = verdict.chunks.some(({ type, errorText }) => type === "error" && errorText === error?.message);
    if (!ownLeaving && !said) verdict.errors.push(String(error?.message ?? error));
  };
  const transport = new DefaultChatTransport({ api: job.api, headers: job.headers, fetch: fetchInto(verdict, seen) });
  try {
    const stream =
      job.mode === "resume"
        ? await transport.reconnectToStream({ chatId: job.id, abortSignal: leave.signal })
        : await transport.sendMessages({
            chatId: job.id,
            messages: messagesOf(job),
            trigger: job.trigger ?? "submit-message",
            messageId: job.messageId,
            abortSignal: leave.signal,
          });
    if (stream === null) return verdict;
    const recorded = stream.pipeThrough(recorder(job, verdict, leave));
    for await (const message of readUIMessageStream({ stream: recorded, onError: note })) verdict.message = message;
    if (!leave.signal.aborted) checkEnd(verdict, seen);
    if (verdict.message?.parts.length) await validateUIMessages({ messages: [verdict.message] });
  } catch (error) {
    note(error);
  }
  return verdict;
}

await print(await judge(await readJob()));
process.exit(0);
