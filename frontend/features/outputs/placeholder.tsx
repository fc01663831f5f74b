"use client";

import type { ReactNode } from "react";
import { Button } from "@/components/ui/button";
import { Notice } from "@/components/ui/notice";
import { Spinner } from "@/components/ui/spinner";
import styles from "./placeholder.module.css";

/** Something is on its way. */
export function Waiting({ words }: { words: string }): ReactNode {
  return (
    <span className={styles.waiting}>
      <Spinner /> {words}
    </span>
  );
}

/** Something could not be shown; calm, since the rest of the output is there. */
export function Failed({ words, retry }: { words: string; retry?: () => void }): ReactNode {
  return (
    <Notice kind="warning" actions={retry === undefined ? undefined : <Button onClick={retry}>Try again</Button>}>
      {words}
    </Notice>
  );
}
