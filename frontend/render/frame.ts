/**
 * The script of `/render.html`: shows one output of a kernel in a frame that can reach nothing.
 *
 * What it shows is code of strangers and may do here what it likes: the frame has an origin of its own, no network and
 * no way to the page but the messages of `protocol.ts`.
 */
import { plotlyFigure, vegaConfig } from "./figures";
import type { FrameContent, FrameTheme, FromFrame, ToFrame } from "./protocol";

interface Plotly {
  newPlot(element: HTMLElement, figure: unknown): Promise<unknown>;
  purge(element: HTMLElement): void;
}

type Vega = (element: HTMLElement, spec: unknown, mode: string, config: unknown) => Promise<() => void>;

declare global {
  interface Window {
    Plotly?: Plotly;
    drawVega?: Vega;
  }
}

if (self.origin !== "null") throw new Error("This page shows what strangers wrote, so it must be sandboxed.");
// A policy has no word for these: they would reach other hosts, if only to tell their names.
for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection", "WebTransport"])
  Reflect.deleteProperty(window, name);

const page = window.parent;
const root = document.getElementById("output") as HTMLElement;
let shown: FrameContent | undefined;
let clear: () => void = () => undefined;

function say(message: FromFrame): void {
  page.postMessage(message, "*");
}

function tellHeight(): void {
  const bar = document.documentElement.scrollWidth > document.documentElement.clientWidth ? 16 : 0;
  const px = Math.ceil(Math.max(root.getBoundingClientRect().height, root.scrollHeight)) + bar;
  if (px > 0) say({ type: "height", px });
}

/** A frame out of sight gets no animation frames, so its height is also told by the clock. */
function tellHeightSoon(): void {
  tellHeight();
  for (const ms of [50, 250, 1_000, 3_000]) setTimeout(tellHeight, ms);
}

function dress(theme: FrameTheme): void {
  const { style } = document.documentElement;
  style.colorScheme = theme.dark ? "dark" : "light";
  for (const [name, value] of Object.entries(theme)) style.setProperty(`--${name}`, String(value));
}

const scripts = new Map<string, Promise<void>>();

function script(src: string): Promise<void> {
  const known = scripts.get(src);
  if (known !== undefined) return known;
  const loading = new Promise<void>((resolve, reject) => {
    const element = document.createElement("script");
    element.src = src;
    element.onload = () => resolve();
    element.onerror = () => reject(new Error(`${src} could not be loaded`));
    document.head.append(element);
  });
  scripts.set(src, loading);
  return loading;
}

async function show(content: FrameContent, theme: FrameTheme): Promise<void> {
  clear();
  clear = () => undefined;
  switch (content.view) {
    case "html":
      return showHtml(content.html);
    case "plotly": {
      await script("/vendor/plotly.js");
      const plotly = window.Plotly;
      if (plotly === undefined) throw new Error("plotly could not be loaded");
      root.replaceChildren();
      await plotly.newPlot(root, plotlyFigure(content.figure, theme));
      clear = () => plotly.purge(root);
      return;
    }
    case "vega": {
      await script("/vendor/vega.js");
      if (window.drawVega === undefined) throw new Error("vega could not be loaded");
      root.replaceChildren();
      clear = await window.drawVega(root, content.spec, content.mode, vegaConfig(theme));
    }
  }
}

const JAVASCRIPT = /^(?:|module|text\/javascript|application\/(?:x-)?javascript|text\/ecmascript)$/i;

/** Show HTML as Jupyter does: its scripts run, in their order. */
async function showHtml(html: string): Promise<void> {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const element of template.content.querySelectorAll("meta[http-equiv], base")) element.remove();
  root.replaceChildren(template.content);
  for (const inert of root.querySelectorAll("script")) {
    if (!JAVASCRIPT.test(inert.type) || !inert.isConnected) continue;
    const src = inert.getAttribute("src");
    if (src !== null && /^https:\/\/cdn\.plot\.ly\/plotly[\w.-]*\.js$/.test(src)) {
      await script("/vendor/plotly.js").catch(() => undefined);
      continue;
    }
    const live = document.createElement("script");
    for (const { name, value } of inert.attributes) live.setAttribute(name, value);
    live.textContent = inert.textContent;
    const loaded =
      src === null ? undefined : new Promise((resolve) => (live.onload = live.onerror = () => resolve(undefined)));
    inert.replaceWith(live);
    await loaded;
  }
}

function showFailure(error: unknown): void {
  const words = document.createElement("p");
  words.className = "failure";
  words.textContent = `This figure cannot be drawn: ${error instanceof Error ? error.message : String(error)}`;
  root.replaceChildren(words);
}

async function take(message: ToFrame): Promise<void> {
  dress(message.theme);
  if (message.type === "render") shown = message.content;
  // HTML with grounds of its own was made for paper: its dark text must not turn light on them.
  const onPaper = shown?.view === "html" && /background|bgcolor/i.test(shown.html.slice(0, 500_000));
  document.documentElement.classList.toggle("paper", message.theme.dark && onPaper);
  // HTML takes the new colours from the style; only figures are drawn again for them.
  if (shown === undefined || (message.type === "theme" && shown.view === "html")) return;
  try {
    await show(shown, message.theme);
  } catch (error) {
    showFailure(error);
  }
  tellHeightSoon();
}

let turn = Promise.resolve();
window.addEventListener("message", (event: MessageEvent<ToFrame>) => {
  if (event.source !== page) return;
  const { data } = event;
  turn = turn.then(() => take(data));
});

// A link cannot lead anywhere from here; following it would only lose the output.
document.addEventListener(
  "click",
  (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (link !== null && !link.getAttribute("href")?.startsWith("#")) event.preventDefault();
  },
  true,
);

// After the page has loaded these would replace it as a whole.
document.write = (...parts: string[]) => root.insertAdjacentHTML("beforeend", parts.join(""));
document.writeln = (...parts: string[]) => root.insertAdjacentHTML("beforeend", `${parts.join("")}\n`);

new ResizeObserver(tellHeight).observe(root);
say({ type: "ready" });
