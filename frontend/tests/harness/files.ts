import type { Page } from "playwright-core";
import { button } from "./see";

/** Choose files in the system's dialog, as after a click on the button. */
export async function chooseFiles(page: Page, ...paths: string[]): Promise<void> {
  const choosing = page.waitForEvent("filechooser");
  await button(page, "Upload files").first().click();
  await (await choosing).setFiles(paths);
}

/** Export the session in the form that a menu item names, and return where the file lies. */
export async function exported(page: Page, form: RegExp): Promise<string> {
  await button(page, "Export").click();
  const downloading = page.waitForEvent("download");
  await page.getByRole("menuitem", { name: form }).first().click();
  return (await downloading).path();
}
