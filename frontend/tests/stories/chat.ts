import path from "node:path";
import { readFile } from "node:fs/promises";
import { fail, gate, python, say } from "../harness/model";
import {
  answered,
  button,
  cells,
  code,
  conversation,
  count,
  expect,
  filesPanel,
  openPage,
  picture,
  said,
  send,
  sessionOf,
  shown,
  shownTimes,
} from "../harness/see";
import { Line } from "../harness/servers";
import { story } from "../harness/story";
import { chooseFiles } from "../harness/files";

const SAMPLE = path.join(process.cwd(), "public", "sample-sales.csv");
const PLOT = `import pandas as pd, matplotlib.pyplot as plt
sales = pd.read_csv("sample-sales.csv")
sales.groupby("region").revenue.sum().plot.bar()
plt.show()
print("rows:", len(sales))`;

story("uploads a CSV, asks for a plot, sees it, edits the cell and runs it again", async ({ page, url, model }) => {
  await model.answers("Plot revenue by region", python(PLOT), say("North sells most."));
  await openPage(page, url);
  await chooseFiles(page, SAMPLE);
  await shown(page.getByText("sample-sales.csv"));
  await send(page, "Plot revenue by region");
  await shown(picture(page));
  await shown(conversation(page).getByText(/rows: \d+/));
  await shown(page.getByText("North sells most."));
  await answered(page);
  const cell = cells(page).first();
  await button(cell, "Edit").click();
  await code(cell).fill('print("edited:", sales.revenue.count())');
  await button(cell, "Run").click();
  await shown(cell.getByText(/edited: \d+/).and(cell.locator(":not(.cm-content *)")));
});

story("reloads in the middle of an answer and has all of it once", async ({ page, url, model }) => {
  await model.answers("Tell me", say("The first part. ", gate("more"), "The second part."));
  await openPage(page, url);
  await send(page, "Tell me");
  await shown(page.getByText("The first part."));
  await sessionOf(page);
  await page.reload();
  await shown(page.getByText("The first part."));
  await model.open("more");
  await shown(page.getByText("The second part."));
  await answered(page);
  await shownTimes(page, "The first part.", 1);
  await shownTimes(page, "The second part.", 1);
  await page.reload();
  await shown(page.getByText("The second part."));
  await shownTimes(page, "The first part.", 1);
  await count(said(page, "You"), 1);
});

story("reloads while code runs and sees its output go on", async ({ page, url, model, functions }) => {
  const waits =
    'print("before")\nimport os, time\nwhile not os.path.exists("go.txt"): time.sleep(0.01)\nprint("after")';
  await model.answers("Run it", python(waits), say("It has run."));
  await openPage(page, url);
  await send(page, "Run it");
  await shown(conversation(page).getByText("before", { exact: true }));
  const session = await sessionOf(page);
  await page.reload();
  await shown(conversation(page).getByText("before", { exact: true }));
  await functions.putFile(session, "go.txt");
  await shown(page.getByText("It has run."));
  await answered(page);
  await count(cells(page), 1);
});

story("stops an endless loop and keeps the variables", async ({ page, url, model }) => {
  const endless = 'kept = 41\nprint("looping", flush=True)\nwhile True:\n    pass';
  await model.answers("Loop", python(endless));
  await model.answers("What is kept?", python('print("kept is", kept + 1)'), say("Still there."));
  await openPage(page, url);
  await send(page, "Loop");
  await shown(conversation(page).getByText("looping", { exact: true }));
  await button(page, "Stop").click();
  await answered(page);
  await send(page, "What is kept?");
  await shown(page.getByText("kept is 42"));
  await shown(page.getByText("Still there."));
});

story("sees the same turn in a second tab, each message once", async ({ page, url, model, newTab }) => {
  await model.answers("Share this", say("Seen by both. ", gate("rest"), "To the end."));
  await model.answers("From the other tab", say("Heard in both."));
  await openPage(page, url);
  await send(page, "Share this");
  await shown(page.getByText("Seen by both."));
  const other = await newTab();
  await openPage(other, url, await sessionOf(page));
  await shown(other.getByText("Seen by both."));
  await model.open("rest");
  for (const tab of [page, other]) {
    await shown(tab.getByText("To the end."));
    await answered(tab);
    await shownTimes(tab, "Seen by both.", 1);
    await count(said(tab, "You"), 1);
  }
  await send(other, "From the other tab");
  for (const tab of [other, page]) {
    await shown(tab.getByText("Heard in both."));
    await count(said(tab, "You"), 2);
    await shownTimes(tab, "Heard in both.", 1);
  }
});

