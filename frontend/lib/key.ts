/** The API key that this browser gives, and whether the page should ask for one. */

const NAME = "caesarion.key";
const listeners = new Set<() => void>();
let wanted = false;
let dismissed = false;

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
  dismissed = false;
  for (const listener of listeners) listener();
}

/** Have the page ask for a key; once the user would rather not, only for something that they did themselves. */
export function askForKey(byUser = false): void {
  if (dismissed && !byUser) return;
  wanted = true;
  for (const listener of listeners) listener();
}

/** The user would rather not give one now. */
export function dismissKey(): void {
  wanted = false;
  dismissed = true;
  for (const listener of listeners) listener();
}

export function keyIsWanted(): boolean {
  return wanted;
}

export function onKeyChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
