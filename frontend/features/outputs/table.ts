/** Tables as pandas and polars print them, read as text: nothing of their HTML reaches the page. */

export interface TableCell {
  text: string;
  header: boolean;
  rowSpan: number;
  colSpan: number;
  /** First column that it covers. */
  column: number;
}

export interface Table {
  head: TableCell[][];
  body: TableCell[][];
  /** Columns whose cells are all numbers. */
  numeric: ReadonlySet<number>;
  columns: number;
  /** Columns without those of the index. */
  dataColumns: number;
  /** Rows and columns of the whole table as its maker tells them. */
  size?: string;
  /** Rows of the HTML; more than `body` has when the table is too large to be read whole. */
  rows: number;
  /** Whether there is more than what was read. */
  cut: boolean;
}

/** More HTML than this is not read. */
export const MAX_HTML_CHARS = 2_000_000;
export const MAX_COLUMNS = 200;
const MAX_ROWS = 10_000;
const MAX_CELL_CHARS = 2_000;
const ALLOWED = new Set(["DIV", "TABLE", "THEAD", "TBODY", "TFOOT", "TR", "TH", "TD", "P", "SMALL", "STYLE", "BR"]);
const ALLOWED_IN_CELLS = new Set(["BR", "B", "STRONG", "I", "EM", "CODE", "SPAN", "A"]);

/**
 * Return the table when the HTML is one data frame and nothing else, else undefined.
 *
 * The document that it is parsed into is inert: its scripts do not run, and nothing is loaded.
 */
export function parseTable(html: string, maxChars = MAX_HTML_CHARS): Table | undefined {
  if (!/<table[^>]{0,400}class="[^"]{0,100}\bdataframe\b/.test(html.slice(0, 20_000))) return undefined;
  const cut = html.length > maxChars;
  const page = new DOMParser().parseFromString(cut ? wholeRows(html.slice(0, maxChars)) : html, "text/html");
  const tables = page.querySelectorAll("table");
  const table = tables[0];
  if (table === undefined || tables.length > 1 || !isPlain(page.body) || page.head.querySelector("script")) {
    return undefined;
  }
  const style = [...page.querySelectorAll("style")];
  if (!style.every((one) => (one.textContent ?? "").trim().startsWith(".dataframe"))) return undefined;
  const head = rowsOf(table.querySelectorAll(":scope > thead > tr"));
  const body = rowsOf(table.querySelectorAll(":scope > tbody > tr, :scope > tr"), MAX_ROWS);
  const columns = Math.max(0, ...[...head, ...body].map((row) => (row.at(-1) ? endOf(row.at(-1)) : 0)));
  const rows = (cut ? occurrences(html, "<tr") : table.querySelectorAll("tr").length) - head.length;
  return {
    head,
    body,
    numeric: numericColumns(body, columns),
    columns,
    dataColumns: columns - Math.max(0, ...body.map(indexColumns)),
    size: sizeOf(html.slice(-2_000)) ?? sizeOf(html.slice(0, 2_000)),
    rows,
    cut: cut || rows > body.length,
  };
}

/** Return the HTML up to the last row that is whole. */
function wholeRows(html: string): string {
  const end = html.lastIndexOf("</tr>");
  return end < 0 ? html : html.slice(0, end + "</tr>".length);
}

function occurrences(text: string, part: string): number {
  let found = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) found += 1;
  return found;
}

/** Whether it has only what a plain data frame has: no pictures, no styled cells, no forms. */
function isPlain(body: HTMLElement): boolean {
  for (const element of body.querySelectorAll("*")) {
    const inCell = element.parentElement?.closest("td, th") !== null && element.parentElement !== null;
    if (!(inCell ? ALLOWED_IN_CELLS : ALLOWED).has(element.tagName)) return false;
    if (element.hasAttribute("style") && !["TR", "TABLE"].includes(element.tagName)) return false;
  }
  return true;
}

