/** The states that `make screenshots` makes pictures of, to be looked at. */
import path from "node:path";
import type { BrowserContextOptions, Page } from "playwright-core";
import { chooseFiles } from "../harness/files";
import { fail, gate, python, say } from "../harness/model";
import {
  answered,
  button,
  cells,
  code,
  filesPanel,
  messageBox,
  openPage,
  picture,
  said,
  send,
  sessionList,
  sessionOf,
  shown,
} from "../harness/see";
import { type Given, story } from "../harness/story";

const SAMPLE = path.join(process.cwd(), "public", "sample-sales.csv");
const LOOKS: Record<string, BrowserContextOptions> = {
  light: { colorScheme: "light", viewport: { width: 1280, height: 860 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 860 } },
  phone: { colorScheme: "light", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
};
/** Tall enough for a question and its answer: README shows it. */
const WHOLE_CHAT = { width: 1180, height: 1180 };
const SALES = `import pandas as pd, matplotlib.pyplot as plt

sales = pd.read_csv("sample-sales.csv", parse_dates=["date"])
monthly = sales.pivot_table(index=sales.date.dt.to_period("M"), columns="region", values="revenue", aggfunc="sum")
ax = monthly.plot(figsize=(8, 3.4), xlabel="", ylabel="revenue")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
monthly.tail()`;
const SALES_ANSWER = `**South** grew fastest: its monthly revenue more than doubled within the year, while West hardly grew.

The growth rate is $g = \\left(\\frac{r_n}{r_1}\\right)^{1/n} - 1$; ask for any region to see it worked out.`;
const KINDS = `import sys
from IPython.display import HTML, JSON, Latex, display
print("\\x1b[32m✓\\x1b[0m 3 files read, \\x1b[33m1 warning\\x1b[0m"); print("DeprecationWarning: use the new name", file=sys.stderr)
display(Latex(r"$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$"))
display(HTML("<b>HTML</b> in a frame of its own"))
def deep(n):
    return 1 / n if n == 0 else deep(n - 1)
deep(3)`;
const VEGA = `display({"application/vnd.vegalite.v5+json": {"mark": "bar", "width": 300, "height": 140, "data": {"values": [{"a": k, "b": v} for k, v in zip("ABCD", (28, 55, 43, 91))]}, "encoding": {"x": {"field": "a"}, "y": {"field": "b", "type": "quantitative"}}}}, raw=True)
display({"application/vnd.plotly.v1+json": {"data": [{"type": "scatter", "x": [1, 2, 3, 4], "y": [1, 4, 9, 16]}], "layout": {"height": 260, "title": {"text": "Squares"}}}}, raw=True)`;

for (const [look, context] of Object.entries(LOOKS)) {
  const shoot = async ({ page, pictures }: Given, name: string): Promise<void> => {
    await settled(page);
    await page.screenshot({ path: path.join(pictures, `${name}-${look}.png`), animations: "disabled" });
  };

  story(
    `first page, ${look}`,
    async (given) => {
      await openPage(given.page, given.url);
      await shoot(given, "first-page");
    },
    { context },
  );

  story(
    `chat, ${look}`,
    async (given) => {
      const { page, url, model } = given;
      const question = "Which region grew fastest? Show it.";
      await model.answers(question, python(SALES, "Let me look at the data."), say(SALES_ANSWER));
      await openPage(page, url);
      await chooseFiles(page, SAMPLE);
      await shown(page.getByText("sample-sales.csv"));
      await shoot(given, "upload");
      await send(page, question);
      await shown(page.getByText("grew fastest", { exact: false }).last());
      await answered(page);
      await shown(picture(page));
      if (look === "light") await page.setViewportSize(WHOLE_CHAT);
      await said(page, "You").scrollIntoViewIfNeeded();
      await shoot(given, "chat");
      await button(page, "Files").click();
      const file = await shown(button(filesPanel(page), "Preview sample-sales.csv"));
      await shoot(given, "files");
      await file.click();
      await shown(page.getByRole("table").last());
      await shoot(given, "preview");
      await page.keyboard.press("Escape");
    },
    { context },
  );

  story(
    `outputs, ${look}`,
    async (given) => {
      const { page, url, model } = given;
      await model.answers("Show me every kind", python(KINDS), python(VEGA), say("That is all of them."));
      await openPage(page, url);
      await send(page, "Show me every kind");
      await shown(page.getByText("That is all of them."));
      await answered(page);
      await cells(page).first().scrollIntoViewIfNeeded();
      await shoot(given, "outputs");
      await cells(page).last().scrollIntoViewIfNeeded();
      await shown(page.locator('iframe[title="Output"]'));
      await shoot(given, "figures");
    },
    { context },
  );

  story(
    `running, failed and gone, ${look}`,
    async (given) => {
      const { page, url, model, functions } = given;
      const waits =
        'import os, time\nprint("step 1 of 3", flush=True)\nwhile not os.path.exists("go.txt"): time.sleep(0.1)';
      await model.answers("Run for a while", python(waits), say("Done. ", gate("rest"), "Really."));
      await model.answers("Now fail", fail("the model is out of order"));
      await openPage(page, url);
      await send(page, "Run for a while");
      await shown(page.getByText("step 1 of 3", { exact: true }));
      await shoot(given, "running");
      await functions.putFile(await sessionOf(page), "go.txt");
      await shown(page.getByText("Done."));
      await shoot(given, "streaming");
      await model.open("rest");
      await answered(page);
      await send(page, "Now fail");
      await shown(button(page, "Try again"));
      await shoot(given, "failed");
      await functions.close(await sessionOf(page));
      await page.reload();
      await shown(page.getByRole("button", { name: "Sandbox: gone" }));
      await shoot(given, "gone");
    },
    { context },
  );

  story(
    `notebook, ${look}`,
    async (given) => {
      const { page, url } = given;
      await openPage(page, url);
      if (look === "phone") await button(page, "Sessions").click();
      await button(page, "New notebook").click();
      const first = cells(page).first();
      await shown(code(first));
      await shoot(given, "notebook-empty");
      await code(first).fill("import math\n\nradius = 2.5\nprint(f'area: {math.pi * radius ** 2:.2f}')");
      await code(first).press("Shift+Enter");
      await shown(first.getByText("area: 19.63"));
      const second = cells(page).nth(1);
      await code(second).fill("radius / 0");
      await code(second).press("Control+Enter");
      await shown(second.getByText(/ZeroDivisionError/));
      await shoot(given, "notebook");
    },
    { context, product: "plain" },
  );

  story(
    `sidebar and dialogs, ${look}`,
    async (given) => {
      const { page, url, model } = given;
      await model.answers("Remember this conversation", say("Gladly."));
      await openPage(page, url);
      await send(page, "Remember this conversation");
      await shown(page.getByText("Gladly."));
      await answered(page);
      if (look === "phone") await button(page, "Sessions").click();
      await shown(sessionList(page));
      await shoot(given, "sessions");
      await button(page, "Keyboard help").click();
      await shown(page.getByRole("dialog", { name: "Keyboard help" }));
      await shoot(given, "help");
      await page.keyboard.press("Escape");
      // On a phone the list is a dialog too; an Escape may also close the tooltip of the button that has the focus.
      while (await page.getByRole("dialog").count()) await page.keyboard.press("Escape");
      await page.getByRole("button", { name: /^Sandbox: / }).click();
      await shoot(given, "sandbox");
      await page.keyboard.press("Escape");
      await button(page, "Files").click();
      await shown(filesPanel(page));
      await shoot(given, "files-empty");
    },
    { context },
  );

  story(
    `key, ${look}`,
    async (given) => {
      const { page, url } = given;
      await openPage(page, url);
      await messageBox(page).fill("May I?");
      await messageBox(page).press("Enter");
      await shown(page.getByRole("dialog", { name: /key/i }));
      await shoot(given, "key");
    },
    { context, product: "keyed" },
  );
}

/** Wait until fonts are loaded and pictures are decoded. */
async function settled(page: Page): Promise<void> {
  await page.evaluate(async () => {
    await document.fonts.ready;
    await Promise.all([...document.images].map((image) => image.decode().catch(() => undefined)));
  });
}
