/** Tables in text: comma, semicolon, tab or bar separated values, after RFC 4180 and as lenient as spreadsheets are. */

export interface Table {
  rows: string[][];
  /** Whether the text has rows after these. */
  more: boolean;
}

export interface DelimitedOptions {
  delimiter: string;
  maxRows: number;
  /** Whether the text is a beginning that was cut off, so that its last row may be a part of one. */
  cut?: boolean;
}

const DELIMITERS = [",", ";", "\t", "|"];

/**
 * Return the rows of a text, at most `maxRows`.
 *
 * A field may stand in double quotes and then hold delimiters, line ends and doubled quotes; a quote elsewhere is an
 * ordinary character. Empty lines are no rows.
 */
export function parseDelimited(text: string, { delimiter, maxRows, cut = false }: DelimitedOptions): Table {
  const rows: string[][] = [];
  let row: string[] = [];
  let at = text.startsWith("\uFEFF") ? 1 : 0;

  while (at < text.length) {
    const field = readField(text, at, delimiter);
    const ended = field.end >= text.length;
    if (ended && cut) return { rows, more: true };
    row.push(field.value);
    at = field.end;
    if (!ended && text[at] === delimiter) {
      at += 1;
      if (at < text.length) continue;
      if (cut) return { rows, more: true };
      row.push("");
    } else if (!ended) {
      at += text[at] === "\r" && text[at + 1] === "\n" ? 2 : 1;
    }
    if (row.length > 1 || row[0] !== "" || field.quoted) {
      if (rows.length === maxRows) return { rows, more: true };
      rows.push(row);
    }
    row = [];
  }
  return { rows, more: cut };
}

interface Field {
  value: string;
  /** Where its delimiter or line end stands, or the text's end. */
  end: number;
  quoted: boolean;
}

function readField(text: string, start: number, delimiter: string): Field {
  let value = "";
  let at = start;
  const quoted = text[at] === '"';
  if (quoted) {
    at += 1;
    for (;;) {
      const quote = text.indexOf('"', at);
      if (quote === -1) return { value: value + text.slice(at), end: text.length, quoted };
      value += text.slice(at, quote);
      at = quote + 1;
      if (text[at] !== '"') break;
      value += '"';
      at += 1;
    }
  }
  const rest = at;
  while (at < text.length && text[at] !== delimiter && text[at] !== "\n" && text[at] !== "\r") at += 1;
  return { value: value + text.slice(rest, at), end: at, quoted };
}

/** Return the delimiter that splits the first row into the most fields; a comma when none does. */
export function delimiterOf(text: string): string {
  let best = { delimiter: ",", fields: 1 };
  for (const delimiter of DELIMITERS) {
    const fields = parseDelimited(text.slice(0, 16_384), { delimiter, maxRows: 1 }).rows[0]?.length ?? 0;
    if (fields > best.fields) best = { delimiter, fields };
  }
  return best.delimiter;
}

/** Return for each column whether all that it holds below its head are numbers. */
export function numericColumns(rows: readonly (readonly string[])[], columns: number): boolean[] {
  return Array.from({ length: columns }, (_, column) => {
    const values = rows.map((row) => row[column]?.trim() ?? "").filter((value) => value !== "");
    return (
      values.length > 0 &&
      values.every((value) => value.length <= 64 && /^[-+]?(\d[\d,_ ]*)?(\.\d*)?(e[-+]?\d+)?%?$/i.test(value))
    );
  });
}
