import { python, say } from "../harness/model";
import {
  answered,
  badge,
  button,
  conversation,
  count,
  gone,
  messageBox,
  openPage,
  said,
  send,
  sessionList,
  sessionOf,
  shown,
} from "../harness/see";
import { story } from "../harness/story";

story("finds sessions by search, renames one and deletes one", async ({ page, url, model }) => {
  await openPage(page, url);
  for (const [text, answer] of [
    ["Weather in Rome", "Sunny."],
    ["Prices of tea", "Rising."],
  ] as const) {
    await model.answers(text, say(answer));
    await button(page, "New chat").click();
    await send(page, text);
    await shown(page.getByText(answer));
    await answered(page);
  }
  const list = await shown(sessionList(page));
  await shown(list.getByText("Weather in Rome"));
  const search = list.getByRole("searchbox").or(list.getByRole("textbox", { name: /search/i }));
  await search.first().fill("tea");
  await gone(list.getByText("Weather in Rome"));
  await shown(list.getByText("Prices of tea"));
  await search.first().fill("");
  await list.getByText("Weather in Rome").hover();
  await openActions(list.getByRole("listitem").filter({ hasText: "Weather in Rome" }));
  await page.getByRole("menuitem", { name: /rename/i }).click();
  const name = page.getByRole("textbox", { name: /name|title/i });
  await name.fill("Rome");
  await name.press("Enter");
  await shown(list.getByText("Rome", { exact: true }));
  await page.reload();
  await shown(list.getByText("Rome", { exact: true }));
  await openActions(list.getByRole("listitem").filter({ hasText: "Prices of tea" }));
  await page.getByRole("menuitem", { name: /delete/i }).click();
  await button(page.getByRole("dialog").or(page.getByRole("alertdialog")), "Delete").click();
  await gone(list.getByText("Prices of tea"));
  await shown(list.getByText("Rome", { exact: true }));
});

story("comes back after the session's machine was removed, sees the conversation, and goes on", async (given) => {
  const { page, url, model, functions } = given;
  await model.answers("Remember 7", python("seven = 7\nprint('noted')"), say("Noted."));
  await model.answers("Go on", say("Going on."));
  await openPage(page, url);
  await send(page, "Remember 7");
  await shown(page.getByText("Noted."));
  await answered(page);
  const session = await sessionOf(page);
  await functions.close(session);
  await page.reload();
  await shown(conversation(page).getByText("Noted."));
  await shown(badge(page).and(page.getByRole("button", { name: "Sandbox: gone" })));
  const notice = page
    .getByRole("note")
    .or(page.getByRole("alert"))
    .filter({ hasText: /variables|files/i });
  await shown(notice);
  const onward = notice.getByRole("button").first();
  if (await onward.isVisible()) await onward.click();
  await send(page, "Go on");
  await shown(page.getByText("Going on."));
  await shown(conversation(page).getByText("Noted."));
});

story("is told that variables are lost when the kernel was restarted", async ({ page, url, model, functions }) => {
  await model.answers("Set x", python("x = 1\nprint('set')"), say("Set."));
  await openPage(page, url);
  await send(page, "Set x");
  await shown(page.getByText("Set."));
  await answered(page);
  await functions.restart(await sessionOf(page));
  await page.reload();
  await shown(page.getByText(/variables/i).first());
  await count(said(page, "You"), 1);
});

story(
  "is asked for a key where the server wants one, and goes on with it",
  async ({ page, url, model, key }) => {
    await model.answers("May I?", say("You may."));
    await openPage(page, url);
    await messageBox(page).fill("May I?");
    await messageBox(page).press("Enter");
    const dialog = await shown(page.getByRole("dialog", { name: /key/i }));
    await dialog.getByLabel("API key").fill("cz_wrong");
    await button(dialog, "Use this key").click();
    await shown(page.getByText(/key/i).first());
    const again = page.getByRole("dialog", { name: /key/i });
    if (!(await again.isVisible())) await button(page, "Try again").first().click();
    await (await shown(again)).getByLabel("API key").fill(key);
    await button(again, "Use this key").click();
    await gone(again);
    const retry = button(page, "Try again");
    await shown(retry.or(page.getByText("You may.")));
    if (await retry.first().isVisible()) await retry.first().click();
    await shown(page.getByText("You may."));
    await page.reload();
    await shown(page.getByText("You may."));
  },
  { product: "keyed" },
);

async function openActions(item: import("playwright-core").Locator): Promise<void> {
  await item.first().hover();
  await item.first().getByRole("button").last().click();
}
