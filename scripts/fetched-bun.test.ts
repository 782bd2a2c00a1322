import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pkg from "../package.json" with { type: "json" };
import { checkFetched, targets } from "./build.ts";
import { root } from "./lib.ts";

const pinned = readFileSync(join(root, "scripts/bun.sha256"), "utf8");
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "godwit-bun-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("the hashes are of the version that is pinned, one for each target", () => {
  expect(pinned).toContain(`Bun ${pkg.engines.bun},`);
  for (const name of Object.values(targets))
    expect(pinned).toMatch(new RegExp(`^[0-9a-f]{64}  ${name}$`, "m"));
});

/** A clone whose npm brings a Bun of the right version with these bytes. */
function bootstrap(program: string, hashes: string, { npmTakesS = 0 } = {}) {
  for (const dir of ["scripts", "bin"]) mkdirSync(join(folder, dir));
  cpSync(join(root, "scripts/lib.sh"), join(folder, "scripts/lib.sh"));
  writeFileSync(join(folder, "scripts/bun.sha256"), hashes);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ engines: { bun: "9.9.9" } }, null, 2));
  writeFileSync(join(folder, "program"), program, { mode: 0o755 });
  const npm = join(folder, "bin/npm");
  const to = ".cache/bun/node_modules/@oven/bun-linux-x64/bin";
  writeFileSync(npm, `#!/bin/sh\nsleep ${npmTakesS}\nmkdir -p ${to}\ncp program ${to}/bun\n`);
  chmodSync(npm, 0o755);
  const script = "set -eu; . scripts/lib.sh; bootstrap; echo done";
  const ran = Bun.spawnSync(["sh", "-c", script], {
    cwd: folder,
    env: { PATH: `${folder}/bin:/usr/bin:/bin` },
  });
  return { code: ran.exitCode, said: ran.stdout.toString() + ran.stderr.toString() };
}

const PROGRAM = '#!/bin/sh\n[ "$1" = --version ] && echo 9.9.9\necho ran >> ran\n';
const hashOf = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest("hex");

test("a Bun of the right version with other bytes is removed, and never runs", () => {
  const { code, said } = bootstrap(PROGRAM, `${"0".repeat(64)}  bun-linux-x64\n`);
  expect(said).toContain("does not name");
  expect(code).toBe(1);
  expect(existsSync(join(folder, "ran"))).toBe(false);
  expect(existsSync(join(folder, ".cache/bun/node_modules"))).toBe(false);
});

test("the Bun whose bytes are pinned is used", () => {
  const { code, said } = bootstrap(PROGRAM, `${hashOf(PROGRAM)}  bun-linux-x64\n`);
  expect(said).toContain("done");
  expect(code).toBe(0);
});

test("what takes seconds to be fetched says how long it took, and what is over at once does not", () => {
  const hashes = `${hashOf(PROGRAM)}  bun-linux-x64\n`;
  const { said } = bootstrap(PROGRAM, hashes, { npmTakesS: 2.1 });
  expect(said).toMatch(/^done\nfetching bun 9\.9\.9 with npm .*\nfetching bun: \d s\n$/);
  rmSync(folder, { recursive: true });
  mkdirSync(folder);
  expect(bootstrap(PROGRAM, hashes).said).toMatch(/^done\nfetching bun 9\.9\.9 with npm .*\n$/);
});

test("a fetch that fails shows what was said, and leaves nothing that goes on telling of it", () => {
  for (const dir of ["scripts", "bin"]) mkdirSync(join(folder, dir));
  cpSync(join(root, "scripts/lib.sh"), join(folder, "scripts/lib.sh"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ engines: { bun: "9.9.9" } }, null, 2));
  writeFileSync(join(folder, "bin/npm"), "#!/bin/sh\necho no such registry\nexit 7\n", { mode: 0o755 });
  // What is left of the one that tells.
  writeFileSync(join(folder, "bin/sleep"), "#!/bin/sh\nexec /bin/sleep 6\n", { mode: 0o755 });
  const started = performance.now();
  const ran = Bun.spawnSync(["sh", "-c", "set -eu; . scripts/lib.sh; bootstrap"], {
    cwd: folder,
    env: { PATH: `${folder}/bin:/usr/bin:/bin` },
  });
  expect([ran.exitCode, ran.stdout.toString()]).toEqual([1, ""]);
  expect(ran.stderr.toString()).toContain("no such registry\n");
  expect(ran.stderr.toString()).toContain("npm could not install bun@9.9.9");
  // The pipe of standard error is closed when nobody has it any more.
  expect(performance.now() - started).toBeLessThan(5_000);
});

test("the runtime of another machine that Bun fetched for a build is held against the same list", () => {
  const path = join(folder, "bun-linux-arm64-v9.9.9");
  checkFetched(path, "bun-linux-arm64");
  writeFileSync(path, "another program");
  expect(() => checkFetched(path, "bun-linux-arm64")).toThrow("does not name");
  expect(existsSync(path)).toBe(false);
});
