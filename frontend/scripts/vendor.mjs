/** Writes `public/vendor/`: the scripts of `/render.html`, each made anew only when what it is made of has changed. */
import { createHash } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const frontend = join(dirname(fileURLToPath(import.meta.url)), "..");
const vendor = join(frontend, "public", "vendor");
const require = createRequire(import.meta.url);

const OUTPUTS = [
  { name: "frame.js", packages: [], make: () => bundle("frame.ts") },
  { name: "plotly.js", packages: ["plotly.js-dist-min"], make: () => readFile(require.resolve("plotly.js-dist-min")) },
  { name: "vega.js", packages: ["vega", "vega-lite", "vega-embed"], make: () => bundle("vega.ts") },
];

/** Return one classic script: a module script would not load in a frame without an origin. */
async function bundle(entry) {
  const { outputFiles } = await build({
    entryPoints: [join(frontend, "render", entry)],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
    legalComments: "eof",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "warning",
  });
  return outputFiles[0].contents;
}

/** Return a digest of what a script is made of. */
async function digestOf({ name, packages }) {
  const hash = createHash("sha256");
  for (const one of packages) hash.update(await readFile(join(frontend, "node_modules", one, "package.json")));
  if (name !== "plotly.js") {
    const sources = (await readdir(join(frontend, "render"))).filter((file) => !file.includes(".test."));
    for (const file of sources.sort()) hash.update(await readFile(join(frontend, "render", file)));
    hash.update(await readFile(join(frontend, "node_modules", "esbuild", "package.json")));
  }
  hash.update(await readFile(fileURLToPath(import.meta.url)));
  return hash.digest("hex").slice(0, 16);
}

/** Return the first line of a file, or nothing where there is none. */
async function firstLine(path) {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return "";
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, 0);
    return buffer.toString("utf8", 0, bytesRead).split("\n")[0];
  } finally {
    await file.close();
  }
}

await mkdir(vendor, { recursive: true });
for (const output of OUTPUTS) {
  const path = join(vendor, output.name);
  const head = `/* made of ${await digestOf(output)} */`;
  if ((await firstLine(path)) === head) continue;
  const contents = Buffer.concat([Buffer.from(`${head}\n`), await output.make()]);
  await writeFile(`${path}.new`, contents);
  await rename(`${path}.new`, path);
  console.log(`public/vendor/${output.name}: ${Math.round(contents.length / 1000)} KB`);
}
