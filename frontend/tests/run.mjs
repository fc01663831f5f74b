/**
 * Lists and plays the stories of this folder: `run.mjs --list KIND`, `run.mjs --play KIND`, where KIND is the name of
 * a folder here. To play, one job a line is read and one answer a line is written; all else goes to stderr.
 */
import { build } from "esbuild";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const [mode, kind = "stories"] = process.argv.slice(2);
const { list, play } = await built(kind);

if (mode === "--list") process.stdout.write(JSON.stringify(list()) + "\n");
else if (mode === "--play") await play();
else throw new Error("usage: run.mjs --list|--play KIND");

/** The folder's modules as one, made of TypeScript; kept beside the packages that they import while it is loaded. */
async function built(folder) {
  const files = (await readdir(path.join(here, folder))).filter((name) => name.endsWith(".ts")).sort();
  const imports = files.map((name) => `import "./${folder}/${name}";`);
  const cache = await mkdtemp(path.join(here, "..", "node_modules", ".stories-"));
  const outfile = path.join(cache, "stories.mjs");
  try {
    await build({
      stdin: { contents: [...imports, 'export * from "./harness/play";'].join("\n"), resolveDir: here },
      outfile,
      bundle: true,
      packages: "external",
      platform: "node",
      format: "esm",
      target: "node20",
      sourcemap: "inline",
      logLevel: "error",
    });
    return await import(pathToFileURL(outfile).href);
  } finally {
    await rm(cache, { recursive: true });
  }
}
