/** What is typed and not sent yet, per session, as long as the tab lives. */

const PREFIX = "caesarion.draft.";

export function loadDraft(session: string): string {
  try {
    return sessionStorage.getItem(PREFIX + session) ?? "";
  } catch {
    return "";
  }
}

export function saveDraft(session: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(PREFIX + session, text);
    else sessionStorage.removeItem(PREFIX + session);
  } catch {
    // A browser that keeps nothing forgets drafts with the page.
  }
}

/** Return a text that was refused together with what has been typed since. */
export function takenBack(returned: string, typed: string): string {
  return typed.trim() && typed !== returned ? `${returned}\n\n${typed}` : returned;
}

/** Text for the message box, from an example; another object is another wish, also with the same text. */
export interface Draft {
  text: string;
}
