"use client";

import { type ReactNode, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { Notice } from "@/components/ui/notice";
import { type FrameContent, type FrameTheme, heard, type ToFrame } from "@/render/protocol";
import { useLiveNear } from "./live-frames";
import { useDark } from "./theme";
import { Waiting } from "./placeholder";
import styles from "./frame.module.css";

export interface FrameProps {
  content: FrameContent;
  /** Names the output, so that its height is known when it comes back into sight. */
  id: string;
  /** Height to keep before the frame has told its own. */
  guessPx: number;
}

type Fate = "shown" | "left" | "silent";

/** The page waits so long for the frame's script. */
const READY_WITHIN_MS = 20_000;

/** Heights that frames had, the last used last. */
const heights = new Map<string, number>();
const MAX_HEIGHTS = 2_000;

function rememberHeight(id: string, px: number): void {
  heights.delete(id);
  heights.set(id, px);
  for (const oldest of heights.keys()) {
    if (heights.size <= MAX_HEIGHTS) break;
    heights.delete(oldest);
  }
}

/** An output that runs scripts or has foreign HTML, in a frame that reaches nothing. Drawn when it is near the window. */
export function Frame({ content, id, guessPx }: FrameProps): ReactNode {
  const [ref, live] = useLiveNear();
  const [height, setHeight] = useState(() => heights.get(id));
  const [fate, setFate] = useState<Fate>("shown");
  const grow = useCallback(
    (px: number) => {
      setHeight(px);
      rememberHeight(id, px);
    },
    [id],
  );
  if (fate !== "shown") {
    return (
      <Notice kind="warning">
        {fate === "left"
          ? "This output tried to leave the page and was removed."
          : "This output cannot be shown: its frame did not load."}
      </Notice>
    );
  }
  return (
    <div ref={ref} className={styles.frame} style={{ height: height ?? guessPx }}>
      {live ? (
        <LiveFrame content={content} known={height !== undefined} onHeight={grow} onFate={setFate} />
      ) : (
        height === undefined && <Waiting words="Drawing the output" />
      )}
    </div>
  );
}

interface LiveFrameProps {
  content: FrameContent;
  /** Whether it has told its height. */
  known: boolean;
  onHeight(px: number): void;
  onFate(fate: Fate): void;
}

function LiveFrame({ content, known, onHeight, onFate }: LiveFrameProps): ReactNode {
  const frame = useRef<HTMLIFrameElement>(null);
  const [ready, setReady] = useState(false);
  const [drawn, setDrawn] = useState(false);
  const loads = useRef(0);
  const dark = useDark();
  const sent = useRef<FrameContent>(undefined);

  useLayoutEffect(() => {
    const listen = (event: MessageEvent<unknown>): void => {
      if (event.source === null || event.source !== frame.current?.contentWindow) return;
      const message = heard(event.data);
      if (message?.type === "ready") setReady(true);
      if (message?.type === "height") {
        setDrawn(true);
        onHeight(message.px);
      }
    };
    window.addEventListener("message", listen);
    return () => window.removeEventListener("message", listen);
  }, [onHeight]);

  useEffect(() => {
    if (ready) return undefined;
    const timer = setTimeout(() => onFate("silent"), READY_WITHIN_MS);
    return () => clearTimeout(timer);
  }, [ready, onFate]);

  useEffect(() => {
    const target = frame.current?.contentWindow;
    if (!ready || target === null || target === undefined) return;
    const theme = themeOf(dark);
    const message: ToFrame = sent.current === content ? { type: "theme", theme } : { type: "render", content, theme };
    sent.current = content;
    // The frame has no origin that could be named; what is sent is what it is to show.
    target.postMessage(message, "*");
  }, [ready, content, dark]);

  const noteLoad = (): void => {
    loads.current += 1;
    // It loads once; a second document is one that the output went to.
    if (loads.current > 1) onFate("left");
  };
  return (
    <>
      {!drawn && !known && <Waiting words="Drawing the output" />}
      <iframe
        ref={frame}
        src="/render.html"
        sandbox="allow-scripts"
        title="Output"
        className={styles.inner}
        data-drawn={drawn}
        referrerPolicy="no-referrer"
        onLoad={noteLoad}
      />
    </>
  );
}

function themeOf(dark: boolean): FrameTheme {
  const computed = getComputedStyle(document.documentElement);
  const value = (name: string): string => computed.getPropertyValue(name).trim();
  return {
    dark,
    text: value("--color-text"),
    muted: value("--color-text-muted"),
    border: value("--color-border"),
    accent: value("--color-accent"),
    background: value("--color-bg"),
    font: value("--font-sans"),
    mono: value("--font-mono"),
  };
}
