import type { RichOutput } from "@/lib/outputs";

/** How a form of an output is shown. */
export type View = "plotly" | "vega" | "html" | "svg" | "picture" | "latex" | "markdown" | "json" | "text" | "unknown";

/** The form of a rich output that the page shows: its value, or the address that has it. */
export interface Form {
  view: View;
  mime: string;
  source: { value: unknown } | { path: string };
}

const PREFERENCE: readonly (readonly [View, RegExp])[] = [
  ["plotly", /^application\/vnd\.plotly\.v1\+json$/],
  ["vega", /^application\/vnd\.vega(?:lite)?\.v\d+(?:\.\d+)*[.+]json$/],
  ["html", /^text\/html$/],
  ["svg", /^image\/svg\+xml$/],
  ["picture", /^image\/(?:png|jpeg|gif|webp)$/],
  ["latex", /^text\/latex$/],
  ["markdown", /^text\/markdown$/],
  ["json", /^application\/json$/],
  ["text", /^text\/plain$/],
];

/**
 * Return the best form of an output in Jupyter's order of preference, or undefined when it has none at all.
 *
 * A value that is not what its media type says (a picture that is no text, a figure that is no object) is passed over.
 */
export function bestForm(output: Pick<RichOutput, "data" | "urls">): Form | undefined {
  const kinds = [...Object.keys(output.data), ...Object.keys(output.urls ?? {})];
  for (const [view, pattern] of PREFERENCE) {
    for (const mime of kinds) {
      if (!pattern.test(mime)) continue;
      const form = formOf(output, view, mime);
      if (form !== undefined) return form;
    }
  }
  const [mime] = kinds;
  return mime === undefined ? undefined : formOf(output, "unknown", mime);
}

function formOf({ data, urls }: Pick<RichOutput, "data" | "urls">, view: View, mime: string): Form | undefined {
  if (Object.hasOwn(data, mime)) {
    const value = view === "json" || view === "unknown" ? data[mime] : fitting(view, data[mime]);
    if (value !== undefined) return { view, mime, source: { value } };
  }
  const path = urls !== undefined && Object.hasOwn(urls, mime) ? urls[mime] : undefined;
  return path !== undefined && /^\/[^/\\]/.test(path) ? { view, mime, source: { path } } : undefined;
}

/** Return the value as the view wants it: an object for figures, else text (nbformat also has it as lines). */
function fitting(view: View, value: unknown): unknown {
  if (view === "plotly" || view === "vega") return asObject(value);
  return asText(value);
}

export function asText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((line) => typeof line === "string")) return value.join("");
  return undefined;
}

/** Return the object that a figure is, also when it comes as JSON text. */
export function asObject(value: unknown): Record<string, unknown> | undefined {
  let found = value;
  if (typeof value === "string") {
    try {
      found = JSON.parse(value);
    } catch {
      return undefined;
    }
  }
  return isObject(found) ? found : undefined;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Return the file name ending of a media type. */
export function endingOf(mime: string): string {
  const known: Record<string, string> = {
    "image/svg+xml": "svg",
    "image/jpeg": "jpg",
    "text/plain": "txt",
    "text/html": "html",
    "text/latex": "tex",
    "text/markdown": "md",
  };
  if (known[mime] !== undefined) return known[mime];
  if (mime.endsWith("json")) return "json";
  return /^image\/([a-z]+)$/.exec(mime)?.[1] ?? "bin";
}
