import { type RefCallback, useCallback, useState } from "react";

/** How far outside the window something counts as near. */
const MARGIN = "800px 0px";

/**
 * Tell whether an element is in the window or close to it: what is far need not be loaded.
 *
 * Returns the ref for the element, and whether it is near now.
 */
export function useNear(): [RefCallback<Element>, boolean] {
  const [near, setNear] = useState(typeof IntersectionObserver === "undefined");
  const ref = useCallback((element: Element | null) => {
    if (element === null || typeof IntersectionObserver === "undefined") return undefined;
    const observer = new IntersectionObserver(
      (entries) => {
        const last = entries.at(-1);
        if (last !== undefined) setNear(last.isIntersecting);
      },
      { rootMargin: MARGIN },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, near];
}
