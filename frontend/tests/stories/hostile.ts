import type { Page } from "playwright-core";
import { python, say } from "../harness/model";
import { answered, badge, cells, conversation, expect, frame, openPage, send, shown } from "../harness/see";
import { type Canary, canary } from "../harness/servers";
import { type Given, story } from "../harness/story";

/** What the policy stops in the frame is told on the console: there it is meant to happen. */
const STOPPED = [
  /stopped by the policy: .*render\.html/,
  /render(\.html)?\b/,
  /sandbox/i,
  /Content Security Policy/,
  /net::ERR_/,
];

/** Show an output that code makes, and wait until `seen` is there. */
async function show(given: Given, name: string, code: string, seen: (page: Page) => Promise<unknown>): Promise<void> {
  const { page, url, model } = given;
  await model.answers(name, python(code), say(`${name}: shown.`));
  await openPage(page, url);
  await send(page, name);
  await shown(page.getByText(`${name}: shown.`));
  await answered(page);
  await cells(page).first().scrollIntoViewIfNeeded();
  await seen(page);
}

/** The page is as usable as before: a message is answered. */
async function usable({ page, url, model }: Given): Promise<void> {
  expect(page.url().startsWith(url), "the page where it was");
  await model.answers("Still there?", say("Still here."));
  await send(page, "Still there?");
  await shown(page.getByText("Still here."));
  await answered(page);
}

/** Wait until code in the frame has said, in the frame alone, that it has tried everything. */
async function tried(page: Page): Promise<void> {
  await shown(page.frameLocator('iframe[title="Output"]').getByText("tried it all"));
}

function untouched(nobody: Canary): void {
  expect(nobody.asked.length === 0, `nothing leaves the frame, but there came ${JSON.stringify(nobody.asked)}`);
}

const html = (text: string): string =>
  `from IPython.display import HTML, display\ndisplay(HTML(${JSON.stringify(text)}))`;

story(
  "shows HTML whose script reaches neither page, nor storage, nor network",
  async (given) => {
    const nobody = await canary(given.afterwards);
    const script = `
      <p id="told">trying</p>
      <img src="${nobody.url}/picture"><link rel="stylesheet" href="${nobody.url}/style">
      <iframe src="${nobody.url}/frame"></iframe>
      <script src="${nobody.url}/script"></script>
      <script>
        (async () => {
          const reached = [];
          const attempt = async (name, act) => { try { if (await act()) reached.push(name); } catch {} };
          await attempt("parent", () => Boolean(parent.document.body));
          await attempt("storage", () => Boolean(localStorage));
          await attempt("cookies", () => { document.cookie = "a=1"; return document.cookie !== ""; });
          await attempt("databases", () => Boolean(indexedDB.open("x")) && false);
          await attempt("fetch", () => fetch("${nobody.url}/fetch").then(() => true));
          await attempt("fetch page", () => fetch("/config.json").then(() => true));
          await attempt("beacon", () => navigator.sendBeacon("${nobody.url}/beacon", "x") && false);
          await attempt("socket", () => new Promise((resolve, reject) => {
            const socket = new WebSocket("${nobody.url.replace("http", "ws")}/socket");
            socket.onopen = () => resolve(true); socket.onerror = reject;
          }));
          await attempt("form", () => {
            const form = document.createElement("form");
            form.action = "${nobody.url}/form"; form.method = "post"; form.target = "_top";
            document.body.append(form); form.submit(); return false;
          });
          await attempt("background", () => { document.body.style.background = "url(${nobody.url}/background)"; });
          document.getElementById("told").textContent =
            "tried it all, reached: " + (reached.join(", ") || "nothing");
        })();
      </script>`;
    await show(given, "Hostile HTML", html(script), tried);
    const told = given.page.frameLocator('iframe[title="Output"]').getByText("tried it all");
    expect((await told.innerText()).endsWith("reached: nothing"), `nothing reached: ${await told.innerText()}`);
    await usable(given);
    untouched(nobody);
  },
  { allowed: STOPPED },
);

story(
  "shows an SVG with a script that does not run",
  async (given) => {
    const nobody = await canary(given.afterwards);
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40" onload="fetch('${nobody.url}/onload')"><rect width="80" height="40" fill="teal"/><image href="${nobody.url}/image" width="9" height="9"/><script>fetch("${nobody.url}/script");parent.hostile=1</script><foreignObject width="9" height="9"><iframe xmlns="http://www.w3.org/1999/xhtml" src="${nobody.url}/frame"></iframe></foreignObject></svg>`;
    const code = `from IPython.display import SVG, display\ndisplay(SVG(data=${JSON.stringify(svg)}))`;
    await show(given, "Hostile SVG", code, (page) => shown(cells(page).first().locator("img")));
    expect((await cells(given.page).locator("svg rect[fill=teal]").count()) === 0, "no SVG in the page itself");
    expect(!(await given.page.evaluate(() => "hostile" in window)), "its script has not run");
    await usable(given);
    untouched(nobody);
  },
  { allowed: STOPPED },
);

