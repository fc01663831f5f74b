"use client";

import { type ReactNode, memo, useState } from "react";
import { Button } from "@/components/ui/button";
import { CopyButton } from "./copy-button";
import { ScrollRegion } from "./scroll-region";
import { rowsInWords, sizeInWords, type Table, type TableCell, toCsv } from "./table";
import styles from "./table-view.module.css";

/** So many rows are drawn at first, and more on each press. */
export const ROWS_AT_ONCE = 500;

/** A data frame as a table of the page's own, in a box that scrolls both ways. */
export function TableView({ table }: { table: Table }): ReactNode {
  const [shown, setShown] = useState(ROWS_AT_ONCE);
  const rows = table.body.slice(0, shown);
  const rest = table.body.length - rows.length;
  const isCut = table.cut || rest > 0;
  return (
    <div className={styles.table}>
      <ScrollRegion label={`Table, ${rowsInWords(table)}`} always className={styles.box}>
        <table>
          {table.head.length > 0 && (
            <thead>
              {table.head.map((row, index) => (
                <Row key={index} row={row} numeric={table.numeric} inHead />
              ))}
            </thead>
          )}
          <tbody>
            {rows.map((row, index) => (
              <Row key={index} row={row} numeric={table.numeric} />
            ))}
          </tbody>
        </table>
      </ScrollRegion>
      <div className={styles.foot}>
        <span>
          {table.size ?? sizeInWords(table.rows, table.dataColumns)}
          {isCut && ` · the first ${rows.length.toLocaleString("en-US")} are shown`}
        </span>
        {rest > 0 && (
          <Button look="quiet" onClick={() => setShown(shown + ROWS_AT_ONCE)}>
            Show more rows
          </Button>
        )}
        <CopyButton label="Copy as CSV" what="Table" text={() => toCsv(table)} />
      </div>
    </div>
  );
}

interface RowProps {
  row: TableCell[];
  numeric: ReadonlySet<number>;
  inHead?: boolean;
}

const Row = memo(function Row({ row, numeric, inHead = false }: RowProps): ReactNode {
  return (
    <tr>
      {row.map((cell, index) => {
        const spans = {
          colSpan: cell.colSpan > 1 ? cell.colSpan : undefined,
          rowSpan: cell.rowSpan > 1 ? cell.rowSpan : undefined,
          className: numeric.has(cell.column) ? styles.number : undefined,
        };
        // An empty corner is no header of anything.
        if (!cell.header || cell.text === "") {
          return (
            <td key={index} {...spans} data-head={cell.header || undefined}>
              {cell.text}
            </td>
          );
        }
        const scope = inHead ? (cell.colSpan > 1 ? "colgroup" : "col") : cell.rowSpan > 1 ? "rowgroup" : "row";
        return (
          <th key={index} scope={scope} {...spans}>
            {cell.text}
          </th>
        );
      })}
    </tr>
  );
});
