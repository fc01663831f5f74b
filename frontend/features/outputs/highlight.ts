import type { HighlighterCore, LanguageInput } from "shiki/core";

/** A piece of a line and its CSS colour. */
export interface Token {
  text: string;
  color?: string;
}

/** Longer code is shown plain: colouring it would hold up the page. */
export const MAX_HIGHLIGHTED_CHARS = 30_000;

const LANGUAGES: Readonly<Record<string, () => LanguageInput>> = {
  python: () => import("shiki/dist/langs/python.mjs"),
  json: () => import("shiki/dist/langs/json.mjs"),
  bash: () => import("shiki/dist/langs/bash.mjs"),
  sql: () => import("shiki/dist/langs/sql.mjs"),
  javascript: () => import("shiki/dist/langs/javascript.mjs"),
  typescript: () => import("shiki/dist/langs/typescript.mjs"),
  html: () => import("shiki/dist/langs/html.mjs"),
  css: () => import("shiki/dist/langs/css.mjs"),
  yaml: () => import("shiki/dist/langs/yaml.mjs"),
  toml: () => import("shiki/dist/langs/toml.mjs"),
  diff: () => import("shiki/dist/langs/diff.mjs"),
};

const ALIASES: Readonly<Record<string, string>> = {
  py: "python",
  python3: "python",
  ipython: "python",
  sh: "bash",
  shell: "bash",
  zsh: "bash",
  js: "javascript",
  ts: "typescript",
  yml: "yaml",
  jsonc: "json",
  xml: "html",
};

/** Return the name by which the highlighter knows a language, or undefined when it does not. */
export function knownLanguage(name: string | undefined): string | undefined {
  const given = name?.trim().toLowerCase() ?? "";
  const found = Object.hasOwn(ALIASES, given) ? ALIASES[given] : given;
  return found !== undefined && Object.hasOwn(LANGUAGES, found) ? found : undefined;
}

/** The highlighter's colour names, in the page's. */
const COLOURS: Readonly<Record<string, string>> = {
  "token-comment": "--code-comment",
  "token-keyword": "--code-keyword",
  "token-string": "--code-string",
  "token-string-expression": "--code-string",
  "token-constant": "--code-number",
  "token-function": "--code-function",
  "token-link": "--code-type",
};

let core: Promise<HighlighterCore> | undefined;
let highlighter: HighlighterCore | undefined;
const ready = new Set<string>();
const asked = new Set<string>();
const listeners = new Set<() => void>();

/** Call `listener` when another language can be coloured. */
export function onLanguage(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function isReady(language: string): boolean {
  return ready.has(language);
}

/** Load what colours a language. Without it code stays plain. */
export async function loadLanguage(language: string): Promise<void> {
  const grammar = LANGUAGES[language];
  if (grammar === undefined || asked.has(language)) return;
  asked.add(language);
  try {
    core ??= makeCore();
    const made = await core;
    await made.loadLanguage(grammar());
    highlighter = made;
    ready.add(language);
    for (const listener of listeners) listener();
  } catch {
    asked.delete(language);
    core = undefined;
  }
}

async function makeCore(): Promise<HighlighterCore> {
  const [{ createHighlighterCore, createCssVariablesTheme }, { createJavaScriptRegexEngine }] = await Promise.all([
    import("shiki/core"),
    import("shiki/engine/javascript"),
  ]);
  const theme = createCssVariablesTheme({ name: "page", variablePrefix: "--shiki-", fontStyle: false });
  return createHighlighterCore({ themes: [theme], engine: createJavaScriptRegexEngine({ forgiving: true }) });
}

/** Return the code's lines as coloured pieces; undefined while the language is not loaded, or the code is too long. */
export function tokensOf(code: string, language: string): Token[][] | undefined {
  if (highlighter === undefined || !ready.has(language) || code.length > MAX_HIGHLIGHTED_CHARS) return undefined;
  const lines = highlighter.codeToTokensBase(code, {
    lang: language,
    theme: "page",
    tokenizeMaxLineLength: 2_000,
    tokenizeTimeLimit: 1_000,
  });
  return lines.map((line) => line.map(({ content, color }) => ({ text: content, color: colourOf(color) })));
}

function colourOf(color: string | undefined): string | undefined {
  const name = COLOURS[/^var\(--shiki-([\w-]+)/.exec(color ?? "")?.[1] ?? ""];
  return name === undefined ? undefined : `var(${name})`;
}
