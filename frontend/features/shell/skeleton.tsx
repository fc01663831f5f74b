import type { ReactNode } from "react";
import styles from "./frame.module.css";

/** The page's outline before its script runs: the same boxes, so that nothing jumps. */
export function Skeleton(): ReactNode {
  return (
    <div className={styles.frame} data-sidebar="auto">
      <div className={`${styles.sidebar} ${styles.auto}`} />
      <div className={styles.middle}>
        <div className={styles.header} />
        <main className={styles.main}>
          <h1 className="visually-hidden">Caesarion</h1>
          <noscript className={styles.noscript}>
            This page needs JavaScript. Without it, the same can be had by `caesarion chat` in a terminal.
          </noscript>
        </main>
      </div>
    </div>
  );
}
