import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, run } from "./lib.ts";
import { aliasesOf, changedSince, sourcesOf, touchedBy } from "./touched.ts";

const planted = new Map([
  ["runtime/a.ts", "export const a = 1;"],
  ["runtime/b.ts", 'import { a } from "./a.ts";\nexport const b = a;'],
  ["runtime/b.test.ts", 'import { b } from "./b.ts";'],
  ["runtime/circle.ts", 'import { b } from "./b.ts";\nexport * from "./round.ts";'],
  ["runtime/round.ts", 'import type { C } from "./circle.ts";'],
  ["runtime/other.ts", "export {};"],
  ["runtime/other.test.ts", 'import { other } from "./other.ts";'],
  ["runtime/worker.ts", "postMessage(1);"],
  ["runtime/pool.ts", 'new Worker(new URL("./worker.ts", import.meta.url));'],
  ["runtime/pool.test.ts", 'const { pool } = await import("./pool.ts");'],
  ["scripts/program.ts", "console.log(1);"],
  ["scripts/program.test.ts", 'Bun.spawn(["bun", "scripts/program.ts"]);'],
  ["test/vectors/x.json", ""],
  ["runtime/x.test.ts", 'import x from "../test/vectors/x.json";'],
  ["sdk/src/index.ts", 'export * from "./pipe.ts";'],
  ["sdk/src/pipe.ts", "export {};"],
  ["plugins/p/index.ts", 'import { pipe } from "@godwit/sdk";'],
  ["plugins/p/index.test.ts", 'import p from "./index.ts";'],
  ["test/architecture.test.ts", ""],
]);
const aliases = new Map([["@godwit/sdk", "sdk/src/index.ts"]]);
const testsOf = (...changed: string[]) =>
  touchedBy(changed, planted, aliases).tests.filter((path) => path !== "test/architecture.test.ts");

describe("what a change touches", () => {
  test.each([
    ["a test itself", ["runtime/other.test.ts"], ["runtime/other.test.ts"]],
    ["what a test imports by way of others", ["runtime/a.ts"], ["runtime/b.test.ts"]],
    ["a circle, which ends", ["runtime/round.ts"], []],
    ["a worker, which is loaded by path", ["runtime/worker.ts"], ["runtime/pool.test.ts"]],
    ["a program, which is started by path", ["scripts/program.ts"], ["scripts/program.test.ts"]],
    ["data", ["test/vectors/x.json"], ["runtime/x.test.ts"]],
    ["the SDK, by its name", ["sdk/src/pipe.ts"], ["plugins/p/index.test.ts"]],
    ["a file that is gone", ["runtime/gone.ts"], []],
    ["two things", ["runtime/a.ts", "runtime/other.ts"], ["runtime/b.test.ts", "runtime/other.test.ts"]],
    ["nothing", [], []],
  ])("%s", (_what, changed, tests) => expect(testsOf(...changed)).toEqual(tests));

  test("whoever still imports a file that was removed is touched", () => {
    const left = new Map([...planted].filter(([path]) => path !== "runtime/a.ts"));
    expect(touchedBy(["runtime/a.ts"], left).tests).toContain("runtime/b.test.ts");
  });

  test("a test that reads the whole tree is always touched", () => {
    expect(touchedBy(["docs/x.md"], planted).tests).toEqual(["test/architecture.test.ts"]);
  });

  test.each([["bun.lock"], ["tsconfig.json"], ["package.json"]])("after %s nothing is as it was", (path) => {
    expect(touchedBy([path], planted).isEverything).toBe(true);
    expect(touchedBy([`sdk/template/${path}`], planted).isEverything).toBe(false);
  });

  test("in this project: the clock is under most of it, a codec of one plugin is not", async () => {
    const sources = await sourcesOf(root);
    const names = aliasesOf(readFileSync(join(root, "tsconfig.json"), "utf8"));
    expect(names.get("@godwit/sdk")).toBe("sdk/src/index.ts");
    const all = [...sources.keys()].filter((path) => path.endsWith(".test.ts")).length;
    const touched = (path: string) => touchedBy([path], sources, names).tests;
    expect(touched("runtime/kernel/clock.ts").length).toBeGreaterThan(all / 4);
    expect(touched("sdk/src/index.ts")).toContain("plugins/transport-tcp/conformance.test.ts");
    // This file names what it looks at, and is touched by it.
    const few = [
      ...["scripts/calibrate.heavy.test.ts", "scripts/calibrate.test.ts", "scripts/touched.test.ts"],
      ...["test/architecture.test.ts", "test/mutants.test.ts"],
    ];
    expect(touched("scripts/calibrate.ts")).toEqual(few);
  });
});

test("changed since a commit: what was committed after it, what is not committed, new and removed files", async () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-touched-"));
  try {
    const git = async (...words: string[]) => {
      const settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
      const { code, output } = await run(["git", ...settings, ...words], { cwd: folder });
      expect([code, output]).toEqual([0, expect.any(String)]);
    };
    const write = (path: string, text: string) => writeFileSync(join(folder, path), text);
    await git("init", "--quiet");
    mkdirSync(join(folder, "ä b"));
    for (const path of ["same.ts", "committed.ts", "edited.ts", "removed.ts", "moved.ts"]) write(path, "1");
    write(".gitignore", "ignored.ts\n");
    await git("add", ".");
    await git("commit", "--quiet", "-m", "first");
    write("committed.ts", "2");
    await git("mv", "moved.ts", "ä b/moved.ts");
    await git("commit", "--quiet", "-am", "second");
    write("edited.ts", "2");
    write("new.ts", "1");
    write("ignored.ts", "1");
    rmSync(join(folder, "removed.ts"));
    expect(await changedSince("HEAD~1", folder)).toEqual([
      "committed.ts",
      "edited.ts",
      "moved.ts",
      "new.ts",
      "removed.ts",
      "ä b/moved.ts",
    ]);
    expect(await changedSince("HEAD", folder)).toEqual(["edited.ts", "new.ts", "removed.ts"]);
    expect([...(await sourcesOf(folder)).keys()]).not.toContain("removed.ts");
    await expect(changedSince("nowhere", folder)).rejects.toThrow('git knows no commit "nowhere" here');
    await expect(changedSince("--output=x", folder)).rejects.toThrow('no commit "--output=x"');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
