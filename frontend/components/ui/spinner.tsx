import type { ReactNode } from "react";
import styles from "./spinner.module.css";

/** Something is going on. For the eye: the text beside it, or a live region, says what. */
export function Spinner(): ReactNode {
  return <span aria-hidden className={styles.spinner} />;
}
