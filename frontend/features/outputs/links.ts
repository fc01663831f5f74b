/** What text from a model or a kernel may link to and show: decided by the address alone. */

const LINK = /^(?:https?:\/\/[^\s]+|mailto:[^\s]+)$/i;
const PICTURE = /^(?:data:image\/(?:png|jpeg|gif|webp|svg\+xml)[;,]|blob:)/i;

/** Return the address when it is one that a link may have (http, https, mailto; absolute), else undefined. */
export function linkable(url: string | undefined): string | undefined {
  if (url === undefined || !LINK.test(url)) return undefined;
  try {
    const { protocol } = new URL(url);
    return protocol === "http:" || protocol === "https:" || protocol === "mailto:" ? url : undefined;
  } catch {
    return undefined;
  }
}

/** Return the address when the picture comes along with the text: showing it asks no other server. */
export function showable(url: string | undefined): string | undefined {
  return url !== undefined && PICTURE.test(url) ? url : undefined;
}
