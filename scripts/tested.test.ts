import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCounts } from "./counts.ts";
import { root, run } from "./lib.ts";
import { allSuites } from "./suites.ts";
import { heavyArguments, TESTED, testArguments } from "./tested.ts";
import { aliasesOf, sourcesOf, touchedBy } from "./touched.ts";

describe("of a usual test and a heavy one", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "godwit-tested-"));
    for (const path of TESTED.filter((tested) => tested.endsWith("/")))
      mkdirSync(join(folder, path), { recursive: true });
    mkdirSync(join(folder, "test"));
    const passing = (name: string) => `import { test } from "bun:test";\ntest("${name}", () => {});\n`;
    for (const path of [
      ...["runtime/a.test.ts", "runtime/a.heavy.test.ts", "runtime/b/c.heavy.test.ts"],
      ...["test/architecture.test.ts", "test/mutants.test.ts"],
    ]) {
      mkdirSync(join(folder, path, ".."), { recursive: true });
      writeFileSync(join(folder, path), passing(path));
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ["the whole check runs the usual one alone", testArguments(undefined, 1), 3],
    ["a check of the heavy one's path runs it", testArguments(["runtime/a.heavy.test.ts"], 1), 1],
    ["a check of its folder runs both", testArguments(["runtime"], 1), 3],
    ["the suite runs the heavy ones alone", heavyArguments(1), 2],
  ])("%s", async (_what, words, count) => {
    const { output } = await run([process.execPath, ...words], { cwd: folder });
    expect(parseCounts(output)).toEqual({ passed: count, failed: 0, skipped: 0 });
  });
});

test("in this project: there is such a suite, and a change of what a heavy test imports touches it", async () => {
  expect(allSuites().find(({ name }) => name === "heavy")?.command).toEqual(["bun", ...heavyArguments(2)]);
  const sources = await sourcesOf(root);
  const heavy = [...sources.keys()].filter((path) => path.endsWith(".heavy.test.ts"));
  expect(heavy.filter((path) => !TESTED.some((folder) => path.startsWith(folder)))).toEqual([]);
  const aliases = aliasesOf(await Bun.file(join(root, "tsconfig.json")).text());
  const { tests } = touchedBy(["runtime/membership/records.ts"], sources, aliases);
  expect(tests).toContain("runtime/membership/records.heavy.test.ts");
});
