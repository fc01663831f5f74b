import Anser from "anser";
import { readable } from "./colours";

/** A run of text of one look. */
export interface Segment {
  text: string;
  /** CSS colours; undefined is the text's own. */
  color?: string;
  background?: string;
  bold?: boolean;
  dim?: boolean;
  italic?: boolean;
  underline?: boolean;
  strike?: boolean;
}

/** What follows more changes of look than this is plain: a page of a million spans would not move. */
export const MAX_SEGMENTS = 3_000;
/** More parameters than a terminal would take are no colour. */
const MAX_CODE_CHARS = 64;

const ESC = "\u001b";
/** Operating system commands and other strings for the terminal (titles, links, clipboards), with what they carry. */
const STRINGS = /\u001b[\]PX^_][^\u0007\u001b\n]*(?:\u0007|\u001b\\)?/g;
const CONTROLS = /\u001b\[[0-9:;<=>?]*[ -/]*[@-~]?/g;
const OTHER_ESCAPES = /\u001b(?!\[[\d;]*m)[ -/]*[0-~]?/g;
const CONTROL_CHARACTERS = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]/g;
const LOOK = /^\u001b\[[\d;]*m$/;
const LOOKS = /(?:\u001b\[[\d;]*m)+/g;

/** Return the text without anything that speaks to a terminal. */
export function plainText(text: string): string {
  return withLooksOnly(text).replaceAll(LOOKS, "");
}

/** Return the runs of the text with their looks; cursor moves, titles, links and other orders are taken out. */
export function segments(text: string, limit = MAX_SEGMENTS): Segment[] {
  const clean = withLooksOnly(text);
  if (!clean.includes(ESC)) return clean === "" ? [] : [{ text: clean }];
  const [coloured, rest] = splitAt(clean, limit);
  const found: Segment[] = [];
  const add = (segment: Segment): void => {
    const last = found.at(-1);
    if (segment.text === "") return;
    if (last !== undefined && sameLook(last, segment)) last.text += segment.text;
    else found.push(segment);
  };
  for (const entry of Anser.ansiToJson(coloured, { use_classes: true, remove_empty: true })) add(segmentOf(entry));
  add({ text: rest });
  return found;
}

/** Keep text, line breaks, tabs and well-formed colour codes. */
function withLooksOnly(text: string): string {
  if (!/[^\n\t\u0020-\u007e\u00a0-\uffff]/.test(text)) return text;
  return text
    .replaceAll("\u009b", `${ESC}[`)
    .replaceAll(STRINGS, "")
    .replaceAll(CONTROLS, (code) => (LOOK.test(code) && code.length <= MAX_CODE_CHARS ? code : ""))
    .replaceAll(OTHER_ESCAPES, "")
    .replaceAll(CONTROL_CHARACTERS, "");
}

/** Part the text before its `limit`-th change of look; the second part has no codes. */
function splitAt(text: string, limit: number): [string, string] {
  // Of many codes in a row only the last few can matter; a reset among them makes the earlier ones void.
  const short = text.replaceAll(LOOKS, (codes) => {
    const reset = Math.max(codes.lastIndexOf(`${ESC}[0m`), codes.lastIndexOf(`${ESC}[m`));
    return (reset < 0 ? codes : codes.slice(reset)).slice(-512).replace(/^[^\u001b]*/, "");
  });
  let at = -1;
  for (let seen = 0; seen < limit; seen += 1) {
    at = short.indexOf(ESC, at + 1);
    if (at < 0) return [short, ""];
  }
  return [short.slice(0, at), short.slice(at).replaceAll(LOOKS, "")];
}

function segmentOf(entry: Anser.AnserJsonEntry): Segment {
  const looks = new Set(entry.decorations);
  let color = named(entry.fg, entry.fg_truecolor);
  let background = named(entry.bg, entry.bg_truecolor);
  if (looks.has("reverse")) [color, background] = [background, color ?? "var(--color-text)"];
  const segment: Segment = { text: entry.content };
  // On a coloured ground the text keeps the page's own colour, which can be read on all of them.
  if (background !== undefined) segment.background = `color-mix(in srgb, ${background} 18%, transparent)`;
  else if (color !== undefined) segment.color = color;
  if (looks.has("bold")) segment.bold = true;
  if (looks.has("dim")) segment.dim = true;
  if (looks.has("italic")) segment.italic = true;
  if (looks.has("underline")) segment.underline = true;
  if (looks.has("strikethrough")) segment.strike = true;
  return segment;
}

/** Return the CSS colour for anser's name of one. */
function named(name: string | null, truecolor: string | null): string | undefined {
  if (name === null || name === "") return undefined;
  if (name === "ansi-truecolor") {
    const [r = 0, g = 0, b = 0] = (truecolor ?? "").split(",").map(Number);
    return readable([r, g, b]);
  }
  const index = /^ansi-palette-(\d+)$/.exec(name)?.[1];
  if (index !== undefined) return readable(ofPalette(Number(index)));
  return /^ansi-(?:bright-)?[a-z]+$/.test(name) ? `var(--${name})` : undefined;
}

/** Return one of the 240 colours above the sixteen. */
function ofPalette(index: number): [number, number, number] {
  if (index >= 232) {
    const grey = 8 + 10 * (index - 232);
    return [grey, grey, grey];
  }
  const level = (n: number): number => [0, 95, 135, 175, 215, 255][n % 6] ?? 0;
  const at = index - 16;
  return [level(Math.floor(at / 36)), level(Math.floor(at / 6)), level(at)];
}

function sameLook(a: Segment, b: Segment): boolean {
  return (
    a.color === b.color &&
    a.background === b.background &&
    a.bold === b.bold &&
    a.dim === b.dim &&
    a.italic === b.italic &&
    a.underline === b.underline &&
    a.strike === b.strike
  );
}
