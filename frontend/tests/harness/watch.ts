import type { BrowserContext, ConsoleMessage } from "playwright-core";

/** Answers of the functions that are no problem of the page: nothing there yet, not allowed yet, gone. */
const ANSWERED = /the server responded with a status of (401|404|409|410|429|503)/;
const OF_FUNCTIONS = /^\/(sessions|api|v1)(\/|$)/;

/** Collects what goes wrong in pages besides what stories look at: errors, and what the policy had to stop. */
export class Watch {
  readonly problems: string[] = [];
  readonly said: string[] = [];

  constructor(
    private readonly allowed: readonly RegExp[],
    private readonly origins: readonly string[],
  ) {}

  async over(context: BrowserContext): Promise<void> {
    context.on("console", (message) => this.heard(message));
    context.on("weberror", (error) => this.met(`uncaught: ${error.error().stack ?? error.error().message}`));
    await context.exposeBinding("__violated", (_, told: string) => this.met(`stopped by the policy: ${told}`));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        const told = `${event.effectiveDirective} ${event.blockedURI} on ${event.documentURI}`;
        (window as unknown as { __violated(told: string): void }).__violated(told);
      });
    });
  }

  private heard(message: ConsoleMessage): void {
    const { url } = message.location();
    this.said.push(`${message.type()}: ${message.text()} (${url})`);
    if (message.type() !== "error") return;
    if (ANSWERED.test(message.text()) && this.isOfFunctions(url)) return;
    this.met(`${message.text()} (${url})`);
  }

  private met(problem: string): void {
    if (!this.allowed.some((pattern) => pattern.test(problem))) this.problems.push(problem);
  }

  private isOfFunctions(url: string): boolean {
    if (!URL.canParse(url)) return false;
    const { origin, pathname } = new URL(url);
    return OF_FUNCTIONS.test(pathname) && (this.origins.includes(origin) || origin.startsWith("http://127.0.0.1:"));
  }
}