story("shows Markdown of a model without its HTML, pictures from elsewhere and javascript: links", async (given) => {
  const { page, url, model } = given;
  const nobody = await canary(given.afterwards);
  const text = [
    `<img src="${nobody.url}/raw" onerror="window.hostile = 1"><script>window.hostile = 2</script>`,
    `![remote](${nobody.url}/markdown.png) [click me](javascript:window.hostile=3) [data](data:text/html,<script>1</script>)`,
    `[plain](https://example.org/) <iframe src="${nobody.url}/frame"></iframe>`,
    `[encoded](java&#115;cript:window.hostile=4) [vb](vbscript:x) $\\href{javascript:window.hostile=5}{formula}$`,
    `$\\includegraphics{${nobody.url}/katex.png}$`,
    "All of it is said.",
  ].join("\n\n");
  await model.answers("Hostile Markdown", say(text));
  await openPage(page, url);
  await send(page, "Hostile Markdown");
  await shown(page.getByText("All of it is said."));
  await answered(page);
  const place = conversation(page);
  const links = await place.locator("a").evaluateAll((found) => found.map((link) => (link as HTMLAnchorElement).href));
  expect(
    links.every((link) => /^(https?|mailto):/.test(link)),
    `links to the web only, found ${JSON.stringify(links)}`,
  );
  expect(links.includes("https://example.org/"), "the harmless link");
  const remote = await place.locator(`img[src^="${nobody.url}"], iframe, script`).count();
  expect(remote === 0, "no picture from elsewhere, no frame, no script");
  for (const name of ["click me", "encoded", "formula"]) {
    const part = place.getByText(name).first();
    if (await part.isVisible()) await part.click({ timeout: 5_000 }).catch(() => undefined);
  }
  expect(!(await page.evaluate(() => "hostile" in window)), "no script has run");
  await usable(given);
  untouched(nobody);
});

story(
  "shows a frame that tries to navigate itself, the page and new windows",
  async (given) => {
    const nobody = await canary(given.afterwards);
    const before = given.context.pages().length;
    const script = `
      <p id="told">trying</p><a id="top" href="${nobody.url}/top" target="_top">top</a>
      <a id="blank" href="${nobody.url}/blank" target="_blank">blank</a>
      <meta http-equiv="refresh" content="0;url=${nobody.url}/refresh">
      <script>
        for (const act of [
          () => { top.location = "${nobody.url}/location"; },
          () => document.getElementById("top").click(),
          () => document.getElementById("blank").click(),
          () => window.open("${nobody.url}/open"),
          () => alert("hello"),
          () => print(),
        ]) { try { act(); } catch {} }
        document.getElementById("told").textContent = "tried it all";
        try { location.href = "${nobody.url}/itself"; } catch {}
      </script>`;
    await show(given, "Hostile navigation", html(script), (page) => shown(page.getByText("tried to leave the page")));
    await usable(given);
    expect(given.context.pages().length === before, "no window was opened");
    const reached = nobody.asked.filter((request) => !request.endsWith("/favicon.ico"));
    expect(reached.length === 0, `no navigation: ${JSON.stringify(reached)}`);
  },
  { allowed: [...STOPPED, /stopped by the policy: frame-src/] },
);

story(
  "shows a frame that asks for absurd heights and floods the page with messages",
  async (given) => {
    const script = `
      <p id="told">trying</p>
      <script>
        const heights = [1e9, -5, NaN, Infinity, "9e9", null, {}, [1e9]];
        for (const height of heights) for (const type of ["height", "resize", "size", undefined]) {
          parent.postMessage({ type, height, h: height, size: height }, "*"); parent.postMessage(height, "*");
        }
        for (let n = 0; n < 5000; n += 1) parent.postMessage({ type: "height", height: 10 + (n % 900) }, "*");
        document.getElementById("told").textContent = "tried it all";
      </script><div style="height: 2000000px">tall</div>`;
    await show(given, "Hostile heights", html(script), tried);
    const height = (await frame(given.page).first().boundingBox())?.height ?? 0;
    expect(height > 0 && height <= 5_000, `a frame of a height that one can scroll past, not ${height}`);
    await usable(given);
  },
  { allowed: STOPPED },
);

