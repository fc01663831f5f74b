import type { ReactNode } from "react";
import styles from "./not-found.module.css";

export default function NotFound(): ReactNode {
  return (
    <main className={styles.page}>
      <h1 className={styles.title}>There is no page here</h1>
      <p>
        The address may be mistyped. <a href="/">Go to your sessions</a>
      </p>
    </main>
  );
}
