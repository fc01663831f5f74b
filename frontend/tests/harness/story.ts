import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import type { Functions } from "./functions";
import type { Model } from "./model";

/** Which product a story needs: with a model, without one, with keys, or with page and functions on hosts apart. */
export type Product = "answering" | "plain" | "keyed" | "apart";

export interface Given {
  /** The page's address. */
  url: string;
  /** A key that the product takes, where it wants one. */
  key: string;
  page: Page;
  context: BrowserContext;
  browser: Browser;
  model: Model;
  functions: Functions;
  /** One more page of the same user: it shares cookies and storage, and its problems are watched too. */
  newTab(): Promise<Page>;
  /** A context of another user or device; it ends with the story. */
  newContext(options?: BrowserContextOptions): Promise<BrowserContext>;
  /** Have something done when the story is over, however it ends. */
  afterwards(end: () => Promise<void> | void): void;
  /** Note something that is wrong, and go on: the story fails at its end. */
  fault(what: string): void;
  /** Where pictures go, for those that make some. */
  pictures: string;
  /** Hand something back to whoever has this played. */
  tell(facts: Record<string, unknown>): void;
}

export interface Story {
  name: string;
  product: Product;
  /** Settings of the browser's context, such as the size of the window. */
  context: BrowserContextOptions;
  /** Problems that the page may meet in this story, because it is about them. */
  allowed: RegExp[];
  play(given: Given): Promise<void>;
}

export const stories: Story[] = [];

export interface StoryOptions {
  product?: Product;
  context?: BrowserContextOptions;
  allowed?: RegExp[];
}

/** Tell a story: what a user does and sees. Its name is unique. */
export function story(name: string, play: Story["play"], options: StoryOptions = {}): void {
  if (stories.some((known) => known.name === name)) throw new Error(`two stories are called ${name}`);
  stories.push({ name, play, product: "answering", context: {}, allowed: [], ...options });
}
