import { z } from "./zod";
import { loadConfig } from "./config";
import { apiKey, askForKey } from "./key";

const failureSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), id: z.string().optional() }),
});

/** A request that a function refused, or that did not reach it (`code` "unreachable", `status` 0). */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly code: string,
    readonly status: number,
    readonly id?: string,
    readonly retryAfterS?: number,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export type FunctionName = "execute" | "chat";

/** Return the absolute or same-origin address of a path of a function. */
export async function urlOf(name: FunctionName, path: string): Promise<string> {
  const config = await loadConfig();
  return (name === "chat" ? config.chat_url : config.execute_url) + path;
}

/** Return the headers that say who asks. */
export function authorization(): Record<string, string> {
  const key = apiKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/**
 * Ask a function and return its answer if it is a 2xx, or a 3xx.
 *
 * Throws ApiError with the function's own words otherwise; when a key is wanted, the page is told to ask for one.
 */
export async function request(name: FunctionName, path: string, init: RequestInit = {}): Promise<Response> {
  const url = await urlOf(name, path);
  let reply: Response;
  try {
    reply = await fetch(url, { ...init, headers: { ...authorization(), ...headersOf(init.headers) } });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw unreachable();
  }
  // What only looks is asked again and again by itself, and must not ask for a key each time.
  if (!reply.ok) throw await failureOf(reply, !["GET", "HEAD"].includes(init.method ?? "GET"));
  return reply;
}

/** Ask a function for JSON of this shape. Throws as `request` does. */
export async function requestJson<T>(
  name: FunctionName,
  path: string,
  schema: z.ZodType<T>,
  init: RequestInit = {},
): Promise<T> {
  const reply = await request(name, path, init);
  return schema.parse(await reply.json());
}

/** Return what a refused answer says, and have the page ask for a key where that is what is missing. */
export async function failureOf(reply: Response, byUser = true): Promise<ApiError> {
  const error = failureFrom(await reply.text().catch(() => ""), reply.status, reply.headers.get("retry-after"));
  if (error.status === 401) askForKey(byUser);
  return error;
}

/** Return the failure that a body in the one error shape tells, or a plain one for any other text. */
export function failureFrom(body: string, status: number, retryAfter: string | null = null): ApiError {
  const retryAfterS = retryAfter !== null && /^\d+$/.test(retryAfter) ? Number(retryAfter) : undefined;
  const parsed = failureSchema.safeParse(parsedJson(body));
  if (parsed.success) {
    const { code, message, id } = parsed.data.error;
    return new ApiError(message, code, status, id, retryAfterS);
  }
  return new ApiError(`The server answered ${status}.`, "http_error", status, undefined, retryAfterS);
}

export function unreachable(): ApiError {
  return new ApiError("The server cannot be reached. Check that it runs and that you are online.", "unreachable", 0);
}

/** Return the words for a failure of any kind, for people. */
export function wordsOf(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  if (error instanceof z.ZodError) return "The server's answer has a shape that this page does not know. Reload it.";
  return error instanceof Error ? error.message : String(error);
}

function headersOf(given: HeadersInit | undefined): Record<string, string> {
  return Object.fromEntries(new Headers(given));
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
