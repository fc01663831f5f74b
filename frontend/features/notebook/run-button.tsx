"use client";

import { Play, Square } from "lucide-react";
import type { ReactNode, Ref } from "react";
import { Button } from "@/components/ui/button";
import { Tooltip } from "@/components/ui/tooltip";
import { announce } from "@/lib/announce";
import { SHORTCUTS } from "@/lib/shortcuts";
import styles from "./run-button.module.css";

export interface RunButtonProps {
  active: boolean;
  onRun(): void;
  onStop(): void;
  /** Why it cannot be run now; it can still be found and read. */
  refused?: string;
  ref?: Ref<HTMLButtonElement>;
}

/** Runs a cell, and while it runs stops it: one button, so that the focus stays. */
export function RunButton({ active, onRun, onStop, refused, ref }: RunButtonProps): ReactNode {
  const disabled = !active && refused !== undefined;
  const label = active ? "Stop cell" : "Run";
  const press = (): void => {
    if (disabled) announce(refused);
    else if (active) onStop();
    else onRun();
  };
  return (
    <Tooltip
      label={disabled ? refused : label}
      keys={active ? undefined : disabled ? undefined : SHORTCUTS.runCell.keys}
    >
      <Button
        ref={ref}
        look="quiet"
        className={styles.button}
        aria-label={label}
        aria-disabled={disabled || undefined}
        {...(disabled && { "aria-description": refused })}
        onClick={press}
      >
        {active ? <Square aria-hidden className={styles.stop} /> : <Play aria-hidden />}
      </Button>
    </Tooltip>
  );
}
