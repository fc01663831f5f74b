import { type RefCallback, useCallback, useState } from "react";

/** A frame is a page of its own: with more of them than this, those out of sight are taken down. */
export const MAX_LIVE_FRAMES = 12;

interface Place {
  near: boolean;
  setLive(live: boolean): void;
}

/** Those that are up, the one that came near last at the end. */
const live: Place[] = [];

function leave(place: Place): void {
  const at = live.indexOf(place);
  if (at >= 0) live.splice(at, 1);
}

function trim(): void {
  for (const place of [...live]) {
    if (live.length <= MAX_LIVE_FRAMES) return;
    if (place.near) continue;
    leave(place);
    place.setLive(false);
  }
}

/** Return the ref for a frame's place, and whether the frame is to be up: it is near, or was and there is room. */
export function useLiveNear(): [RefCallback<Element>, boolean] {
  const [isLive, setLive] = useState(typeof IntersectionObserver === "undefined");
  const ref = useCallback((element: Element | null) => {
    if (element === null || typeof IntersectionObserver === "undefined") return undefined;
    const place: Place = { near: false, setLive };
    const observer = new IntersectionObserver(
      (entries) => {
        place.near = entries.at(-1)?.isIntersecting ?? false;
        if (place.near) {
          leave(place);
          live.push(place);
          setLive(true);
        }
        trim();
      },
      { rootMargin: "600px 0px" },
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      leave(place);
    };
  }, []);
  return [ref, isLive];
}
