import type { Page } from "playwright-core";
import { gate, say } from "../harness/model";
import { answered, button, count, expect, gone, messageBox, openPage, said, shown } from "../harness/see";
import { story } from "../harness/story";

story("does it all by keyboard: writes, stops, asks for help, begins anew, goes back", async ({ page, url, model }) => {
  await model.answers("Begin", say("Beginning. ", gate("never"), "Not heard."));
  await openPage(page, url);
  await focused(page, "Message");
  await page.keyboard.type("Begin");
  await page.keyboard.press("Enter");
  await shown(page.getByText("Beginning."));
  await page.keyboard.press("Escape");
  await answered(page);
  await tabTo(page, /^Keyboard help$/, "Shift+Tab");
  await page.keyboard.press("Enter");
  const help = await shown(page.getByRole("dialog", { name: "Keyboard help" }));
  await shown(help.getByText("Send the message"));
  await page.keyboard.press("Escape");
  await gone(help);
  await focused(page, "Keyboard help");
  await page.keyboard.press("Control+Alt+h");
  await shown(help);
  await page.keyboard.press("Escape");
  await gone(help);
  await page.keyboard.press("Control+/");
  await focused(page, "Message");
  const address = page.url();
  await page.keyboard.press("Control+Alt+n");
  await page.waitForURL((now) => now.href !== address);
  await count(said(page, "You"), 0);
  await page.goBack();
  await shown(page.getByText("Beginning."));
  expect(page.url() === address, "the same address as before");
});

story("is told by a live region, part by part, what the answer says", async ({ page, url, model }) => {
  await model.answers("Speak", say("Word ", "by ", "word."));
  await openPage(page, url);
  await page.evaluate(() => {
    const told: string[] = [];
    Object.assign(window, { told });
    const look = (): void => {
      for (const region of document.querySelectorAll('[role="status"], [aria-live="polite"]')) {
        const text = region.textContent ?? "";
        if (text !== "" && told.at(-1) !== text) told.push(text);
      }
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await messageBox(page).fill("Speak");
  await messageBox(page).press("Enter");
  await shown(page.getByText("Word by word."));
  await answered(page);
  await page.waitForFunction(() => (window as unknown as { told: string[] }).told.length > 0);
  const told = await page.evaluate(() => (window as unknown as { told: string[] }).told);
  expect(told.length <= 6, `a few announcements, not one per word: ${JSON.stringify(told)}`);
});

story("keeps focus in the message box after an answer", async ({ page, url, model }) => {
  await model.answers("First", say("Answer one."));
  await openPage(page, url);
  await messageBox(page).focus();
  await page.keyboard.type("First");
  await page.keyboard.press("Enter");
  await shown(page.getByText("Answer one."));
  await answered(page);
  await focused(page, "Message");
  await shown(button(page, "Send"));
});

/** Wait until what has the focus bears this name. */
async function focused(page: Page, name: string): Promise<void> {
  await page.waitForFunction((wanted) => {
    const active = document.activeElement;
    return (active?.getAttribute("aria-label") ?? active?.textContent) === wanted;
  }, name);
}

/** Press Tab until what has the focus bears this name, as one who cannot use a mouse does. */
async function tabTo(page: Page, name: RegExp, key: "Tab" | "Shift+Tab"): Promise<void> {
  for (let presses = 0; presses < 60; presses += 1) {
    const found = await page.evaluate(() => {
      const active = document.activeElement;
      return active?.getAttribute("aria-label") ?? active?.textContent ?? "";
    });
    if (name.test(found)) return;
    await page.keyboard.press(key);
  }
  throw new Error(`${String(name)} cannot be reached with ${key}`);
}
