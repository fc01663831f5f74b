/** What `make bench` measures on the page. The model is that of bench/chat_model.py. */
import type { Page } from "playwright-core";
import { answered, cells, conversation, messageBox, openPage, send, sessionOf, shown } from "../harness/see";
import { story } from "../harness/story";

const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? "20");
const WARM_UP = 3;
const TURNS = Math.max(1, Math.round(ROUNDS));
const OUTPUTS_A_TURN = 50;
const SEEN_DEADLINE_MS = 30_000;

story("from Enter to the first token and to the first output", async ({ page, url, tell }) => {
  const tokens: number[] = [];
  const outputs: number[] = [];
  const tokensAlone: number[] = [];
  const outputsAlone: number[] = [];
  await openPage(page, url);
  await send(page, "short");
  await answered(page);
  const alone = `${await sessionOf(page)}_alone`;
  await heardAlone(url, alone, "short", '"type":"text-delta"');
  for (let round = -WARM_UP; round < ROUNDS; round += 1) {
    const keep = (into: number[], value: number): unknown => round >= 0 && into.push(value);
    keep(tokens, await shownAfterEnter(page, "short", "text"));
    keep(tokensAlone, await heardAlone(url, alone, "short", '"type":"text-delta"'));
    const code = `call print("output", ${round})`;
    keep(outputs, await shownAfterEnter(page, code, "output"));
    keep(outputsAlone, await heardAlone(url, alone, code, '"outputs":[{'));
  }
  tell({ tokens, outputs, tokens_alone: tokensAlone, outputs_alone: outputsAlone });
});

story("scrolls and types in a chat of a thousand outputs", async ({ page, url, tell }) => {
  await openPage(page, url);
  const code = `call for n in range(${OUTPUTS_A_TURN}):\n    display({"text/plain": f"output {n}"}, raw=True)`;
  for (let turn = 0; turn < TURNS; turn += 1) {
    await send(page, code);
    await shown(page.getByText("Thinking").or(cells(page).last()));
    await answered(page);
  }
  await page.reload();
  await shown(cells(page).last());
  const outputs = ((await conversation(page).textContent()) ?? "").match(/output \d+/g)?.length ?? 0;
  await page.evaluate(() => {
    const tasks: number[] = [];
    Object.assign(window, { tasks });
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({
      type: "longtask",
    });
  });
  await conversation(page).hover();
  for (let step = 0; step < 60; step += 1) {
    await page.mouse.wheel(0, step < 30 ? -900 : 900);
    await nextFrame(page);
  }
  await messageBox(page).focus();
  const keys: number[] = [];
  for (let key = 0; key < 40; key += 1) {
    await page.evaluate(() => {
      addEventListener(
        "keydown",
        (event) =>
          requestAnimationFrame(() =>
            setTimeout(() => Object.assign(window, { took: performance.now() - event.timeStamp })),
          ),
        { once: true, capture: true },
      );
      Object.assign(window, { took: undefined });
    });
    await page.keyboard.press("a");
    keys.push(
      (await page
        .waitForFunction(() => (window as unknown as { took?: number }).took)
        .then((took) => took.jsonValue())) as number,
    );
  }
  const tasks = await page.evaluate(() => (window as unknown as { tasks: number[] }).tasks);
  tell({ outputs, keys, longest_task_ms: Math.max(0, ...tasks) });
});

/** Send a message with Enter and return after how many milliseconds its text or output was on the page. */
async function shownAfterEnter(page: Page, text: string, what: "text" | "output"): Promise<number> {
  await messageBox(page).fill(text);
  await page.evaluate(
    ([wanted, deadlineMs]) => {
      // How many answers there are says nothing: of a long conversation the page draws the end only.
      const lastAnswer = (): HTMLElement | undefined =>
        [...document.querySelectorAll<HTMLElement>('article[aria-label="Caesarion"]')].at(-1);
      const before = lastAnswer()?.dataset["message"];
      const seen = (): boolean => {
        const last = lastAnswer();
        const text = last?.dataset["message"] === before ? "" : (last?.innerText ?? "");
        return wanted === "text" ? /\ba\b/.test(text) : /^output -?\d+$/m.test(text);
      };
      const took = new Promise<number>((resolve, reject) => {
        setTimeout(() => reject(new Error(`no ${wanted} was seen after Enter`)), deadlineMs);
        addEventListener(
          "keydown",
          (event) => {
            const observer = new MutationObserver(() => {
              if (!seen()) return;
              observer.disconnect();
              resolve(performance.now() - event.timeStamp);
            });
            observer.observe(document.body, { subtree: true, childList: true, characterData: true });
          },
          { once: true, capture: true },
        );
      });
      Object.assign(window, { took });
    },
    [what, SEEN_DEADLINE_MS] as const,
  );
  await messageBox(page).press("Enter");
  const took = await page.evaluate(() => (window as unknown as { took: Promise<number> }).took);
  await answered(page);
  return took;
}

/** Ask the same without the page, and return after how many milliseconds the first token or output came. */
async function heardAlone(url: string, session: string, text: string, mark: string): Promise<number> {
  const message = { id: crypto.randomUUID(), role: "user", parts: [{ type: "text", text }] };
  const began = performance.now();
  const reply = await fetch(`${url}/api/chat`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id: session, messages: [message] }),
  });
  if (!reply.ok || reply.body === null) throw new Error(`chat answered ${reply.status}`);
  let took: number | undefined;
  let read = "";
  const decoder = new TextDecoder();
  for await (const chunk of reply.body as unknown as AsyncIterable<Uint8Array>) {
    read += decoder.decode(chunk, { stream: true });
    if (took === undefined && read.includes(mark)) took = performance.now() - began;
  }
  if (took === undefined) throw new Error(`no ${mark} in ${read.slice(-300)}`);
  return took;
}

async function nextFrame(page: Page): Promise<void> {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
}
