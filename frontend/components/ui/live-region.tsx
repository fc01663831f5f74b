"use client";

import { type ReactNode, useEffect, useState } from "react";
import { onAnnouncement } from "@/lib/announce";

/** Speaks what `announce` is given. Once on the page. */
export function LiveRegion(): ReactNode {
  const [said, setSaid] = useState({ text: "", turn: 0 });
  useEffect(() => onAnnouncement((text) => setSaid((before) => ({ text, turn: before.turn + 1 }))), []);
  return (
    <div role="status" className="visually-hidden">
      <span key={said.turn}>{said.text}</span>
    </div>
  );
}
