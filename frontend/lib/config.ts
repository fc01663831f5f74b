import { z } from "./zod";

/** Where the functions are and what they take, as the page's server tells it in `/config.json`. */
const configSchema = z.object({
  /** Base address of execute; empty for the page's own origin. */
  execute_url: z.string().default(""),
  /** Base address of chat; empty for the page's own origin. */
  chat_url: z.string().default(""),
  /** Name of the model; left out where none is configured and what is typed runs as Python. */
  model: z.string().optional(),
  max_upload_bytes: z.number().positive().default(Number.POSITIVE_INFINITY),
  /** Allowed file name endings with their dot; empty when the server does not say. */
  upload_types: z.array(z.string()).default([]),
});

export type Config = z.infer<typeof configSchema>;

let loading: Promise<Config> | undefined;

/** Return the configuration, asked for once. A server that has none means functions on the page's own origin. */
export function loadConfig(): Promise<Config> {
  loading ??= fetchConfig().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

async function fetchConfig(): Promise<Config> {
  const reply = await fetch("/config.json", { cache: "no-cache" });
  const config = configSchema.parse(reply.ok ? await reply.json() : {});
  return { ...config, execute_url: withoutSlash(config.execute_url), chat_url: withoutSlash(config.chat_url) };
}

function withoutSlash(url: string): string {
  return url.replace(/\/+$/, "");
}
