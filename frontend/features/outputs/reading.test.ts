import { describe, expect, test } from "vitest";
import { heard, MAX_HEIGHT_PX, MIN_HEIGHT_PX } from "@/render/protocol";
import { MAX_SEGMENTS, plainText, segments } from "./ansi";
import { bestForm, endingOf } from "./forms";
import { formulaOf } from "./latex";
import { linkable, showable } from "./links";
import { blocksOf, isTooMuch, preparedMath, withinBounds, withoutOpenFormula } from "./markdown-blocks";
import { sizeFromBase64, sizeFromMetadata, sizeFromSvg } from "./picture-size";
import { sameOutput } from "./same-output";
import { parseTable, rowsInWords, toCsv } from "./table";

const ESC = "\u001b";

describe("the form that is shown", () => {
  const view = (data: Record<string, unknown>, urls?: Record<string, string>): string | undefined =>
    bestForm({ data, urls })?.view;

  test("a figure is shown as a figure, whichever version of vega-lite made it", () => {
    expect(view({ "text/plain": "x", "text/html": "<p>", "application/vnd.plotly.v1+json": { data: [] } })).toBe(
      "plotly",
    );
    expect(view({ "application/vnd.vegalite.v5+json": {} })).toBe("vega");
    expect(view({ "application/vnd.vegalite.v6.json": {}, "text/plain": "x" })).toBe("vega");
    expect(view({ "application/vnd.vega.v5+json": "{}" })).toBe("vega");
  });

  test("HTML goes before pictures, pictures before text", () => {
    expect(view({ "text/plain": "x", "image/png": "aGk=", "text/html": "<b>" })).toBe("html");
    expect(view({ "text/plain": "x", "image/png": "aGk=", "image/svg+xml": "<svg/>" })).toBe("svg");
    expect(view({ "text/plain": "x", "text/latex": "$x$", "text/markdown": "x" })).toBe("latex");
  });

  test("a form that stands elsewhere counts as much as one that came along", () => {
    expect(bestForm({ data: { "text/plain": "x" }, urls: { "image/png": "/sessions/s/p" } })).toEqual({
      view: "picture",
      mime: "image/png",
      source: { path: "/sessions/s/p" },
    });
  });

  test("an address on another server is not asked", () => {
    expect(view({ "text/plain": "x" }, { "image/png": "https://elsewhere.example/p.png" })).toBe("text");
  });

  test("a value that is not what its type says is passed over", () => {
    expect(view({ "image/png": { no: "text" }, "text/plain": "x" })).toBe("text");
    expect(view({ "application/vnd.plotly.v1+json": "no json", "text/plain": "x" })).toBe("text");
    expect(view({ "text/plain": ["a\n", "b"] })).toBe("text");
  });

  test("an unknown kind can be saved, and nothing is nothing", () => {
    expect(view({ "application/x-strange": 1 })).toBe("unknown");
    expect(view({})).toBeUndefined();
    expect(endingOf("image/jpeg")).toBe("jpg");
    expect(endingOf("application/../../x")).toBe("bin");
  });
});

