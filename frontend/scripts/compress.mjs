// Writes a .br and a .gz beside each text file of the export, so that a server need not compress while somebody waits.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const OUT = new URL("../out/", import.meta.url).pathname;
const TEXT = new Set([".css", ".csv", ".html", ".js", ".json", ".svg", ".txt"]);
const LEAST_BYTES = 1024;
const BROTLI_QUALITY = 9; // the highest takes ten times as long for three in a hundred

for (const entry of await readdir(OUT, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !TEXT.has(extname(entry.name))) continue;
  const path = join(entry.parentPath, entry.name);
  const content = await readFile(path);
  if (content.length < LEAST_BYTES) continue;
  const params = { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY };
  await writeFile(`${path}.br`, await promisify(brotliCompress)(content, { params }));
  await writeFile(`${path}.gz`, await promisify(gzip)(content, { level: 9 }));
}
