import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type axe from "axe-core";
import type { Given } from "./story";

const SOURCE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Note what axe finds fault with in the page as it is now. `where` names the state for whoever reads it. */
export async function accessible({ page, fault }: Given, where: string): Promise<void> {
  await page.evaluate(SOURCE);
  const faults = await page.evaluate(async (rules) => {
    const run = (window as unknown as { axe: typeof axe }).axe.run;
    // What menus and tooltips are drawn in lies outside of all landmarks, and headings in an answer are the model's.
    const spared: Record<string, string> = {
      region: "[data-radix-popper-content-wrapper]",
      "heading-order": "article[aria-label=Caesarion] *",
    };
    const isSpared = (rule: string, target: unknown): boolean => {
      const found = typeof target === "string" ? document.querySelector(target) : null;
      const selector = spared[rule];
      return selector !== undefined && found !== null && found.matches(selector);
    };
    const { violations } = await run(document, { runOnly: rules, iframes: false, resultTypes: ["violations"] });
    const counted = violations.map((violation) => ({
      ...violation,
      nodes: violation.nodes.filter(({ target }) => !isSpared(violation.id, target[0])),
    }));
    return counted
      .filter(({ nodes }) => nodes.length > 0)
      .map(
        ({ id, help, nodes }) =>
          `${id}: ${help}\n${nodes.map((node) => `    ${node.target.join(" ")}: ${node.html.slice(0, 200)}\n      ${node.failureSummary ?? ""}`).join("\n")}`,
      );
  }, RULES);
  if (faults.length > 0) fault(`axe, ${where}:\n${faults.join("\n")}`);
}