describe("tables", () => {
  const row = (...cells: string[]): string => `<tr>${cells.join("")}</tr>`;
  const frame = (inner: string, after = ""): string =>
    `<div><style scoped>.dataframe tbody tr th {}</style><table border="1" class="dataframe">${inner}</table>${after}</div>`;
  const small = frame(
    `<thead>${row("<th></th>", "<th>name</th>", "<th>x</th>")}</thead>` +
      `<tbody>${row("<th>0</th>", '<td>a,"b"</td>', "<td>1.5</td>")}${row("<th>1</th>", "<td>c</td>", "<td>NaN</td>")}</tbody>`,
    "<p>1000 rows × 30 columns</p>",
  );

  test("a data frame is read as text, with the size that pandas tells", () => {
    const table = parseTable(small);
    expect(table?.size).toBe("1,000 rows × 30 columns");
    expect(table && rowsInWords(table)).toBe("1,000 rows");
    expect(table?.body[0]?.map((cell) => cell.text)).toEqual(["0", 'a,"b"', "1.5"]);
    expect(table?.numeric).toEqual(new Set([2]));
    expect(table?.dataColumns).toBe(2);
  });

  test("it is copied as CSV that a spreadsheet reads", () => {
    const table = parseTable(small);
    expect(table && toCsv(table)).toBe(',name,x\r\n0,"a,""b""",1.5\r\n1,c,NaN\r\n');
  });

  test("cells over several rows and columns keep their places", () => {
    const table = parseTable(
      frame(
        `<thead>${row("<th></th>", '<th colspan="2">x</th>')}</thead>` +
          `<tbody>${row('<th rowspan="2">a</th>', "<td>1</td>", "<td>2</td>")}${row("<td>3</td>", "<td>4</td>")}</tbody>`,
      ),
    );
    expect(table && toCsv(table)).toBe(",x,x\r\na,1,2\r\na,3,4\r\n");
    expect(table?.columns).toBe(3);
  });

  test.each([
    ["a styled table", '<style>#T_1 {color: red}</style><table id="T_1"><tr><td>1</td></tr></table>'],
    ["a table with a picture", frame("<tbody><tr><td><img src=x onerror=alert(1)></td></tr></tbody>")],
    ["a table with a script", frame("<tbody><tr><td><script>alert(1)</script></td></tr></tbody>")],
    ["a table with styled cells", frame('<tbody><tr><td style="background:red">1</td></tr></tbody>')],
    ["a table beside other things", `${frame("<tbody><tr><td>1</td></tr></tbody>")}<button>b</button>`],
    ["two tables", frame("<tbody><tr><td>1</td></tr></tbody>").repeat(2)],
    ["no table", "<p>dataframe</p>"],
  ])("%s is left to the frame", (_name, html) => {
    expect(parseTable(html)).toBeUndefined();
  });

  test("spans of absurd size cover no more than the table may have", () => {
    const table = parseTable(frame('<tbody><tr><td colspan="1000000000" rowspan="-3">1</td><td>2</td></tr></tbody>'));
    expect(table?.columns).toBe(200);
  });

  test("of a million rows the first are read, and all are counted", () => {
    const one = "<tr><th>1</th><td>2</td></tr>";
    const table = parseTable(frame(`<tbody>${one.repeat(1_000_000)}</tbody>`), 20_000);
    expect(table?.rows).toBe(1_000_000);
    expect(table?.cut).toBe(true);
    expect(table?.body.length).toBeLessThan(20_000 / one.length);
  });
});

