/** The API key that this browser gives, and whether the page should ask for one. */

const NAME = "caesarion.key";
const listeners = new Set<() => void>();
let wanted = false;

export function apiKey(): string {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

/** Keep a key; an empty one forgets it. */
export function setApiKey(key: string): void {
  try {
    if (key) localStorage.setItem(NAME, key);
    else localStorage.removeItem(NAME);
  } catch {
    // A browser that keeps nothing asks again.
  }
  wanted = false;
  for (const listener of listeners) listener();
}

/** Have the page ask for a key. */
export function askForKey(): void {
  wanted = true;
  for (const listener of listeners) listener();
}

/** The user would rather not give one now. */
export function dismissKey(): void {
  wanted = false;
  for (const listener of listeners) listener();
}

export function keyIsWanted(): boolean {
  return wanted;
}

export function onKeyChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
