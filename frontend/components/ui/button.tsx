import type { ButtonHTMLAttributes, ReactNode, Ref } from "react";
import { Tooltip } from "./tooltip";
import styles from "./button.module.css";

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  /** `primary` once per view; `danger` for what cannot be undone. */
  look?: "primary" | "plain" | "quiet" | "danger";
  ref?: Ref<HTMLButtonElement>;
}

export function Button({ look = "plain", className = "", type = "button", ...rest }: ButtonProps): ReactNode {
  return <button type={type} className={`${styles.button} ${styles[look]} ${className}`} {...rest} />;
}

export interface IconButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "aria-label"> {
  /** What it does: its accessible name and its tooltip. */
  label: string;
  /** The keys that do the same, shown in the tooltip. */
  keys?: string;
  look?: "quiet" | "primary" | "danger";
  size?: "sm" | "md";
  ref?: Ref<HTMLButtonElement>;
}

export function IconButton({
  label,
  keys,
  look = "quiet",
  size = "md",
  className = "",
  type = "button",
  ...rest
}: IconButtonProps): ReactNode {
  const classes = `${styles.button} ${styles[look]} ${styles.icon} ${size === "sm" ? styles.small : ""} ${className}`;
  return (
    <Tooltip label={label} keys={keys}>
      <button type={type} aria-label={label} className={classes} {...rest} />
    </Tooltip>
  );
}
