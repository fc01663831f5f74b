import { z } from "@/lib/zod";
import { newId } from "@/lib/ids";

/** The cells of a notebook without a model, and what can be done with them. All pure. */
export const cellSchema = z.object({
  id: z.string().min(1),
  kind: z.enum(["python", "text"]),
  code: z.string(),
});
export type NotebookCell = z.infer<typeof cellSchema>;
export type CellKind = NotebookCell["kind"];

/** What a cell was before it was deleted, and where. */
export interface Deleted {
  cell: NotebookCell;
  index: number;
}

const MAX_CELLS = 10_000;
const keptSchema = z.object({ cells: z.array(z.unknown()).max(MAX_CELLS) });

export function emptyCell(kind: CellKind = "python", code = ""): NotebookCell {
  return { id: newId("cell"), kind, code };
}

/** Return the cells that were kept; one empty cell when there are none, as a notebook always has one. */
export function parsedCells(kept: unknown): NotebookCell[] {
  const parsed = keptSchema.safeParse(kept);
  const seen = new Set<string>();
  const cells = (parsed.success ? parsed.data.cells : []).flatMap((item) => {
    const cell = cellSchema.safeParse(item);
    if (!cell.success || seen.has(cell.data.id)) return [];
    seen.add(cell.data.id);
    return [cell.data];
  });
  return cells.length > 0 ? cells : [emptyCell()];
}

export function indexOf(cells: readonly NotebookCell[], id: string): number {
  return cells.findIndex((cell) => cell.id === id);
}

/** Put a cell before (`above`) or after the one named; at the end when that is not there. */
export function inserted(
  cells: readonly NotebookCell[],
  cell: NotebookCell,
  place: "above" | "below",
  beside: string | undefined,
): NotebookCell[] {
  const found = beside === undefined ? -1 : indexOf(cells, beside);
  const at = found < 0 ? cells.length : place === "above" ? found : found + 1;
  return [...cells.slice(0, at), cell, ...cells.slice(at)];
}

/** Take a cell away. The last one leaves an empty one. */
export function without(cells: readonly NotebookCell[], id: string): NotebookCell[] {
  const rest = cells.filter((cell) => cell.id !== id);
  return rest.length > 0 ? rest : [emptyCell()];
}

/** Put a deleted cell back where it was, in place of an empty one that stands for none. */
export function restored(cells: readonly NotebookCell[], { cell, index }: Deleted): NotebookCell[] {
  if (indexOf(cells, cell.id) >= 0) return [...cells];
  const [only] = cells;
  if (cells.length === 1 && only?.code === "") return [cell];
  return [...cells.slice(0, index), cell, ...cells.slice(index)];
}

/** Move a cell by so many places, at most to an end. */
export function moved(cells: readonly NotebookCell[], id: string, by: number): NotebookCell[] {
  const from = indexOf(cells, id);
  const cell = cells[from];
  if (cell === undefined) return [...cells];
  const rest = cells.filter((other) => other.id !== id);
  const to = Math.min(rest.length, Math.max(0, from + by));
  return [...rest.slice(0, to), cell, ...rest.slice(to)];
}

export function changed(
  cells: readonly NotebookCell[],
  id: string,
  change: Partial<Omit<NotebookCell, "id">>,
): NotebookCell[] {
  return cells.map((cell) => (cell.id === id ? { ...cell, ...change } : cell));
}

/** Return the cell to take the focus when this one is deleted: the next, else the one before. */
export function besides(cells: readonly NotebookCell[], id: string): string | undefined {
  const index = indexOf(cells, id);
  return (cells[index + 1] ?? cells[index - 1])?.id;
}

/** Return the Python cells that have code, in order: all, or those before one. */
export function runnable(cells: readonly NotebookCell[], before?: string): NotebookCell[] {
  const end = before === undefined ? cells.length : indexOf(cells, before);
  return cells.slice(0, Math.max(0, end)).filter((cell) => cell.kind === "python" && cell.code.trim() !== "");
}
