"use client";

import { X } from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import type { ReactNode } from "react";
import { Button, IconButton } from "./button";
import styles from "./dialog.module.css";
import { useFocusReturn } from "./return-focus";

export interface DialogProps {
  open: boolean;
  onClose(): void;
  title: string;
  /** What the dialog is about, for everybody; left out where the title says it all. */
  description?: ReactNode;
  /** `wide` for pictures and tables. */
  size?: "normal" | "wide";
  children?: ReactNode;
}

/** A modal dialog: focus stays inside while it is open and returns to where it was. */
export function Dialog({ open, onClose, title, description, size = "normal", children }: DialogProps): ReactNode {
  const focus = useFocusReturn();
  return (
    <Radix.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <Radix.Portal>
        <Radix.Overlay className={styles.scrim} />
        <Radix.Content
          className={`${styles.dialog} ${size === "wide" ? styles.wide : ""}`}
          {...focus}
          {...(description === undefined && { "aria-describedby": undefined })}
        >
          <header className={styles.head}>
            <Radix.Title className={styles.title}>{title}</Radix.Title>
            <Radix.Close asChild>
              <IconButton label="Close">
                <X aria-hidden />
              </IconButton>
            </Radix.Close>
          </header>
          {description !== undefined && <Radix.Description className={styles.text}>{description}</Radix.Description>}
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

export interface ConfirmProps {
  open: boolean;
  title: string;
  description: ReactNode;
  /** The word on the button that does it, a verb: "Delete". */
  action: string;
  onConfirm(): void;
  onClose(): void;
}

/** Asks before something that cannot be undone. */
export function Confirm({ open, title, description, action, onConfirm, onClose }: ConfirmProps): ReactNode {
  return (
    <Dialog open={open} onClose={onClose} title={title} description={description}>
      <footer className={styles.actions}>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="danger"
          onClick={() => {
            onConfirm();
            onClose();
          }}
        >
          {action}
        </Button>
      </footer>
    </Dialog>
  );
}
