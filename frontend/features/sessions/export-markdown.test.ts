import type { UIMessage } from "ai";
import { expect, test } from "vitest";
import { shownExecutionSchema } from "@/lib/outputs";
import { cellsAsMarkdown, type ExportedCell, messagesAsMarkdown } from "./export-markdown";

const absolute = (path: string): string => `https://run.example${path}`;

function python(code: string, outputs: unknown[], status = "ok"): UIMessage {
  const output = { execution: "e_1", status, outputs };
  const part = { type: "tool-python", toolCallId: "c", state: "output-available", input: { code }, output };
  return { id: "a", role: "assistant", parts: [part as UIMessage["parts"][number]] };
}

test("a conversation reads as text, code and what it printed", () => {
  const messages: UIMessage[] = [
    { id: "u", role: "user", parts: [{ type: "text", text: "Sum them" }] },
    python("print(1)\n2", [
      { type: "stream", seq: 2, name: "stdout", text: "\u001b[31m1\u001b[0m\n" },
      { type: "execute_result", seq: 3, data: { "text/plain": "2" } },
    ]),
  ];
  expect(messagesAsMarkdown("Sum *them*", messages, absolute)).toBe(`# Sum \\*them\\*

## You

Sum them

## Caesarion

\`\`\`python
print(1)
2
\`\`\`

\`\`\`text
1
\`\`\`

\`\`\`text
2
\`\`\`
`);
});

test("a table is its text, a picture with an address a link, any other is left out with a note", () => {
  const text = messagesAsMarkdown(
    "t",
    [
      python("df", [
        { type: "display_data", seq: 1, data: { "text/html": "<table>", "text/plain": "   a\n0  1" } },
        { type: "display_data", seq: 2, data: { "text/plain": "<Figure>" }, urls: { "image/png": "/sessions/s/p" } },
        { type: "display_data", seq: 3, data: { "image/png": "iVBORw0KGgo=", "text/plain": "<Figure>" } },
        { type: "display_data", seq: 4, data: { "application/x-odd": {} } },
        { type: "display_data", seq: 5, data: { "text/latex": ["$x", "^2$"] } },
      ]),
    ],
    absolute,
  );
  expect(text).toContain("```text\n   a\n0  1\n```");
  expect(text).toContain("![Picture made by the code](<https://run.example/sessions/s/p>)");
  expect(text).toContain("*Picture (image/png) left out.*");
  expect(text).toContain("*Output (application/x-odd) left out.*");
  expect(text).toContain("\n$x^2$\n");
  expect(text).not.toContain("iVBOR");
  expect(text).not.toContain("<table>");
});

test("code with fences of its own does not end its fence", () => {
  const text = messagesAsMarkdown("t", [python('s = """\n````\n"""', [])], absolute);
  expect(text).toContain('`````python\ns = """\n````\n"""\n`````');
});

test("an error, a stop and a failed tool are told", () => {
  const error = { type: "error", seq: 1, ename: "ValueError", evalue: "no", traceback: [] };
  expect(messagesAsMarkdown("t", [python("f()", [error], "error")], absolute)).toContain("ValueError: no");
  expect(messagesAsMarkdown("t", [python("f()", [], "interrupted")], absolute)).toContain("*Stopped.*");
  const part = {
    type: "tool-get_weather",
    toolCallId: "c",
    state: "output-error",
    input: { city: "Bonn" },
    errorText: "no",
  };
  const failed: UIMessage = { id: "a", role: "assistant", parts: [part as UIMessage["parts"][number]] };
  expect(messagesAsMarkdown("t", [failed], absolute)).toContain("*Used `get_weather`*");
  expect(messagesAsMarkdown("t", [failed], absolute)).toContain("*It failed: no*");
});

test("a notebook's cells are exported with what they showed", () => {
  const execution = shownExecutionSchema.parse({
    execution: "e",
    status: "ok",
    outputs: [{ type: "stream", seq: 2, name: "stdout", text: "2\n" }],
  });
  const cells: ExportedCell[] = [
    { kind: "text", code: "Some *words*", execution: undefined },
    { kind: "python", code: "print(1 + 1)", execution },
    { kind: "python", code: "", execution: undefined },
  ];
  expect(cellsAsMarkdown("N", cells, absolute)).toBe(
    "# N\n\nSome *words*\n\n```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n",
  );
  expect(cellsAsMarkdown("N", [], absolute)).toBe("# N\n");
});
