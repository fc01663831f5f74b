import { request } from "@/lib/api";
import { count } from "@/lib/format";
import { delimiterOf, parseDelimited } from "./delimited";
import { filePath, type SessionFile } from "./file-list";
import { extensionOf } from "./preview-kind";

export const MAX_TEXT_BYTES = 256 * 1024;
export const MAX_PICTURE_BYTES = 25_000_000;
export const MAX_ROWS = 200;
export const MAX_COLUMNS = 60;
const MAX_CELL_CHARS = 300;

/** The beginning of a text file; `cut` if there is more. */
export interface Beginning {
  text: string;
  cut: boolean;
}

/** Return at most `MAX_TEXT_BYTES` of a file as text. What is no text in its encoding shows as U+FFFD. */
export async function fetchBeginning(session: string, file: SessionFile, signal: AbortSignal): Promise<Beginning> {
  // No range of an empty file exists. Code may have written to it since, so the list is not trusted beyond that.
  if (file.size_bytes === 0) return { text: "", cut: false };
  const headers = { Range: `bytes=0-${MAX_TEXT_BYTES - 1}` };
  const reply = await request("execute", filePath(session, file.path), { headers, signal });
  const whole = Number(/\/(\d+)$/.exec(reply.headers.get("content-range") ?? "")?.[1] ?? file.size_bytes);
  const content = new Uint8Array(await reply.arrayBuffer());
  const beginning = content.subarray(0, MAX_TEXT_BYTES);
  const cut = content.length > MAX_TEXT_BYTES || whole > content.length;
  // With `stream`, a character that the cut went through is left out.
  return { text: new TextDecoder(encodingOf(beginning)).decode(beginning, { stream: cut }), cut };
}

export async function fetchPicture(session: string, file: SessionFile, signal: AbortSignal): Promise<Blob> {
  return (await request("execute", filePath(session, file.path), { signal })).blob();
}

function encodingOf(beginning: Uint8Array): string {
  if (beginning[0] === 0xff && beginning[1] === 0xfe) return "utf-16le";
  if (beginning[0] === 0xfe && beginning[1] === 0xff) return "utf-16be";
  return "utf-8";
}

export interface ShownTable {
  head: string[];
  rows: string[][];
  /** How much of the file this is. */
  words: string;
}

/** Return what is shown of a table: its first row as the head, then at most `MAX_ROWS` rows of equal length. */
export function shownTable({ text, cut }: Beginning, path: string): ShownTable {
  const delimiter = extensionOf(path) === "tsv" ? "\t" : delimiterOf(text);
  const table = parseDelimited(text, { delimiter, maxRows: MAX_ROWS + 1, cut });
  const columns = table.rows.reduce((most, row) => Math.max(most, row.length), 0);
  const shown = Math.min(columns, MAX_COLUMNS);
  const [head = [], ...rows] = table.rows.map((row) => Array.from({ length: shown }, (_, at) => shortened(row[at])));
  const size = `${count(rows.length, "row")}, ${count(columns, "column")}`;
  const wide = columns > shown ? ` The first ${shown} columns are shown.` : "";
  const words = table.more ? `The first ${size}. Download the file to see the rest.` : `${size}.`;
  return { head, rows, words: words + wide };
}

function shortened(cell = ""): string {
  return cell.length > MAX_CELL_CHARS ? `${cell.slice(0, MAX_CELL_CHARS)}…` : cell;
}
