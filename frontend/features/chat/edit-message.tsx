"use client";

import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { Button } from "@/components/ui/button";
import styles from "./edit-message.module.css";
import { GrowingTextarea } from "./growing-textarea";
import { isSendKey } from "./send-key";

export interface EditMessageProps {
  text: string;
  code: boolean;
  /** Whether an answer and what follows it will be replaced. */
  replaces: boolean;
  onSave(text: string): void;
  onCancel(): void;
}

/** A user's message, being changed in place. */
export function EditMessage({ text, code, replaces, onSave, onCancel }: EditMessageProps): ReactNode {
  const [value, setValue] = useState(text);
  const box = useRef<HTMLTextAreaElement>(null);
  const hint = useId();
  useEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(box.current.value.length, box.current.value.length);
  }, []);

  const save = (): void => {
    if (value.trim()) onSave(value);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (event.key === "Escape" && !event.nativeEvent.isComposing) {
      event.preventDefault();
      onCancel();
    } else if (isSendKey(event.nativeEvent)) {
      event.preventDefault();
      save();
    }
  };

  return (
    <div className={styles.edit}>
      <GrowingTextarea
        ref={box}
        className={`${styles.box} ${code ? styles.code : ""}`}
        aria-label="Edited message"
        aria-describedby={replaces ? hint : undefined}
        value={value}
        onChange={(event) => setValue(event.target.value)}
        onKeyDown={onKeyDown}
      />
      <div className={styles.row}>
        {replaces && (
          <span id={hint} className={styles.hint}>
            What follows this message will be replaced.
          </span>
        )}
        <Button onClick={onCancel}>Cancel</Button>
        <Button look="primary" disabled={!value.trim()} onClick={save}>
          Save &amp; send
        </Button>
      </div>
    </div>
  );
}
