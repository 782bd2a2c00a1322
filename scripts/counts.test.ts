import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { failedNames, failuresSaid, hasReason, parseCounts, skippedNames } from "./counts.ts";
import { run } from "./lib.ts";

describe("counts", () => {
  test.each([
    ['{}\nnoise\n{"passed": 3, "failed": 1, "skipped": 2}\n', { passed: 3, failed: 1, skipped: 2 }],
    ['{"ok": true, "nodes": []}', { passed: 1, failed: 0, skipped: 0 }],
    ['{"ok": false}', { passed: 0, failed: 1, skipped: 0 }],
    [
      " 85 pass\n 2 skip\n 1 todo\n 6 fail\n 9 expect() calls\nRan 94 tests",
      { passed: 85, failed: 6, skipped: 3 },
    ],
    [" 85 pass\n 0 fail\n 1 error\n", { passed: 85, failed: 1, skipped: 0 }],
    ["\u001b[32m 4 pass\u001b[0m\n\u001b[2m 0 fail\u001b[0m", { passed: 4, failed: 0, skipped: 0 }],
    ["built dist/godwit\n", undefined],
    ["", undefined],
    ["{broken", undefined],
  ])("of %j", (output, counts) => expect(parseCounts(output)).toEqual(counts as never));

  test("real output of bun test, skipped and failed tests by name", async () => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-counts-"));
    try {
      writeFileSync(
        join(folder, "a.test.ts"),
        `import { test } from "bun:test";
        test("good", () => {});
        test("bad", () => { throw new Error("bad"); });
        test.skipIf(true)("far [skipped: needs root]", () => {});
        test.skipIf(true)("mute", () => {});`,
      );
      const { code, output } = await run([process.execPath, "test", "./a.test.ts"], { cwd: folder });
      expect(code).toBe(1);
      expect(parseCounts(output)).toEqual({ passed: 1, failed: 1, skipped: 2 });
      expect(skippedNames(output).map((name) => [name, hasReason(name)])).toEqual([
        ["far [skipped: needs root]", true],
        ["mute", false],
      ]);
      expect(failedNames(output)).toEqual(["bad"]);
      const [said, ...more] = failuresSaid(output);
      expect(more).toEqual([]);
      expect(said?.said).toStartWith("(fail) bad");
      expect(said?.said).toContain("error: bad");
      expect(said?.said).not.toContain("(pass) good");
      expect([said?.name, said?.why]).toEqual(["bad", "a.test.ts:3 error: bad"]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("run", () => {
  test("output of both streams and the code", async () => {
    const result = await run(["sh", "-c", "echo out; echo err >&2; exit 3"]);
    expect(result.code).toBe(3);
    expect(result.output).toContain("out\n");
    expect(result.output).toContain("err\n");
  });
});
