"use client";

import { DropdownMenu as Radix } from "radix-ui";
import type { ReactNode } from "react";
import styles from "./menu.module.css";

export interface MenuItem {
  label: string;
  icon?: ReactNode;
  /** A second line in small print. */
  hint?: string;
  danger?: boolean;
  disabled?: boolean;
  onSelect(): void;
}

/** A menu that opens from `trigger` (a Button or IconButton with its own accessible name). */
export function Menu({ trigger, items }: { trigger: ReactNode; items: MenuItem[] }): ReactNode {
  return (
    <Radix.Root modal={false}>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content className={styles.menu} sideOffset={4} align="end" collisionPadding={8}>
          {items.map((item) => (
            <Radix.Item
              key={item.label}
              className={`${styles.item} ${item.danger ? styles.danger : ""}`}
              disabled={item.disabled}
              onSelect={item.onSelect}
            >
              {item.icon}
              <span>
                {item.label}
                {item.hint !== undefined && <small className={styles.hint}>{item.hint}</small>}
              </span>
            </Radix.Item>
          ))}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
