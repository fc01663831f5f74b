/** What KaTeX may do with a formula from elsewhere: no links, no files, no endless macros, no page-filling sizes. */
export const KATEX_LIMITS = { trust: false, maxExpand: 500, maxSize: 20, strict: "ignore" } as const;

/** More than this is shown as it is written. */
export const MAX_FORMULA_CHARS = 20_000;

const DELIMITERS: readonly (readonly [string, string])[] = [
  ["$$", "$$"],
  ["\\[", "\\]"],
  ["\\(", "\\)"],
  ["$", "$"],
];

/** Return the formula of Jupyter's `text/latex` without the marks around it. */
export function formulaOf(latex: string): string {
  const text = latex.trim();
  for (const [open, close] of DELIMITERS) {
    if (text.length >= open.length + close.length && text.startsWith(open) && text.endsWith(close)) {
      return text.slice(open.length, text.length - close.length).trim();
    }
  }
  return text;
}