story("downloads a file that code wrote", async ({ page, url, model }) => {
  const writes = 'open("report.csv", "w").write("a,b\\n1,2\\n")\nprint("written")';
  await model.answers("Write a report", python(writes), say("See report.csv."));
  await openPage(page, url);
  await send(page, "Write a report");
  await shown(page.getByText("See report.csv."));
  await button(page, "Files").click();
  const panel = await shown(filesPanel(page));
  await shown(panel.getByText("report.csv"));
  const downloading = page.waitForEvent("download");
  await panel
    .getByRole("button", { name: /^Download/ })
    .or(panel.getByRole("link", { name: /^Download/ }))
    .first()
    .click();
  const download = await downloading;
  expect(download.suggestedFilename() === "report.csv", "the file's own name");
  expect((await readFile(await download.path(), "utf8")) === "a,b\n1,2\n", "the bytes that the code wrote");
});

story("edits a message and gets another answer", async ({ page, url, model }) => {
  await model.answers("Name a river", say("The Rhine."));
  await model.answers("Name a mountain", say("The Eiger."));
  await openPage(page, url);
  await send(page, "Name a river");
  await shown(page.getByText("The Rhine."));
  await answered(page);
  const mine = said(page, "You").first();
  await mine.hover();
  await button(mine, "Edit message").click();
  const box = page.getByRole("textbox", { name: /edit/i });
  await box.fill("Name a mountain");
  await box.press("Enter");
  await shown(page.getByText("The Eiger."));
  await answered(page);
  await shownTimes(page, "The Rhine.", 0);
  await count(said(page, "You"), 1);
});

story("has the last question answered again", async ({ page, url, model }) => {
  await model.answers("Pick a number", say("Seven."), say("Eleven."));
  await openPage(page, url);
  await send(page, "Pick a number");
  await shown(page.getByText("Seven."));
  await answered(page);
  const answer = said(page, "Caesarion").last();
  await answer.hover();
  await button(answer, "Answer again").click();
  await shown(page.getByText("Eleven."));
  await answered(page);
  await shownTimes(page, "Seven.", 0);
  await count(said(page, "You"), 1);
});

story("is told in words that the model failed, and tries again", async ({ page, url, model }) => {
  await model.answers("Are you there?", fail("the model is out of order"), say("Here I am."));
  await openPage(page, url);
  await send(page, "Are you there?");
  await shown(button(page, "Try again"));
  await button(page, "Try again").click();
  await shown(page.getByText("Here I am."));
  await answered(page);
  await count(said(page, "You"), 1);
});

story(
  "loses the connection in the middle of an answer and misses nothing",
  async ({ page, url, model, afterwards }) => {
    const line = await Line.to(url, afterwards);
    await model.answers("Keep talking", say("One. ", gate("cut"), "Two. ", gate("end"), "Three."));
    await openPage(page, line.url);
    await send(page, "Keep talking");
    await shown(page.getByText("One."));
    line.cut();
    await model.open("cut");
    line.mend();
    await shown(page.getByText("Two."));
    await model.open("end");
    await shown(page.getByText("Three."));
    await answered(page);
    for (const part of ["One.", "Two.", "Three."]) await shownTimes(page, part, 1);
    await count(said(page, "You"), 1);
  },
  { allowed: [/net::ERR_/] },
);

story(
  "goes offline for a while and is told so",
  async ({ page, url, model, afterwards }) => {
    const line = await Line.to(url, afterwards);
    await model.answers("Hello", say("Hello to you."));
    await openPage(page, line.url);
    line.cut();
    await send(page, "Hello");
    await shown(page.getByText(/cannot be reached|offline|connection|does not answer/i).first());
    line.mend();
    const again = button(page, "Try again");
    await shown(again.or(page.getByText("Hello to you.")));
    if (await again.first().isVisible()) await again.first().click();
    await shown(page.getByText("Hello to you."));
    await count(said(page, "You"), 1);
  },
  { allowed: [/net::ERR_/] },
);
