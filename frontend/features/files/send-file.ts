import { ApiError, authorization, failureFrom, unreachable, urlOf } from "@/lib/api";
import { askForKey } from "@/lib/key";
import { filePath } from "./file-list";

export interface Sending {
  session: string;
  name: string;
  file: File;
  signal: AbortSignal;
  /** Called with the bytes that have left this machine, as often as the browser says. */
  onSent(sentBytes: number): void;
}

/**
 * Put one file into a session, in place of its namesake.
 *
 * XMLHttpRequest rather than fetch, which tells nothing of how much was sent. Throws ApiError, or the signal's reason.
 */
export async function sendFile({ session, name, file, signal, onSent }: Sending): Promise<void> {
  const url = await urlOf("execute", filePath(session, name));
  const answer = await put(url, file, signal, onSent);
  if (answer === undefined) throw (await isReadable(file)) ? unreachable() : unreadable(name);
  if (answer.status >= 200 && answer.status < 300) return;
  if (answer.status === 401) askForKey(true);
  throw failureFrom(answer.body, answer.status, answer.retryAfter);
}

interface Answer {
  status: number;
  body: string;
  retryAfter: string | null;
}

/** Return the server's answer, or undefined when there was none. */
function put(
  url: string,
  file: File,
  signal: AbortSignal,
  onSent: (sentBytes: number) => void,
): Promise<Answer | undefined> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const xhr = new XMLHttpRequest();
    const abort = (): void => xhr.abort();
    signal.addEventListener("abort", abort);
    xhr.upload.addEventListener("progress", (event) => onSent(Math.min(event.loaded, file.size)));
    xhr.addEventListener("load", () =>
      resolve({ status: xhr.status, body: xhr.responseText, retryAfter: xhr.getResponseHeader("retry-after") }),
    );
    xhr.addEventListener("error", () => resolve(undefined));
    xhr.addEventListener("abort", () => reject(signal.reason));
    xhr.addEventListener("loadend", () => signal.removeEventListener("abort", abort));
    xhr.open("PUT", url);
    for (const [header, value] of Object.entries(authorization())) xhr.setRequestHeader(header, value);
    xhr.setRequestHeader("Content-Type", "application/octet-stream");
    xhr.send(file);
  });
}

/** Whether this browser can still read the file: one that changed on the disk since it was chosen cannot be sent. */
async function isReadable(file: File): Promise<boolean> {
  return file
    .slice(0, 1)
    .arrayBuffer()
    .then(
      () => true,
      () => false,
    );
}

function unreadable(name: string): ApiError {
  return new ApiError(
    `${name} cannot be read: it changed or went away since you chose it, or it is a folder. Choose it again.`,
    "file_unreadable",
    0,
  );
}
