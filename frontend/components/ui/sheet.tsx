"use client";

import { Dialog as Radix } from "radix-ui";
import type { ReactNode } from "react";
import { useFocusReturn } from "./return-focus";
import styles from "./sheet.module.css";

export interface SheetProps {
  open: boolean;
  onClose(): void;
  /** Its accessible name. */
  title: string;
  side: "left" | "right";
  children: ReactNode;
}

/** What is a column on a wide screen, over the page on a narrow one. */
export function Sheet({ open, onClose, title, side, children }: SheetProps): ReactNode {
  const focus = useFocusReturn();
  return (
    <Radix.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <Radix.Portal>
        <Radix.Overlay className={styles.scrim} />
        <Radix.Content className={`${styles.sheet} ${styles[side]}`} aria-describedby={undefined} {...focus}>
          <Radix.Title className="visually-hidden">{title}</Radix.Title>
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
