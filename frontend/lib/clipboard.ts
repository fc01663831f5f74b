/** Copy text. Throws an Error in words for people where the browser does not let a page copy. */
export async function toClipboard(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    throw new Error(
      isSecureContext
        ? "The browser did not allow copying. Select the text and copy it by hand."
        : "Copying works over https and on localhost only. Select the text and copy it by hand.",
    );
  }
}
