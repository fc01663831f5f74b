"use client";

import { Check, Copy } from "lucide-react";
import type { ReactNode } from "react";
import { IconButton } from "@/components/ui/button";
import { useCopy } from "./use-copy";

export interface CopyButtonProps {
  /** Its accessible name: "Copy code". */
  label: string;
  /** What is copied, for screen readers: "Code". */
  what: string;
  text(): string;
}

export function CopyButton({ label, what, text }: CopyButtonProps): ReactNode {
  const [copy, copied] = useCopy(what);
  return (
    <IconButton label={label} size="sm" onClick={() => copy(text())}>
      {copied ? <Check aria-hidden /> : <Copy aria-hidden />}
    </IconButton>
  );
}
