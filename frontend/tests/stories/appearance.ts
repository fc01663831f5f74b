import type { Page } from "playwright-core";
import { accessible } from "../harness/axe";
import { python, say } from "../harness/model";
import {
  answered,
  button,
  cells,
  code,
  expect,
  filesPanel,
  gone,
  messageBox,
  openPage,
  send,
  sessionList,
  shown,
} from "../harness/see";
import { story } from "../harness/story";

const OUTPUTS = `import pandas as pd, matplotlib.pyplot as plt, sys
from IPython.display import HTML, Latex, display
print("plain \\x1b[32mgreen\\x1b[0m"); print("a warning", file=sys.stderr)
plt.plot([1, 3, 2]); plt.show()
display(pd.DataFrame({"region": ["North", "South"], "revenue": [12.5, 7.25]}))
display(Latex(r"$\\int_0^1 x^2\\,dx = \\frac{1}{3}$")); display(HTML("<b>bold</b>"))
open("data.csv", "w").write("a,b\\n1,2\\n3,4\\n")
1 / 0`;
const ANSWER = `## A heading

Some **bold** text, a [link](https://example.org/), \`code\` and $x^2$.

| a | b |
| - | - |
| 1 | 2 |

\`\`\`python
print("highlighted")
\`\`\``;
const THEMES = ["light", "dark"] as const;
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };

for (const theme of THEMES) {
  const context = { colorScheme: theme };

  story(
    `has nothing that axe finds fault with, ${theme}: first page, chat, files, dialogs`,
    async (given) => {
      const { page, url, model } = given;
      await model.answers("Show it all", python(OUTPUTS), say(ANSWER));
      await openPage(page, url);
      await accessible(given, "first page");
      await send(page, "Show it all");
      await shown(page.getByText("A heading"));
      await answered(page);
      await shown(
        cells(page)
          .first()
          .getByText(/ZeroDivisionError/),
      );
      await accessible(given, "chat with outputs");
      await button(cells(page).first(), "Edit").click();
      await shown(code(page));
      await accessible(given, "a cell that is edited");
      await button(page, "Files").click();
      const file = filesPanel(page).getByText("data.csv");
      await shown(file);
      await accessible(given, "files");
      await file.click();
      await shown(page.getByRole("table").filter({ hasText: "3" }));
      await accessible(given, "preview of a file");
      await page.keyboard.press("Escape");
      await button(page, "Keyboard help").click();
      await shown(page.getByRole("dialog", { name: "Keyboard help" }));
      await accessible(given, "help");
      await page.keyboard.press("Escape");
      await button(page, "Export").click();
      await shown(page.getByRole("menuitem"));
      await accessible(given, "export menu");
    },
    { context },
  );

  story(
    `has nothing that axe finds fault with, ${theme}: notebook`,
    async (given) => {
      const { page, url } = given;
      await openPage(page, url);
      await button(page, "New notebook").click();
      const cell = cells(page).first();
      await code(cell).fill("print('one')\n1 / 0");
      await code(cell).press("Shift+Enter");
      await shown(cell.getByText(/ZeroDivisionError/));
      await accessible(given, "notebook");
    },
    { product: "plain", context },
  );
}

story(
  "fits a phone: all is within reach and nothing scrolls sideways",
  async (given) => {
    const { page, url, model } = given;
    await model.answers("Show it all", python(OUTPUTS), say(ANSWER));
    await openPage(page, url);
    await fits(page, "first page");
    await send(page, "Show it all");
    await shown(page.getByText("A heading"));
    await answered(page);
    await fits(page, "chat with outputs");
    await button(page, "Files").click();
    await shown(page.getByText("data.csv"));
    await fits(page, "files");
    await page.keyboard.press("Escape");
    await button(page, "Sessions").click();
    await shown(sessionList(page));
    await fits(page, "sessions");
    for (const name of ["New chat", "New notebook", "Keyboard help"]) await shown(button(page, name));
    await shown(button(page, /^Use (dark|light) theme$/));
    await button(page, "New chat").click();
    await gone(page.getByText("A heading"));
    await shown(messageBox(page));
    await shown(button(page, "Upload files"));
    await accessible(given, "phone");
  },
  { context: PHONE },
);

story("changes between dark and light, and stays so after a reload", async ({ page, url }) => {
  await openPage(page, url);
  const before = await theme(page);
  await button(page, /^Use (dark|light) theme$/).click();
  const after = await theme(page);
  expect(before !== after, "another theme");
  await page.reload();
  await shown(messageBox(page));
  expect((await theme(page)) === after, "the theme that was chosen");
});

function theme(page: Page): Promise<string> {
  return page.evaluate(() => getComputedStyle(document.body).backgroundColor);
}

async function fits(page: Page, where: string): Promise<void> {
  const { inner, outer } = await page.evaluate(() => ({
    inner: document.documentElement.scrollWidth,
    outer: document.documentElement.clientWidth,
  }));
  expect(inner <= outer, `${where}: ${inner} px of content in ${outer} px of width`);
}
