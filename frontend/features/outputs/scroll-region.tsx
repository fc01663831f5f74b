"use client";

import { type HTMLAttributes, type ReactNode, type Ref, useCallback, useState } from "react";

export interface ScrollRegionProps extends HTMLAttributes<HTMLDivElement> {
  label: string;
  /** `region` for what is worth finding by landmark, `group` for the rest. */
  role?: "region" | "group";
  /** Whether it can be reached by keyboard also when all of it is in sight. */
  always?: boolean;
  ref?: Ref<HTMLDivElement>;
  children: ReactNode;
}

/** A box that scrolls on its own; while something is out of sight, the keyboard reaches it. */
export function ScrollRegion({
  label,
  role = "group",
  always = false,
  ref,
  children,
  ...rest
}: ScrollRegionProps): ReactNode {
  const [scrolls, setScrolls] = useState(false);
  const watch = useCallback(
    (box: HTMLDivElement | null) => {
      const given = hand(ref, box);
      if (box === null || typeof ResizeObserver === "undefined") return given;
      const look = (): void =>
        setScrolls(box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1);
      const observer = new ResizeObserver(look);
      observer.observe(box);
      for (const child of box.children) observer.observe(child);
      return () => {
        observer.disconnect();
        given();
      };
    },
    [ref],
  );
  const focusable = always || scrolls ? { tabIndex: 0 } : {};
  return (
    <div role={role} aria-label={label} ref={watch} {...focusable} {...rest}>
      {children}
    </div>
  );
}

/** Give the box to the ref of whoever asked for it, and return what takes it back. */
function hand(ref: Ref<HTMLDivElement> | undefined, box: HTMLDivElement | null): () => void {
  if (typeof ref === "function") {
    const undo = ref(box);
    return typeof undo === "function" ? undo : () => ref(null);
  }
  if (ref === undefined || ref === null) return () => undefined;
  ref.current = box;
  return () => {
    ref.current = null;
  };
}
