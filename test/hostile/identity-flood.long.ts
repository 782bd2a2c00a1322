/** 100,000 free identities come and go at one node, more than any of its tables holds, and at the door of each table alone. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../scripts/lib.ts";
import { declareFlood } from "./flood.ts";

const DOORS_MS = 20 * 60_000;

test(
  "100,000 throw-away identities at the door of each table: those that `check` tries with fewer",
  async () => {
    const runtime = join(root, "runtime");
    const doors = [...new Bun.Glob("**/*.test.ts").scanSync({ cwd: runtime })]
      .map((file) => join(runtime, file))
      .filter((file) => readFileSync(file, "utf8").includes("DOOR_IDENTITIES"))
      .sort();
    expect(doors.length).toBeGreaterThan(4);
    const run = Bun.spawn([process.execPath, "test", ...doors], {
      cwd: root,
      env: { ...process.env, GODWIT_DOORS: "all" },
      stdout: "pipe",
      stderr: "pipe",
      timeout: DOORS_MS,
    });
    const [, told] = await Promise.all([run.stdout.text(), run.stderr.text()]);
    expect([await run.exited, told.split("\n").filter((line) => line.startsWith("(fail)"))]).toEqual([0, []]);
  },
  DOORS_MS + 10_000,
);

declareFlood(100_000, 3 * 3_600_000);
