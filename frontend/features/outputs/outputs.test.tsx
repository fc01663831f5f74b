import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import type { ReactNode } from "react";
import { afterEach, expect, test } from "vitest";
import { TooltipProvider } from "@/components/ui/tooltip";
import { shownExecutionSchema } from "@/lib/outputs";
import { MarkdownText } from "./markdown-text";
import { Outputs } from "./outputs";

afterEach(cleanup);

function show(children: ReactNode): void {
  render(
    <QueryClientProvider client={new QueryClient()}>
      <TooltipProvider>{children}</TooltipProvider>
    </QueryClientProvider>,
  );
}

function shown(outputs: Record<string, unknown>[], rest: Record<string, unknown> = {}): ReactNode {
  const numbered = outputs.map((output, seq) => ({ seq, ...output }));
  const execution = shownExecutionSchema.parse({ execution: "e", status: "ok", outputs: numbered, ...rest });
  return <Outputs session="s" execution={execution} />;
}

test("an error is one line until its traceback is asked for", async () => {
  show(
    shown([
      {
        type: "error",
        ename: "ValueError",
        evalue: "bad",
        traceback: ["\u001b[31mline 1\u001b[0m", "ValueError: bad"],
      },
    ]),
  );
  expect(screen.getByText("ValueError")).toBeTruthy();
  expect(screen.queryByText("line 1")).toBeNull();
  await userEvent.click(screen.getByRole("button", { name: "Show traceback" }));
  expect(screen.getByText("line 1")).toBeTruthy();
  expect(screen.getByRole("button", { name: "Hide traceback" }).getAttribute("aria-expanded")).toBe("true");
});

test("a data frame is a table that says how many rows it has", () => {
  const html =
    '<table class="dataframe"><thead><tr><th></th><th>x</th></tr></thead><tbody><tr><th>0</th><td>7</td></tr></tbody></table>';
  show(shown([{ type: "execute_result", data: { "text/html": html } }]));
  expect(screen.getByRole("group", { name: "Table, 1 row" }).tabIndex).toBe(0);
  expect(screen.getByRole("columnheader", { name: "x" })).toBeTruthy();
  expect(screen.getByRole("button", { name: "Copy as CSV" })).toBeTruthy();
});

test("a picture has a name, and buttons to see it large and to save it", () => {
  show(shown([{ type: "display_data", data: { "image/png": "iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAYAAAA10dzk" } }]));
  const picture = screen.getByRole("img", { name: "Picture made by the code" });
  expect([picture.getAttribute("width"), picture.getAttribute("height")]).toEqual(["640", "480"]);
  expect(screen.getByRole("button", { name: "Zoom" })).toBeTruthy();
  expect(screen.getByRole("button", { name: "Save picture" })).toBeTruthy();
});

test("what was left out, cut and not kept is told", () => {
  show(
    shown(
      [
        { type: "stream", name: "stdout", text: "end\n", cut_chars: 1200 },
        { type: "truncated", dropped_bytes: 2_000_000 },
      ],
      { left_out: 3 },
    ),
  );
  expect(screen.getByText("The first 1,200 characters were not kept.")).toBeTruthy();
  expect(screen.getByText(/2.0 MB more came/)).toBeTruthy();
  expect(screen.getByText("3 outputs were left out here.")).toBeTruthy();
});

test("of long output the end is shown, and the rest on request", async () => {
  const text = Array.from({ length: 12_000 }, (_, line) => `line ${line}`).join("\n");
  show(shown([{ type: "stream", name: "stdout", text }]));
  const box = screen.getByRole("group", { name: "Printed output" });
  expect(box.textContent).toContain("line 11999");
  expect(box.textContent?.startsWith("line 0\n")).toBe(false);
  await userEvent.click(screen.getByRole("button", { name: "Show all" }));
  expect(box.textContent?.startsWith("line 0\n")).toBe(true);
});

test("a kind that the page does not know can be saved", () => {
  show(shown([{ type: "display_data", data: { "application/x-strange": "1" } }]));
  expect(screen.getByRole("button", { name: "Save" })).toBeTruthy();
});

test("Markdown has no HTML, no foreign pictures and no dangerous links", () => {
  show(
    <MarkdownText
      text={
        "# Title\n\n<script>alert(1)</script>\n\n![p](https://example.org/p.png) [bad](javascript:alert(1)) [good](https://example.org)"
      }
    />,
  );
  expect(screen.getByRole("heading", { level: 3, name: "Title" })).toBeTruthy();
  expect(document.querySelector("script, img")).toBeNull();
  expect(screen.getByText("bad").closest("a")).toBeNull();
  const link = screen.getByRole("link", { name: "good" });
  expect([link.getAttribute("rel"), link.getAttribute("target")]).toEqual(["noopener noreferrer", "_blank"]);
});

test("of a text that is too long the first is rendered, and the rest shown as one text as it is written", () => {
  show(<MarkdownText text={`*a* ${"word ".repeat(2_000)}\n\n`.repeat(40)} />);
  expect(document.querySelectorAll("em")).toHaveLength(29);
  expect(document.querySelectorAll("pre")).toHaveLength(1);
  expect(document.querySelector("pre")?.textContent.match(/\*a\*/g)).toHaveLength(11);
});

test("code in Markdown can be copied", () => {
  show(<MarkdownText text={"```python\nx = 1\n```"} />);
  expect(screen.getByText("x = 1")).toBeTruthy();
  expect(screen.getByRole("button", { name: "Copy code" })).toBeTruthy();
});