story(
  "shows a frame whose script never ends, and stays usable",
  async (given) => {
    const script = `<p>busy</p><script>setTimeout(() => { for (;;) {} }, 0)</script>`;
    await show(given, "Hostile loop", html(script), (page) => shown(frame(page)));
    await usable(given);
  },
  { allowed: STOPPED },
);

story("shows fifty megabytes of text", async (given) => {
  const code = `import sys\nfor n in range(500):\n    sys.stdout.write((("x" * 99) + "\\n") * 1000)\nprint("the last line")`;
  await show(given, "Much text", code, (page) => shown(badge(page)));
  await usable(given);
});

story("shows one line of ten megabytes", async (given) => {
  await show(given, "One line", 'print("y" * 10_000_000)', (page) => shown(badge(page)));
  await usable(given);
});

story("shows a table of a million rows", async (given) => {
  const code = [
    "from IPython.display import HTML, display",
    'rows = "".join(f"<tr><td>{n}</td><td>{n * n}</td></tr>" for n in range(200_000))',
    'display(HTML("<table><thead><tr><th>n</th><th>square</th></tr></thead><tbody>" + rows + "</tbody></table>"))',
    "import pandas as pd",
    'pd.DataFrame({"n": range(1_000_000), "even": [n % 2 == 0 for n in range(1_000_000)]})',
  ].join("\n");
  await show(given, "A million rows", code, (page) => shown(cells(page).first().getByRole("table").or(frame(page))));
  await usable(given);
});

story("shows bombs of terminal codes", async (given) => {
  const code = [
    "import sys",
    'sys.stdout.write("\\x1b[31m" * 200_000 + "red\\n")',
    'sys.stdout.write("".join(f"\\x1b[38;5;{n % 256}m\\x1b[48;2;{n % 256};0;0m{n}" for n in range(50_000)) + "\\x1b[0m\\n")',
    'sys.stdout.write("\\x1b]8;;javascript:alert(1)\\x07link\\x1b]8;;\\x07\\x1b[999999999A\\x1b[2J\\x1b[" + ";" * 100_000 + "m\\n")',
    'sys.stdout.write("\\r".join(str(n) for n in range(200_000)) + "\\n" + "\\b" * 100_000 + "\\x00\\x07\\x9b31m\\u202e\\n")',
    'print("the end of it")',
  ].join("\n");
  await show(given, "Terminal codes", code, (page) => shown(cells(page).first().getByText("the end of it").last()));
  const links = await cells(given.page).locator('a[href^="javascript"]').count();
  expect(links === 0, "no javascript: link");
  await usable(given);
});

story("shows a thousand outputs of one cell", async (given) => {
  const code = "for n in range(1000):\n    display({'text/plain': f'output {n}'}, raw=True)\nprint('done with all')";
  await show(given, "A thousand outputs", code, (page) =>
    shown(
      cells(page)
        .first()
        .getByText(/output \d+/)
        .first(),
    ),
  );
  await usable(given);
});

story(
  "shows JSON, plotly and vega forms that are not what they say",
  async (given) => {
    const bundles = [
      { "application/vnd.plotly.v1+json": "not a figure", "text/plain": "plain instead" },
      {
        "application/vnd.plotly.v1+json": {
          data: [{ type: "<img src=x onerror=hostile=1>" }],
          layout: { title: { text: "<script>1</script>" } },
        },
      },
      { "application/vnd.vegalite.v5+json": { mark: 7, data: { url: "http://127.0.0.1:9/away" } } },
      { "application/json": { deep: Array.from({ length: 50 }, (_, n) => ({ n })) } },
      { "text/latex": "$\\def\\a{\\a\\a}\\a$", "text/plain": "latex bomb" },
      { "image/png": "not base64!", "text/plain": "no picture" },
      { "text/html": 7, "text/plain": "no html" },
      { "application/x-unheard-of": "???" },
    ];
    const code = `import json\nfor bundle in json.loads(${JSON.stringify(JSON.stringify(bundles))}):\n    display(bundle, raw=True)\nprint("all shown")`;
    await show(given, "Broken forms", code, (page) => shown(cells(page).first().getByText("all shown")));
    expect(!(await given.page.evaluate(() => "hostile" in window)), "no script has run");
    await usable(given);
  },
  { allowed: [...STOPPED, /vega/i, /plotly/i, /data:image\/png|blob:/] },
);
