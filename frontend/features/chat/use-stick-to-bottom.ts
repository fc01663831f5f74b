import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

/** Close enough to the end to count as being there. */
const NEAR_PX = 48;

export interface StickToBottom {
  scroller: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  /** Whether the end is in view. */
  atEnd: boolean;
  /** Go to the end, and stay there while more comes. */
  toEnd(): void;
}

/** Keep the end in view while content grows, as long as the user has not scrolled up and it is `wanted` at all. */
export function useStickToBottom(wanted: boolean): StickToBottom {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const sticks = useRef(true);
  const [atEnd, setAtEnd] = useState(true);

  const toEnd = useCallback(() => {
    sticks.current = true;
    setAtEnd(true);
    const element = scroller.current;
    if (element !== null) element.scrollTop = element.scrollHeight;
  }, []);

  useEffect(() => {
    const element = scroller.current;
    const inner = content.current;
    if (!wanted || element === null || inner === null) return undefined;
    let lastTop = element.scrollTop;
    let lastHeight = element.clientHeight;
    const follow = (): void => {
      if (sticks.current) element.scrollTop = element.scrollHeight;
      else setAtEnd(isNear(element));
    };
    const onScroll = (): void => {
      const near = isNear(element);
      if (near) sticks.current = true;
      else if (element.scrollTop < lastTop && element.clientHeight === lastHeight) sticks.current = false;
      lastTop = element.scrollTop;
      lastHeight = element.clientHeight;
      setAtEnd(near || sticks.current);
    };
    const observer = new ResizeObserver(follow);
    observer.observe(inner);
    observer.observe(element);
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", onScroll);
    };
  }, [wanted]);

  return { scroller, content, atEnd, toEnd };
}

function isNear(element: HTMLElement): boolean {
  return element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
}
