"use client";

import type { ReactNode } from "react";
import { Dialog } from "@/components/ui/dialog";
import { printed, SHORTCUTS } from "@/lib/shortcuts";
import styles from "./help-dialog.module.css";

export function HelpDialog({ open, onClose }: { open: boolean; onClose(): void }): ReactNode {
  const all = Object.values(SHORTCUTS);
  const groups = [...new Set(all.map((shortcut) => shortcut.group))];
  return (
    <Dialog open={open} onClose={onClose} title="Keyboard help">
      {groups.map((group) => (
        <section key={group}>
          <h3 className={styles.group}>{group}</h3>
          <dl className={styles.list}>
            {all
              .filter((shortcut) => shortcut.group === group)
              .map(({ keys, label }) => (
                <div key={label} className={styles.row}>
                  <dt>{label}</dt>
                  <dd className={styles.keys}>
                    {printed(keys).map((key) => (
                      <kbd key={key} className={styles.key}>
                        {key}
                      </kbd>
                    ))}
                  </dd>
                </div>
              ))}
          </dl>
        </section>
      ))}
    </Dialog>
  );
}
