/** What screen readers are told: one polite live region, filled per finished part rather than per character. */

type Listener = (text: string) => void;
let listener: Listener | undefined;

export function announce(text: string): void {
  listener?.(text);
}

/** Called once, by the live region. */
export function onAnnouncement(next: Listener): () => void {
  listener = next;
  return () => {
    if (listener === next) listener = undefined;
  };
}