function rowsOf(rows: Iterable<Element>, limit = Number.POSITIVE_INFINITY): TableCell[][] {
  const found: TableCell[][] = [];
  /** For each column, how many more rows the cell above covers. */
  const covered: number[] = [];
  for (const row of rows) {
    if (found.length >= limit) break;
    const cells: TableCell[] = [];
    let column = 0;
    const next = (): void => {
      while ((covered[column] ?? 0) > 0) {
        covered[column] = (covered[column] ?? 0) - 1;
        column += 1;
      }
    };
    for (const cell of row.children) {
      next();
      if (column >= MAX_COLUMNS) break;
      const colSpan = spanOf(cell.getAttribute("colspan"), MAX_COLUMNS - column);
      const rowSpan = spanOf(cell.getAttribute("rowspan"), MAX_ROWS);
      cells.push({ text: textOf(cell), header: cell.tagName === "TH", rowSpan, colSpan, column });
      for (let i = 0; i < colSpan; i += 1) covered[column + i] = rowSpan - 1;
      column += colSpan;
    }
    next();
    found.push(cells);
  }
  return found;
}

function spanOf(value: string | null, most: number): number {
  const span = Number.parseInt(value ?? "1", 10);
  return Number.isFinite(span) ? Math.min(Math.max(span, 1), Math.max(most, 1)) : 1;
}

function textOf(cell: Element): string {
  const text = (cell.textContent ?? "").replaceAll(/\s+/g, " ").trim();
  return text.length > MAX_CELL_CHARS ? `${text.slice(0, MAX_CELL_CHARS)}…` : text;
}

/** Return how many columns of a row are its index. */
function indexColumns(row: TableCell[]): number {
  const first = row.find((cell) => !cell.header);
  return first === undefined ? 0 : first.column;
}

function endOf(cell: TableCell | undefined): number {
  return cell === undefined ? 0 : cell.column + cell.colSpan;
}

const NUMBER = /^[-+−]?(?:\d[\d,_]*(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?j?%?$|^[-+]?inf$/i;
const MAX_NUMBER_CHARS = 64;
const MISSING = new Set(["", "nan", "na", "<na>", "none", "nat", "null", "...", "…"]);

function numericColumns(body: TableCell[][], columns: number): Set<number> {
  const some = new Set<number>();
  const not = new Set<number>();
  for (const row of body.slice(0, 1_000)) {
    for (const { text, column, header } of row) {
      if (MISSING.has(text.toLowerCase())) {
        if (text === "NaN" && !header) some.add(column);
      } else if (!header && text.length <= MAX_NUMBER_CHARS && NUMBER.test(text)) some.add(column);
      else not.add(column);
    }
  }
  return new Set([...some].filter((column) => column < columns && !not.has(column)));
}

/** Return the line in which pandas ("5 rows × 3 columns") or polars ("shape: (5, 3)") tells the size. */
function sizeOf(html: string): string | undefined {
  const pandas = /<p>\s*([\d,]+) rows? (?:×|&times;|x) ([\d,]+) columns?\s*<\/p>/.exec(html);
  const polars = /shape: \(([\d_]+), ([\d_]+)\)/.exec(html);
  const [, rows, columns] = pandas ?? polars ?? [];
  if (rows === undefined || columns === undefined) return undefined;
  return sizeInWords(numberOf(rows), numberOf(columns));
}

function numberOf(text: string): number {
  return Number(text.replaceAll(/[,_]/g, ""));
}

export function sizeInWords(rows: number, columns: number): string {
  const told = (n: number, one: string): string => `${n.toLocaleString("en-US")} ${one}${n === 1 ? "" : "s"}`;
  return `${told(rows, "row")} × ${told(columns, "column")}`;
}

/** Return how many rows the whole table has, for people. */
export function rowsInWords(table: Table): string {
  return table.size?.split(" × ")[0] ?? sizeInWords(table.rows, 1).split(" × ")[0] ?? "";
}

/** Return what was read as CSV (RFC 4180); a cell over several columns or rows is in each of them. */
export function toCsv(table: Table): string {
  const grid: string[][] = [];
  const rows = [...table.head, ...table.body];
  rows.forEach((row, at) => {
    for (const cell of row) {
      for (let down = 0; down < cell.rowSpan && at + down < rows.length; down += 1) {
        const line = (grid[at + down] ??= []);
        for (let right = 0; right < cell.colSpan; right += 1) line[cell.column + right] = cell.text;
      }
    }
  });
  return grid.map((line) => Array.from(line, (text) => quoted(text ?? "")).join(",")).join("\r\n") + "\r\n";
}

function quoted(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
