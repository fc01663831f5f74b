import type { ShownOutput } from "@/lib/outputs";

/**
 * Whether two outputs show the same.
 *
 * Each update of a running cell is parsed anew, so that equal outputs are other objects; drawing a figure again for
 * each of them would make it flicker.
 */
export function sameOutput(a: ShownOutput, b: ShownOutput): boolean {
  if (a === b) return true;
  if (a.seq !== b.seq || a.type !== b.type) return false;
  if (a.type === "stream" && b.type === "stream") return a.text === b.text && a.cut_chars === b.cut_chars;
  return same(a, b);
}

function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length || Array.isArray(a) !== Array.isArray(b)) return false;
  return keys.every((key) => Object.hasOwn(b, key) && same(Reflect.get(a, key), Reflect.get(b, key)));
}
