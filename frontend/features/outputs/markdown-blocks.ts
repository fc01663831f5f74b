/** Markdown as pieces that can be rendered on their own, so that a growing text renders only its last one again. */

const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const LIST_ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;
const DEFINITION = /^ {0,3}\[[^\]\n]{1,200}\]:/m;

/**
 * Return the text's top-level blocks, which joined with a blank line mean the same.
 *
 * A text with definitions (links by name, footnotes) stays whole: they reach over blocks.
 */
export function blocksOf(markdown: string): string[] {
  if (DEFINITION.test(markdown)) return [markdown];
  const blocks: string[] = [];
  let block: string[] = [];
  let fence: string | undefined;
  let inMath = false;
  let blank = false;
  let inList = false;
  for (const line of markdown.split("\n")) {
    if (fence === undefined && !inMath && line.trim() === "") {
      blank = true;
      if (block.length > 0) block.push(line);
      continue;
    }
    if (fence === undefined && !inMath && blank && block.length > 0) {
      const goesOn = /^(?: {2,}|\t)/.test(line) || (inList && LIST_ITEM.test(line));
      if (!goesOn) {
        blocks.push(block.join("\n").trimEnd());
        block = [];
      }
    }
    if (block.length === 0) inList = LIST_ITEM.test(line);
    blank = false;
    block.push(line);
    const unindented = inList ? line.trimStart() : line;
    if (fence !== undefined) {
      if (!closes(unindented, fence)) continue;
      fence = undefined;
      if (fenceOf(block[0] ?? "") !== undefined) {
        blocks.push(block.join("\n"));
        block = [];
      }
    } else if (inMath) {
      if (line.trimEnd().endsWith("$$")) inMath = false;
    } else if (fenceOf(unindented) !== undefined) {
      fence = fenceOf(unindented);
    } else if (opensMath(line)) {
      inMath = true;
    }
  }
  const last = block.join("\n").trimEnd();
  if (last !== "") blocks.push(last);
  return blocks;
}

/** Return the marks of a line that opens a fence. */
function fenceOf(line: string): string | undefined {
  const [, marks, info = ""] = FENCE.exec(line) ?? [];
  return marks?.startsWith("`") && info.includes("`") ? undefined : marks;
}

/** Whether a line closes the fence that these marks opened. */
function closes(line: string, fence: string): boolean {
  const [, marks, info = ""] = FENCE.exec(line) ?? [];
  return marks?.startsWith(fence) === true && info.trim() === "";
}

function opensMath(line: string): boolean {
  const text = line.trim();
  return text.startsWith("$$") && text.indexOf("$$", 2) < 0;
}