describe("terminal colours", () => {
  test("the sixteen are the page's own", () => {
    expect(segments(`${ESC}[31mred${ESC}[0m plain`)).toEqual([
      { text: "red", color: "var(--ansi-red)" },
      { text: " plain" },
    ]);
  });

  test("a colour that cannot be read in a theme gives way to one that can", () => {
    const [run] = segments(`${ESC}[38;2;255;255;0mx`);
    expect(run?.color).toBe("light-dark(var(--ansi-bright-yellow), rgb(255 255 0))");
    expect(segments(`${ESC}[38;5;28mx`)[0]?.color).toMatch(/^light-dark\(rgb\(0 135 0\)|^var|^rgb/);
  });

  test("text on a coloured ground keeps the colour that can be read on it", () => {
    const [run] = segments(`${ESC}[37;41mx`);
    expect(run?.color).toBeUndefined();
    expect(run?.background).toContain("--ansi-red");
  });

  test("nothing else that speaks to a terminal is left", () => {
    const text = `a${ESC}[2J${ESC}[H${ESC}]0;title\u0007${ESC}]8;;http://x${ESC}\\b${ESC}]8;;${ESC}\\${ESC}(B\b\u0000\u009b1mc`;
    expect(plainText(text)).toBe("abc");
    expect(plainText(`${ESC}`)).toBe("");
    expect(plainText(`${ESC}[`)).toBe("");
    expect(plainText("é\n\t中 😀")).toBe("é\n\t中 😀");
  });

  test("a bomb of colours ends in plain text, and none of the text is lost", () => {
    const runs = segments(`${ESC}[31mX${ESC}[32;1mY`.repeat(50_000));
    expect(runs.length).toBeLessThanOrEqual(MAX_SEGMENTS + 1);
    expect(runs.map((run) => run.text).join("").length).toBe(100_000);
  });

  test("codes without text, or of endless length, make no runs", () => {
    expect(segments(`${ESC}[1m`.repeat(100_000) + "x")).toEqual([{ text: "x", bold: true }]);
    expect(segments(`${ESC}[${"1;".repeat(100_000)}mx`)).toEqual([{ text: "x" }]);
  });
});

describe("links and pictures in text", () => {
  test.each(["https://example.org/a?b#c", "http://example.org", "mailto:a@example.org", "HTTPS://EXAMPLE.ORG"])(
    "%s is a link",
    (url) => expect(linkable(url)).toBe(url),
  );

  test.each([
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,<script>",
    "vbscript:x",
    "file:///etc/passwd",
    "//example.org",
    "/relative",
    "https://",
    "",
  ])("%j is none", (url) => expect(linkable(url)).toBeUndefined());

  test("only pictures that came along are shown", () => {
    expect(showable("data:image/png;base64,aGk=")).toBeDefined();
    expect(showable("blob:http://localhost/1")).toBeDefined();
    expect(showable("https://example.org/x.png")).toBeUndefined();
    expect(showable("data:text/html,x")).toBeUndefined();
  });
});

describe("Markdown in pieces", () => {
  test("blocks are parted where Markdown parts them", () => {
    expect(blocksOf("# a\n\nb\nc\n\n- d\n\n- e\n\n  f\n\ng")).toEqual(["# a", "b\nc", "- d\n\n- e\n\n  f", "g"]);
  });

  test("fences and formulas stay whole, also while they are open", () => {
    expect(blocksOf("a\n\n```python\nx\n\ny\n```\n\nb")).toEqual(["a", "```python\nx\n\ny\n```", "b"]);
    expect(blocksOf("a\n\n```\nx\n\ny")).toEqual(["a", "```\nx\n\ny"]);
    expect(blocksOf("$$\na\n\nb\n$$\n\nc")).toEqual(["$$\na\n\nb\n$$", "c"]);
  });

  test("text right after a fence is a piece of its own", () => {
    expect(blocksOf("```python\nx\n```\nso\n\n  b")).toEqual(["```python\nx\n```", "so\n\n  b"]);
    expect(blocksOf("- a\n  ```\n  x\n  ```\n  b")).toHaveLength(1);
  });

  test("of a text that is too long the first pieces are rendered, and none of it is lost", () => {
    const [blocks, rest] = withinBounds(blocksOf("a\n\n".repeat(100_000)));
    expect(blocks).toHaveLength(1_000);
    expect(rest.match(/a/g)).toHaveLength(99_000);
    const paragraph = "word ".repeat(2_000).trim();
    const [few, long] = withinBounds(Array.from({ length: 50 }, () => paragraph));
    expect(few).toHaveLength(30);
    expect(long.split("\n\n")).toHaveLength(20);
    expect(withinBounds(["a", "b"])).toEqual([["a", "b"], ""]);
  });

  test("a text with definitions is one piece", () => {
    expect(blocksOf("a [b][1]\n\nc\n\n[1]: https://example.org")).toHaveLength(1);
  });

  test("a growing text leaves all but its last block as they are", () => {
    const text = "one\n\ntwo **bold**\n\n- three\n- four\n\n```\ncode\n```\n\nend";
    let before: string[] = [];
    for (let end = 1; end <= text.length; end += 1) {
      const now = blocksOf(text.slice(0, end));
      expect(now.slice(0, Math.max(0, before.length - 1))).toEqual(before.slice(0, -1));
      before = now;
    }
  });

  test("money is no formula, and formulas of models are", () => {
    expect(preparedMath("costs $5 and $6")).toEqual({ text: "costs \\$5 and \\$6", math: false });
    expect(preparedMath("so $a^2$ is")).toEqual({ text: "so $a^2$ is", math: true });
    expect(preparedMath("so \\(x\\) is")).toEqual({ text: "so $x$ is", math: true });
    expect(preparedMath("\\[\ny = 1\n\\]").text).toBe("$$\ny = 1\n$$");
    expect(preparedMath("`$a$` stays").math).toBe(false);
    expect(preparedMath("```\n$a$\n```").math).toBe(false);
    expect(preparedMath("```\n\\[\ny\n\\]\n```")).toEqual({ text: "```\n\\[\ny\n\\]\n```", math: false });
  });

  test("a formula that is still being written is held back", () => {
    expect(withoutOpenFormula("so\n$$\nx^")).toEqual(["so\n", "$$\nx^"]);
    expect(withoutOpenFormula("$$\nx\n$$")).toEqual(["$$\nx\n$$", ""]);
  });

  test.each([
    ["quotes in quotes", "> ".repeat(5_000) + "x"],
    ["quotes without spaces", ">".repeat(5_000) + "x"],
    ["open brackets", "[".repeat(20_000)],
    ["open links", "[a](".repeat(10_000)],
    ["stars", "*a b".repeat(5_000)],
    ["ticks", `\`\`\`\`${" ` `` ".repeat(5_000)}`],
    ["a table as wide as a street", `${"|a".repeat(5_000)}\n${"|-".repeat(5_000)}`],
    ["lists in lists", Array.from({ length: 300 }, (_, depth) => `${" ".repeat(depth * 2)}- a`).join("\n")],
    ["a book in one paragraph", "word ".repeat(20_000)],
    ["open brackets after a fence that is closed", `\`\`\`\n\`\`\`\n${"[".repeat(20_000)}`],
    ["open brackets after a fence that Windows closed", `~~~\n~~~\r\n${"[".repeat(20_000)}`],
  ])("%s are shown as they are written", (_name, text) => expect(isTooMuch(text)).toBe(true));

  test("ordinary text is not too much", () => {
    expect(isTooMuch("---------------------------------------------------------------\n")).toBe(false);
    expect(isTooMuch(`\`\`\`python\n${"x = [1]\n".repeat(9_000)}\`\`\``)).toBe(false);
    expect(isTooMuch(`\`\`\`python\n${"x = [1]\n".repeat(9_000)}`)).toBe(false);
    expect(isTooMuch("| a | b |\n|---|---|\n".concat("| 1 | **2** |\n".repeat(100)))).toBe(false);
  });
});

describe("what a frame may say", () => {
  test("a height within bounds", () => {
    expect(heard({ type: "height", px: 120.2 })).toEqual({ type: "height", px: 121 });
    expect(heard({ type: "height", px: 1e9 })).toEqual({ type: "height", px: MAX_HEIGHT_PX });
    expect(heard({ type: "height", px: -5 })).toEqual({ type: "height", px: MIN_HEIGHT_PX });
    expect(heard({ type: "ready" })).toEqual({ type: "ready" });
  });

  test.each([null, "ready", { type: "height", px: "99" }, { type: "height", px: Number.NaN }, { type: "go" }, [], 7])(
    "%j is not heard",
    (data) => expect(heard(data)).toBeUndefined(),
  );
});

describe("sizes of pictures", () => {
  test("a PNG, an SVG and Jupyter's metadata tell theirs", () => {
    const png = "iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAYAAAA10dzk";
    expect(sizeFromBase64(png, "image/png")).toEqual({ width: 640, height: 480 });
    expect(sizeFromSvg('<?xml version="1.0"?><svg width="432pt" height="288pt" viewBox="0 0 432 288">')).toEqual({
      width: 576,
      height: 384,
    });
    expect(sizeFromSvg('<svg viewBox="0 0 30 20">')).toEqual({ width: 30, height: 20 });
    expect(sizeFromMetadata({ "image/png": { width: 10, height: 20 } }, "image/png")).toEqual({
      width: 10,
      height: 20,
    });
  });

  test("nonsense tells none", () => {
    expect(sizeFromBase64("§§§", "image/png")).toBeUndefined();
    expect(sizeFromSvg("<p>")).toBeUndefined();
    expect(sizeFromMetadata({ "image/png": { width: -1, height: 1e9 } }, "image/png")).toBeUndefined();
    expect(sizeFromMetadata({ "image/png": null }, "image/png")).toBeUndefined();
  });
});

test("the marks around a formula of Jupyter are taken away", () => {
  expect(formulaOf("$\\displaystyle x$")).toBe("\\displaystyle x");
  expect(formulaOf("$$x$$\n")).toBe("x");
  expect(formulaOf("\\begin{align}x\\end{align}")).toBe("\\begin{align}x\\end{align}");
  expect(formulaOf("$")).toBe("$");
});

test("an output that was parsed anew is the same output", () => {
  const one = { type: "display_data", seq: 3, data: { a: { b: [1, "2"] } } } as const;
  expect(sameOutput(one, structuredClone(one))).toBe(true);
  expect(sameOutput(one, { ...one, data: { a: { b: [1, "3"] } } })).toBe(false);
  expect(sameOutput(one, { ...one, seq: 4 })).toBe(false);
});
