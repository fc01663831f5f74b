import { readFile } from "node:fs/promises";
import { python, say } from "../harness/model";
import { answered, button, cells, code, expect, openPage, send, sessionOf, shown } from "../harness/see";
import { story } from "../harness/story";
import { exported } from "../harness/files";

const ALONE = { product: "plain" } as const;

story(
  "works in cells without a model: runs, sees an error folded, runs all, restarts",
  async ({ page, url }) => {
    await openPage(page, url);
    await button(page, "New notebook").click();
    const first = cells(page).first();
    await code(first).fill("answer = 6 * 7\nprint('answer', answer)");
    await code(first).press("Shift+Enter");
    await shown(first.getByText("answer 42"));
    const second = cells(page).nth(1);
    await code(second).fill("def deep():\n    return 1 / 0\n\ndeep()");
    await code(second).press("Control+Enter");
    await shown(second.getByText(/ZeroDivisionError: division by zero/));
    const fold = second.getByRole("button", { name: /traceback/i }).or(second.locator("summary"));
    await fold.first().click();
    await shown(second.getByText(/in deep/).or(second.getByText(/return 1 \/ 0/)));
    await shown(second.getByText(/Failed/)); // until then it runs, and its failure would end what waits behind it
    await code(second).fill("print('again', answer)");
    await button(page, "Run all").click();
    await shown(second.getByText("again 42"));
    await button(page, "Notebook actions").click();
    await page.getByRole("menuitem", { name: /^Restart kernel/ }).click();
    const confirm = page.getByRole("dialog").or(page.getByRole("alertdialog"));
    await button(await shown(confirm), /^Restart/).click();
    await code(second).press("Control+Enter");
    await shown(second.getByText(/NameError/));
  },
  ALONE,
);

story(
  "types Python where no model is set up, and it runs",
  async ({ page, url }) => {
    await openPage(page, url);
    await send(page, "print(6 * 7)");
    await shown(cells(page).getByText("42", { exact: true }));
    await answered(page);
  },
  ALONE,
);

story(
  "stops a cell that never ends and runs the next",
  async ({ page, url }) => {
    await openPage(page, url);
    await button(page, "New notebook").click();
    const cell = cells(page).first();
    await code(cell).fill("kept = 1\nprint('going', flush=True)\nwhile True: pass");
    await button(cell, "Run").click();
    await shown(cell.getByText("going", { exact: true }));
    await button(cell, "Stop cell").click();
    await shown(button(cell, "Run"));
    await code(cell).fill("print('kept', kept)");
    await button(cell, "Run").click();
    await shown(cell.getByText("kept 1", { exact: true }));
  },
  ALONE,
);

story("exports the session as a notebook and as Markdown", async ({ page, url, model, functions }) => {
  await model.answers("Add two numbers", python("print(20 + 22)"), say("It is **42**."));
  await openPage(page, url);
  await send(page, "Add two numbers");
  await shown(page.getByText("It is 42."));
  await answered(page);
  const notebook = JSON.parse(await readFile(await exported(page, /ipynb|notebook/i), "utf8")) as {
    nbformat: number;
    cells: { source: string | string[] }[];
  };
  expect(notebook.nbformat === 4, "a notebook of format 4");
  expect(
    notebook.cells.some((cell) => [cell.source].flat().join("").includes("print(20 + 22)")),
    "the cell's code in the notebook",
  );
  const markdown = await readFile(await exported(page, /markdown/i), "utf8");
  for (const part of ["Add two numbers", "print(20 + 22)", "It is **42**."]) {
    expect(markdown.includes(part), `${part} in the Markdown`);
  }
  expect((await functions.run(await sessionOf(page), "print(1)")) === "1\n", "the session goes on");
});
