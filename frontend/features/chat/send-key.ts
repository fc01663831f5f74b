/** Whether a key press sends: Enter, but not as part of composing a character, and with Shift it is a new line. */
export function isSendKey(event: KeyboardEvent): boolean {
  return event.key === "Enter" && !event.shiftKey && !event.altKey && !event.isComposing && event.keyCode !== 229;
}
