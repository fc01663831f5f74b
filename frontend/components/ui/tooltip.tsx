"use client";

import { Tooltip as Radix } from "radix-ui";
import type { ReactNode } from "react";
import { printed } from "@/lib/shortcuts";
import styles from "./tooltip.module.css";

/** Shows what an icon does. The child carries the same text as its accessible name, so this is for the eye only. */
export function Tooltip({ label, keys, children }: { label: string; keys?: string; children: ReactNode }): ReactNode {
  return (
    <Radix.Root>
      <Radix.Trigger asChild>{children}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content className={styles.tooltip} sideOffset={6} collisionPadding={8} aria-hidden>
          {label}
          {keys !== undefined && <kbd className={styles.keys}>{printed(keys).join(" ")}</kbd>}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

export const TooltipProvider = Radix.Provider;
