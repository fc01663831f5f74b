/** Return an unguessable id of 128 random bits that the functions accept. */
export function newId(prefix: string): string {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `${prefix}_${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
