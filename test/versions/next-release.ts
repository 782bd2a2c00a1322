/**
 * The release that comes after this tree, planted: its schema has a column, an index, a trigger and a collection more, and it writes a field
 * more into every meta that is a JSON object. What it added stands in the database under the word `planted`. Built beside dist/godwit.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { collections } from "../../runtime/store/types.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { root, run } from "../../scripts/lib.ts";

const BUILD_TIMEOUT_MS = 180_000;
/** What the binary is made of. */
const SOURCES = [
  "runtime",
  "plugins",
  "sdk",
  "docs",
  "scripts",
  "package.json",
  "bun.lock",
  "tsconfig.json",
  "bunfig.toml",
  "images",
];

/** In each file: what stands there, and what the next release has in its place. */
const changes: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  "runtime/store/types.ts": [
    ["] as const;\nexport type Collection", `  "planted",\n] as const;\nexport type Collection`],
  ],
  "runtime/store/sqlite-schema.ts": [
    [
      "];\nexport const SCHEMA_VERSION",
      `  [
    \`ALTER TABLE "outbox" ADD COLUMN planted TEXT\`,
    \`ALTER TABLE "inbox" ADD COLUMN planted TEXT NOT NULL DEFAULT 'none'\`,
    \`CREATE INDEX "outbox_planted" ON "outbox" (planted)\`,
    \`CREATE TRIGGER "outbox_plant" AFTER INSERT ON "outbox" BEGIN UPDATE "outbox" SET planted = NEW.key WHERE key = NEW.key; END\`,
    rowTable("planted"),
    ...["meta_sum", "body_sum", "body_id", "body_bytes"].map((column) => \`ALTER TABLE "planted" ADD COLUMN \${column} INTEGER\`),
    \`INSERT INTO "store_collection" VALUES (${collections.length}, 'planted')\`,
  ],
];
export const SCHEMA_VERSION`,
    ],
  ],
  "runtime/store/sqlite.ts": [
    [
      `    await this.#enqueue({ kind: "commit", ops });`,
      `    const planted = ops.flatMap((op): StoreOp[] => {
      if (op.op !== "put" || !op.meta.startsWith("{")) return [op];
      const meta = JSON.stringify({ ...JSON.parse(op.meta), planted: "by the next" });
      const more: StoreOp[] = op.in === "outbox" && op.body !== undefined ? [{ op: "put", in: "planted", key: op.key, meta: "{}" }] : [];
      return [{ ...op, meta }, ...more];
    });
    await this.#enqueue({ kind: "commit", ops: planted });`,
    ],
  ],
};

/** Its binary. Rejects where this tree is not as it is thought to be above, or does not build. */
export async function nextReleaseBinary(): Promise<string> {
  const outfile = join(root, "dist/next/godwit");
  if (existsSync(outfile) && statSync(outfile).mtimeMs > statSync(binaryPath).mtimeMs) return outfile;
  const dir = await mkdtemp(join(tmpdir(), "godwit-next-"));
  try {
    for (const name of SOURCES)
      if (existsSync(join(root, name))) cpSync(join(root, name), join(dir, name), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(dir, "node_modules"));
    for (const [file, texts] of Object.entries(changes)) {
      let source = readFileSync(join(dir, file), "utf8");
      for (const [before, after] of texts) {
        if (source.split(before).length !== 2) throw new Error(`${file} has not once: ${before}`);
        source = source.replace(before, () => after);
      }
      writeFileSync(join(dir, file), source);
    }
    mkdirSync(dirname(outfile), { recursive: true });
    const command = [process.execPath, "scripts/build.ts", "--outfile", outfile];
    const { code, output } = await run(command, { cwd: dir, timeoutMs: BUILD_TIMEOUT_MS });
    if (code !== 0) throw new Error(`the next release does not build\n${output.slice(-2_000)}`);
    return outfile;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
