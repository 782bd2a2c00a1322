/** What whoever waits for a build is told. */
import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../../scripts/lib.ts";

test("a build says its steps on standard error, and its result alone on standard output", () => {
  const outfile = join(tmpdir(), `godwit-steps-${process.pid}`);
  const ran = Bun.spawnSync([process.execPath, "scripts/build.ts", "--outfile", outfile], { cwd: root });
  rmSync(outfile, { force: true });
  expect(ran.stderr.toString()).toMatch(
    /^compiling\ncompiling: \d+\.\d s\nmeasuring .*\nmeasuring .*: \d+\.\d s\n$/,
  );
  expect(ran.stdout.toString()).toMatch(/^\/.*  \d+\.\d MiB, .* s\n$/);
}, 120_000);