const MAX_BLOCK_CHARS = 30_000;
const MAX_CODE_CHARS = 400_000;
/** The time that a block takes grows with the square of what may open or close something in it. */
const MAX_MARKS = 1_500;
const MARKS = /[*_~[\]<`|$]/g;
const TOO_DEEP = /^(?:(?:[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])[ \t])){40}|[ \t]{80,}(?:[-*+>]|\d{1,9}[.)]))/m;

/** More than this of one text is not rendered: each block is a component of its own. */
const MAX_BLOCKS = 1_000;
const MAX_TEXT_CHARS = 300_000;

/** Return the blocks that are rendered, and what comes after them as one text that is shown as it is written. */
export function withinBounds(blocks: string[]): [string[], string] {
  let chars = 0;
  const end = blocks.findIndex((block, index) => {
    chars += block.length;
    return index >= MAX_BLOCKS || (index > 0 && chars > MAX_TEXT_CHARS);
  });
  return end < 0 ? [blocks, ""] : [blocks.slice(0, end), blocks.slice(end).join("\n\n")];
}

/** Whether a block is fenced code and nothing else; its fence may still be open. */
function isFenced(block: string): boolean {
  const fence = fenceOf(block.split("\n", 1)[0] ?? "");
  if (fence === undefined) return false;
  const [, ...lines] = block.trimEnd().split(/\r\n?|\n/);
  const end = lines.findIndex((line) => closes(line, fence));
  return end < 0 || end === lines.length - 1;
}

/** Whether parsing a block would hold up the page, so that it is better shown as it is written. */
export function isTooMuch(block: string): boolean {
  if (isFenced(block)) return block.length > MAX_CODE_CHARS;
  if (block.length > MAX_BLOCK_CHARS || TOO_DEEP.test(block)) return true;
  return (block.match(MARKS)?.length ?? 0) > MAX_MARKS;
}

/**
 * Return a block with its formulas as remark-math wants them, and whether it has any.
 *
 * `\(x\)` and `\[x\]` become `$x$` and `$$x$$`. A dollar that is money stays one: as in pandoc, an opening `$` has no
 * space after it, a closing one has none before it and no digit behind it.
 */
export function preparedMath(block: string): { text: string; math: boolean } {
  if (!/[$]|\\[([]/.test(block) || isFenced(block)) return { text: block, math: false };
  let math = false;
  let text = "";
  let fence: string | undefined;
  let inMath = false;
  for (const line of block.split(/(?<=\n)/)) {
    if (fence !== undefined) {
      if (closes(line.trim(), fence)) fence = undefined;
      text += line;
    } else if (inMath) {
      if (line.trimEnd().endsWith("$$")) inMath = false;
      text += line;
    } else if (fenceOf(line.trim()) !== undefined) {
      fence = fenceOf(line.trim());
      text += line;
    } else {
      inMath = opensMath(line);
      const part = inlineMath(line);
      math ||= part.math;
      text += part.text;
    }
  }
  const displayed = displayMath(text);
  return { text: displayed, math: math || displayed !== text };
}

/** `\[` … `\]`, also over several lines, become fences of dollars on lines of their own. */
function displayMath(text: string): string {
  if (!text.includes("\\[")) return text;
  return text.replaceAll(/^([ \t]*)\\\[([\s\S]*?)\\\][ \t]*$/gm, (_all, indent: string, formula: string) => {
    return `${indent}$$\n${indent}${formula.trim()}\n${indent}$$`;
  });
}

function inlineMath(line: string): { text: string; math: boolean } {
  let text = "";
  let math = false;
  let at = 0;
  while (at < line.length) {
    const rest = line.slice(at);
    const code = /^(`+)(?!`)/.exec(rest)?.[1];
    if (code !== undefined) {
      const end = closingTicks(rest, code.length);
      text += rest.slice(0, end);
      at += end;
      continue;
    }
    if (rest.startsWith("\\(")) {
      const end = rest.indexOf("\\)", 2);
      if (end > 2) {
        text += `$${rest.slice(2, end).trim()}$`;
        math = true;
        at += end + 2;
        continue;
      }
    }
    const character = line[at] ?? "";
    if (character === "\\") {
      text += rest.slice(0, 2);
      at += 2;
      continue;
    }
    if (rest.startsWith("$$")) {
      math = true;
      const end = rest.indexOf("$$", 2);
      const to = end < 0 ? rest.length : end + 2;
      text += rest.slice(0, to);
      at += to;
      continue;
    }
    if (character === "$") {
      const formula = /^\$(?!\s)(?:[^$\\`\n]|\\.)*?[^\s\\]\$(?!\d)/.exec(rest)?.[0];
      if (formula !== undefined) {
        math = true;
        text += formula;
        at += formula.length;
      } else {
        text += "\\$";
        at += 1;
      }
      continue;
    }
    const step = /^[^$\\`]+/.exec(rest)?.[0] ?? character;
    text += step;
    at += step.length;
  }
  return { text, math };
}

/** Return where a code span that begins with `count` ticks ends; the ticks alone when it never does. */
function closingTicks(text: string, count: number): number {
  const runs = /`+/g;
  runs.lastIndex = count;
  for (let run = runs.exec(text); run !== null; run = runs.exec(text)) {
    if (run[0].length === count) return run.index + count;
  }
  return count;
}

/** Return the part before a displayed formula that is still being written, and that formula's text. */
export function withoutOpenFormula(block: string): [string, string] {
  if (isFenced(block)) return [block, ""];
  const marks = [...block.matchAll(/\$\$|^\s*\\\[|\\\]\s*$/gm)];
  if (marks.length % 2 === 0) return [block, ""];
  const last = marks.at(-1);
  if (last === undefined || block.slice(0, last.index).includes("```")) return [block, ""];
  return [block.slice(0, last.index), block.slice(last.index)];
}
