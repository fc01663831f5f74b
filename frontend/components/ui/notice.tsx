import { CircleAlert, Info, TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";
import styles from "./notice.module.css";

export interface NoticeProps {
  kind?: "info" | "warning" | "error";
  /** What happened and what can be done, in one or two sentences. */
  children: ReactNode;
  /** Buttons. */
  actions?: ReactNode;
}

const ICONS = { info: Info, warning: TriangleAlert, error: CircleAlert };

/** Something that the user should know, in place. Errors are announced by screen readers when they appear. */
export function Notice({ kind = "info", children, actions }: NoticeProps): ReactNode {
  const Icon = ICONS[kind];
  return (
    <div className={`${styles.notice} ${styles[kind]}`} role={kind === "error" ? "alert" : "note"}>
      <Icon aria-hidden className={styles.icon} />
      <div className={styles.text}>{children}</div>
      {actions !== undefined && <div className={styles.actions}>{actions}</div>}
    </div>
  );
}
