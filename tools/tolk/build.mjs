// Compiles contracts/*.tolk with the pinned compiler.
//
//   node build.mjs [SOURCES [OUT]]   defaults: ../../contracts, SOURCES/code
//
// Writes OUT/<name>.boc and OUT/hashes.txt (name, code hash, depth).
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { getTolkCompilerVersion, runTolkCompiler } from "@ton/tolk-js";

const here = dirname(fileURLToPath(import.meta.url));
const sources = process.argv[2] ?? join(here, "..", "..", "contracts");
const out = process.argv[3] ?? join(sources, "code");
const names = ["root", "proxy", "client", "worker", "wallet", "anchor"];

mkdirSync(out, { recursive: true });
const lines = [`# Tolk ${await getTolkCompilerVersion()}: name, code hash`];
let failed = false;
for (const name of names) {
  const result = await runTolkCompiler({
    entrypointFileName: `${name}.tolk`,
    fsReadCallback: (path) => readFileSync(join(sources, path), "utf8"),
  });
  if (result.status !== "ok") {
    console.error(`${name}.tolk: ${result.message}`);
    failed = true;
    continue;
  }
  if (result.stderr) console.error(result.stderr);
  writeFileSync(join(out, `${name}.boc`), Buffer.from(result.codeBoc64, "base64"));
  lines.push(`${name} ${result.codeHashHex.toLowerCase()}`);
}
if (failed) process.exit(1);
writeFileSync(join(out, "hashes.txt"), lines.join("\n") + "\n");
