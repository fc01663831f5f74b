import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { Functions } from "./functions";
import { Model } from "./model";
import { stories, type Story } from "./story";
import { Watch } from "./watch";

const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];
/** Traces are taken when asked for: they need an answer from every frame, and what they fetch the policy refuses. */
const TRACES = process.env["STORY_TRACES"] === "1";
const ACTION_DEADLINE_MS = 90_000;
const STORY_DEADLINE_MS = 240_000;

interface Job {
  story: string;
  url: string;
  execute: string;
  /** Where the scripted model is told what to say; left out where it needs no telling. */
  model?: string;
  key?: string;
  /** Folder for what helps to see why a story failed. */
  kept: string;
  pictures?: string;
}

export function list(): { name: string; product: string }[] {
  return stories.map(({ name, product }) => ({ name, product }));
}

/** Play what is asked for, a line each, until there is no more. */
export async function play(): Promise<void> {
  const browser = await chromium.launch({
    executablePath: process.env["CHROME_PATH"] ?? "/usr/bin/chromium",
    args: FLAGS,
  });
  try {
    for await (const line of createInterface({ input: process.stdin })) {
      const told: Record<string, unknown> = {};
      const problem = await played(browser, JSON.parse(line) as Job, told);
      process.stdout.write(JSON.stringify({ ok: problem === undefined, problem, told }) + "\n");
    }
  } finally {
    await browser.close();
  }
}

/** Return what went otherwise than told, in words, or nothing. */
async function played(browser: Browser, job: Job, told: Record<string, unknown>): Promise<string | undefined> {
  const story = stories.find(({ name }) => name === job.story);
  if (story === undefined) return `there is no story ${job.story}`;
  const contexts: BrowserContext[] = [];
  const ends: (() => Promise<void> | void)[] = [];
  const watch = new Watch(story.allowed, [job.url, job.execute]);
  const model = new Model(job.model);
  const newContext = async (options = {}): Promise<BrowserContext> => {
    const context = await browser.newContext({ acceptDownloads: true, ...options });
    contexts.push(context);
    context.setDefaultTimeout(ACTION_DEADLINE_MS);
    await watch.over(context);
    return context;
  };
  let page: Page | undefined;
  try {
    await model.reset();
    const context = await newContext({ viewport: { width: 1280, height: 800 }, ...story.context });
    if (TRACES) await context.tracing.start({ snapshots: true });
    page = await context.newPage();
    const given = {
      url: job.url,
      key: job.key ?? "",
      page,
      context,
      browser,
      model,
      functions: new Functions(job.execute, job.key ?? ""),
      newTab: () => context.newPage(),
      newContext,
      afterwards: (end: () => Promise<void> | void) => void ends.push(end),
      fault: (what: string) => void watch.problems.push(what),
      pictures: job.pictures ?? job.kept,
      tell: (facts: Record<string, unknown>) => void Object.assign(told, facts),
    };
    await inTime(story.play(given));
    const problems = [...watch.problems, ...(await model.reset())];
    if (problems.length === 0) return undefined;
    watch.problems.splice(0);
    throw new Error(`the story went as told, but:\n${problems.join("\n")}`);
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const met = watch.problems.length > 0 ? `\nproblems that the page met:\n${watch.problems.join("\n")}` : "";
    const kept = await keep(story, job.kept, contexts, watch).catch(
      (failure: unknown) => `nothing: ${String(failure)}`,
    );
    return `${what}${met}\nkept: ${kept}`;
  } finally {
    await model.reset().catch(() => []);
    for (const context of contexts) await context.close().catch(() => undefined);
    for (const end of ends.reverse()) await end();
  }
}

async function inTime(playing: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("the story did not end")), STORY_DEADLINE_MS);
  });
  try {
    await Promise.race([playing, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Keep what helps to see why a story failed, and return where. */
async function keep(story: Story, folder: string, contexts: BrowserContext[], watch: Watch): Promise<string> {
  const own = path.join(folder, story.name.replaceAll(/[^a-z0-9]+/gi, "-").slice(0, 80));
  await mkdir(own, { recursive: true });
  await writeFile(path.join(own, "console.txt"), watch.said.join("\n"));
  const pages = contexts.flatMap((context) => context.pages());
  for (const [number, page] of pages.entries()) {
    const file = path.join(own, `page-${number + 1}`);
    await page.screenshot({ path: `${file}.png`, timeout: 10_000 }).catch(() => undefined);
    const names = await page.locator("body").ariaSnapshot({ timeout: 10_000 }).catch(String);
    await writeFile(`${file}.txt`, `${page.url()}\n\n${names}\n`);
  }
  if (TRACES) await contexts[0]?.tracing.stop({ path: path.join(own, "trace.zip") });
  return own;
}
