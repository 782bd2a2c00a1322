/**
 * The compiled binary must neither run nor read what lies in its working directory. A control binary, built without the
 * flags, shows that the trap works: if Bun changes its flags or its files, this test says so instead of passing idly.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildBinary, buildVersion } from "../../scripts/build.ts";
import { run } from "../../scripts/lib.ts";

const BUILD_TIMEOUT_MS = 60_000;
const fixture = join(import.meta.dir, "fixture");

let folder: string;
let trap: string;
let version: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "godwit-build-"));
  trap = join(folder, "trap");
  mkdirSync(trap);
  writeFileSync(join(trap, "bunfig.toml"), 'preload = ["./hostile.ts"]\n[run]\npreload = ["./hostile.ts"]\n');
  writeFileSync(join(trap, "hostile.ts"), 'globalThis.hostilePreload = "ran";\n');
  writeFileSync(join(trap, ".env"), "HOSTILE_DOTENV=read\n");
  for (const name of ["worker.ts", "worker.js"])
    writeFileSync(join(trap, name), 'postMessage("from the working directory");\n');
  writeFileSync(
    join(trap, "tsconfig.json"),
    '{"compilerOptions": {"baseUrl": ".", "paths": {"*": ["./hostile.ts"]}}}',
  );
  version = await buildVersion();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function runInTrap(name: string, dangerouslyAutoload: boolean): Promise<unknown> {
  const outfile = join(folder, name);
  const size = await buildBinary({
    entries: [join(fixture, "main.ts"), join(fixture, "worker.ts")],
    entryRoot: fixture,
    outfile,
    version,
    dangerouslyAutoload,
  });
  expect(size).toBeGreaterThan(1_000_000);
  const { code, output } = await run([outfile], {
    cwd: trap,
    env: { PATH: "/usr/bin:/bin" },
    timeoutMs: 20_000,
  });
  expect({ code, output }).toMatchObject({ code: 0 });
  return JSON.parse(output) as unknown;
}

test(
  "a hostile bunfig.toml, .env and worker file in the working directory do nothing",
  async () => {
    expect(await runInTrap("safe", false)).toEqual({
      preloaded: null,
      fromDotenv: null,
      worker: "embedded",
      version,
    });
  },
  BUILD_TIMEOUT_MS,
);

test(
  "the same trap catches a binary built without the flags",
  async () => {
    expect(await runInTrap("control", true)).toMatchObject({ preloaded: "ran", fromDotenv: "read" });
  },
  BUILD_TIMEOUT_MS,
);

test("a build that fails says why and leaves nothing behind", async () => {
  const outfile = join(folder, "broken");
  const entry = join(folder, "broken.ts");
  writeFileSync(entry, 'import { gone } from "./gone.ts"; gone();');
  const failure = buildBinary({ entries: [entry], entryRoot: folder, outfile, version });
  await expect(failure).rejects.toThrow(/gone\.ts/);
  await failure.catch(() => undefined);
  expect(await Bun.file(outfile).exists()).toBe(false);
});
