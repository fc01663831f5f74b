import { python, say } from "../harness/model";
import {
  answered,
  button,
  cells,
  count,
  expect,
  filesPanel,
  openPage,
  picture,
  said,
  send,
  shown,
} from "../harness/see";
import { story } from "../harness/story";

story(
  "works with page, execute and chat on hosts of their own",
  async ({ page, url, model }) => {
    const foreign: string[] = [];
    page.on("request", (request) => {
      const at = new URL(request.url());
      if (at.origin === url && /^\/(sessions|api)\b/.test(at.pathname)) foreign.push(request.url());
    });
    const draws = [
      "import matplotlib.pyplot as plt, numpy as np",
      "plt.figure(figsize=(9, 6)); plt.imshow(np.random.rand(60, 90)); plt.show()",
      'open("a.csv", "w").write("a\\n1\\n")',
    ].join("\n");
    await model.answers("Draw from afar", python(draws), say("Drawn."));
    await openPage(page, url);
    await send(page, "Draw from afar");
    await shown(page.getByText("Drawn."));
    await answered(page);
    await shown(picture(page));
    await button(page, "Files").click();
    await shown(filesPanel(page).getByText("a.csv"));
    await page.reload();
    await shown(page.getByText("Drawn."));
    await count(cells(page), 1);
    await count(said(page, "You"), 1);
    expect(foreign.length === 0, `no function is asked at the page's own address: ${foreign.join(", ")}`);
  },
  { product: "apart" },
);
