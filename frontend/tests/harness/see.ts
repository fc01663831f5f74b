/** What stories look for, by the names that users and screen readers know. */
import type { Locator, Page } from "playwright-core";

export type Place = Page | Locator;

export const messageBox = (page: Place): Locator => page.getByRole("textbox", { name: "Message", exact: true });
export const button = (page: Place, name: string | RegExp): Locator =>
  page.getByRole("button", { name, exact: typeof name === "string" });
export const cells = (page: Place): Locator => page.getByLabel("Python cell", { exact: true });
/** The editor itself, not the plain box that stands in for it while it is loaded. */
export const code = (page: Place): Locator =>
  page.locator(".cm-content").and(page.getByRole("textbox", { name: "Code", exact: true }));
export const picture = (page: Place): Locator => page.getByRole("img", { name: "Picture made by the code" });
export const said = (page: Place, by: "You" | "Caesarion"): Locator =>
  page.getByRole("article", { name: by, exact: true });
export const conversation = (page: Place): Locator => page.getByLabel("Conversation", { exact: true });
export const filesPanel = (page: Place): Locator => page.getByRole("complementary", { name: "Files", exact: true });
export const sessionList = (page: Place): Locator => page.getByRole("navigation", { name: "Sessions", exact: true });
export const frame = (page: Place): Locator => page.locator('iframe[title="Output"]');
export const badge = (page: Place): Locator => page.getByRole("button", { name: /^Sandbox: / });

/** Wait until something is seen; what `locator` finds first counts. */
export async function shown(locator: Locator): Promise<Locator> {
  const first = locator.first();
  await first.waitFor({ state: "visible" });
  return first;
}

export async function gone(locator: Locator): Promise<void> {
  await locator.first().waitFor({ state: "hidden" });
}

/** Wait until there are exactly so many. */
export async function count(locator: Locator, wanted: number): Promise<void> {
  if (wanted === 0) return locator.first().waitFor({ state: "detached" });
  await locator.nth(wanted - 1).waitFor({ state: "attached" });
  const found = await locator.count();
  if (found !== wanted) throw new Error(`${found} instead of ${wanted}: ${String(locator)}`);
}

/** Open the page, of a session where one is named, and wait until one can write. */
export async function openPage(page: Page, url: string, session?: string): Promise<void> {
  await page.goto(session === undefined ? url : `${url}/?c=${session}`);
  await shown(messageBox(page));
}

/** Write a message and send it. */
export async function send(page: Page, text: string): Promise<void> {
  await messageBox(page).fill(text);
  await button(page, "Send").click();
}

/** Wait until the answer is over: one can send again. */
export async function answered(page: Page): Promise<void> {
  await gone(button(page, "Stop"));
  await shown(button(page, "Send"));
}

/** Return the session that the page shows. */
export async function sessionOf(page: Page): Promise<string> {
  await page.waitForURL((url) => url.searchParams.has("c"));
  return new URL(page.url()).searchParams.get("c") ?? "";
}

/** Return how often a text stands in what the page shows of the conversation. */
export async function timesShown(page: Page, text: string): Promise<number> {
  return (await conversation(page).innerText()).split(text).length - 1;
}

/** Wait until a text stands there exactly so often: no part is lost and none is there twice. */
export async function shownTimes(page: Page, text: string, times: number): Promise<void> {
  await page.waitForFunction(
    ([wanted, expected]) => {
      const place = document.querySelector<HTMLElement>('[aria-label="Conversation"]');
      return place !== null && place.innerText.split(wanted).length - 1 === expected;
    },
    [text, times] as const,
  );
}

export function expect(truth: boolean, what: string): asserts truth {
  if (!truth) throw new Error(`expected: ${what}`);
}
