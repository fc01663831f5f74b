/** What the page and the frame of an output say to each other, by postMessage. */

export interface FrameTheme {
  dark: boolean;
  text: string;
  muted: string;
  border: string;
  accent: string;
  background: string;
  font: string;
  mono: string;
}

export type FrameContent =
  | { view: "html"; html: string }
  | { view: "plotly"; figure: Record<string, unknown> }
  | { view: "vega"; spec: Record<string, unknown>; mode: "vega" | "vega-lite" };

/** From the page to its frame. */
export type ToFrame =
  { type: "render"; content: FrameContent; theme: FrameTheme } | { type: "theme"; theme: FrameTheme };

/** From the frame, which runs code of strangers, to the page. */
export type FromFrame = { type: "ready" } | { type: "height"; px: number };

export const MIN_HEIGHT_PX = 24;
export const MAX_HEIGHT_PX = 900;

/** Return what a frame said if it is one of the two things that it may say; its number is brought into bounds. */
export function heard(data: unknown): FromFrame | undefined {
  if (typeof data !== "object" || data === null || !("type" in data)) return undefined;
  if (data.type === "ready") return { type: "ready" };
  if (data.type !== "height" || !("px" in data)) return undefined;
  const { px } = data;
  if (typeof px !== "number" || !Number.isFinite(px)) return undefined;
  return { type: "height", px: Math.min(Math.max(Math.ceil(px), MIN_HEIGHT_PX), MAX_HEIGHT_PX) };
}
