/** The shape of the project, held in place. The rules and their reasons stand in scripts/architecture.ts. */
import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import {
  circleViolations,
  dependencyViolations,
  importsOf,
  looseViolations,
  parseRegistry,
  purityViolations,
  registryViolations,
  sizeViolations,
  slackViolations,
  type SourceFile,
  wallClockViolations,
  wordViolations,
} from "../scripts/architecture.ts";
import { root } from "../scripts/lib.ts";

/** Folders that hold what others wrote or what a machine made. */
const SKIPPED = /(^|\/)(node_modules|dist|\.cache|\.git|coverage)(\/|$)/;
const TEXT = /\.(ts|tsx|js|json|md|toml|sh|yml|yaml|txt|html|css|service|cfg|conf)$|(^|\/)[^.]+$/;

async function readFiles(pattern: string): Promise<SourceFile[]> {
  const paths = [...new Bun.Glob(pattern).scanSync({ cwd: root, dot: true })].filter(
    (path) => !SKIPPED.test(path) && TEXT.test(path),
  );
  return await Promise.all(
    paths.sort().map(async (path) => ({ path, text: await Bun.file(join(root, path)).text() })),
  );
}

const code = await readFiles("{runtime,sdk,plugins}/**/*.ts");

describe("the project", () => {
  test("imports go in one direction", () => {
    expect(code.length).toBeGreaterThan(20);
    expect(code.flatMap(dependencyViolations)).toEqual([]);
  });

  test("nothing goes in a circle, no allowance is unused, nothing lies loose", () => {
    expect(circleViolations(code)).toEqual([]);
    expect(slackViolations(code)).toEqual([]);
    expect(looseViolations(code)).toEqual([]);
  });

  test("time, randomness and threads are handed in", () => {
    expect(code.flatMap(purityViolations)).toEqual([]);
  });

  test("what is over is judged in one place", () => {
    expect(code.flatMap(wallClockViolations)).toEqual([]);
  });

  test("no file of runtime/ holds too much", () => {
    expect(code.flatMap(sizeViolations)).toEqual([]);
  });

  test("words that may not stand anywhere", async () => {
    const everything = await readFiles("**/*");
    expect(everything.length).toBeGreaterThan(code.length);
    expect(everything.flatMap(wordViolations)).toEqual([]);
  });

  test("docs/registry.md and the code name the same wire numbers", async () => {
    const page = parseRegistry(await Bun.file(join(root, "docs/registry.md")).text());
    expect(registryViolations(await wireNumbers(), page)).toEqual([]);
  });
});

/** Groups are exported objects of numbers with a capital; single numbers count only in wire/constants.ts. */
async function wireNumbers(): Promise<Map<string, Map<string, number>>> {
  const wire = readdirSync(join(root, "runtime/wire")).filter((name) =>
    /(?<!\.test|\.suite)\.ts$/.test(name),
  );
  const modules = [
    ...wire.map((name) => `wire/${name}`),
    "link/constants.ts",
    "stream/constants.ts",
    "plugin/frames/frames.ts",
    "../plugins/transport-udp/wire.ts",
    "../plugins/transport-wireguard/preshared.ts",
    "../plugins/discovery-dht/carry.ts",
  ];
  const groups = new Map<string, Map<string, number>>();
  for (const module of modules.sort()) {
    const exported = (await import(join(root, "runtime", module))) as Record<string, unknown>;
    const singles = new Map<string, number>();
    for (const [name, value] of Object.entries(exported)) {
      if (typeof value === "number" && module === "wire/constants.ts") singles.set(name, value);
      const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
      const isGroup =
        /^[A-Z][a-zA-Z]*[a-z]/.test(name) && entries.every(([, number]) => typeof number === "number");
      if (isGroup && entries.length > 0)
        groups.set(`${module.replace("../", "")} ${name}`, new Map(entries as [string, number][]));
    }
    if (singles.size > 0) groups.set(module, singles);
  }
  return groups;
}

describe("each rule can fail", () => {
  const at = (path: string, text: string): SourceFile => ({ path, text });

  test.each([
    ["runtime/kernel/x.ts", 'import { a } from "../wire/bytes.ts";', "stand on nothing"],
    ["runtime/wire/x.ts", 'import type { A } from "../link/types.ts";', "bytes alone"],
    ["runtime/route/x.ts", 'import { a } from "../store/queue.ts";', "full disk"],
    ["runtime/route/x.ts", 'export { a } from "../store/queue.ts";', "full disk"],
    ["runtime/route/x.ts", 'import {\n  a,\n  b,\n} from "../store/queue.ts";', "full disk"],
    ["runtime/route/x.ts", 'const a = await import("../store/queue.ts");', "full disk"],
    ["runtime/route/x.ts", 'import "../store/queue.ts";', "full disk"],
    ["runtime/peer/x.ts", 'import { a } from "../node/node.ts";', "decided above"],
    ["runtime/api/x.ts", 'import { a } from "../route/table.ts";', "only through view/contract"],
    ["runtime/store/x.ts", 'import { a } from "../../plugins/transport-tcp/index.ts";', "registry.ts"],
    ["runtime/kernel/x.ts", 'import { a } from "../../sdk/src/clock.ts";', "by its name"],
    ["runtime/kernel/x.ts", 'import { a } from "../../scripts/lib.ts";', "tools that build it"],
    ["runtime/fresh/x.ts", 'import { a } from "../kernel/ids.ts";', "stands in no layer"],
    ["runtime/main.ts", 'import { a } from "./store/queue.ts";', "chooses a personality"],
    ["runtime/heal/x.ts", 'import { a } from "../mesh/mesh.ts";', "its plans are pure"],
    ["runtime/api/x.ts", 'import { a } from "../../web/index.ts";', "data to the runtime"],
    ["web/x.ts", 'import { a } from "../runtime/view/contract/node.ts";', "by HTTP alone"],
    ["plugins/service-x/x.ts", 'import { a } from "../../runtime/kernel/ids.ts";', "no door"],
    ["plugins/service-x/x.test.ts", 'import { a } from "../../runtime/kernel/ids.ts";', "no door"],
    ["plugins/service-x/x.ts", 'import { a } from "../transport-tcp/pipe.ts";', "no door"],
    ["plugins/service-x/x.ts", 'import { a } from "../../sdk/src/clock.ts";', "no door"],
    ["plugins/service-x/x.ts", 'import { a } from "@godwit/sdk/serial";', "by ctx.serial"],
    ["sdk/src/x.ts", 'import { a } from "../../runtime/kernel/ids.ts";', "without the runtime"],
  ])("%s: %s", (path, text, because) => {
    expect(dependencyViolations(at(path, text))).toEqual([expect.stringContaining(because)]);
  });

  test.each([
    [
      "runtime/store/x.ts",
      'import { a } from "../wire/bytes.ts"; import { z } from "zod"; import "node:fs";',
    ],
    ["runtime/store/x.test.ts", 'import { a } from "../node/node.ts";'],
    ["runtime/registry.ts", 'import tcp from "../plugins/transport-tcp/index.ts";'],
    ["runtime/node/node.ts", 'import { a } from "../registry.ts"; import { b } from "../store/queue.ts";'],
    [
      "plugins/service-x/x.ts",
      'import { a } from "@godwit/sdk"; import b from "hono"; import "./y.ts"; import "node:net";',
    ],
    ["runtime/kernel/x.ts", 'const words = "we import this from ../node/node.ts";'],
  ])("allowed: %s", (path, text) => {
    expect(dependencyViolations(at(path, text))).toEqual([]);
  });

  test("imports are found in every form", () => {
    const text = `import a from "1"; import { type B } from '2';\nexport * from "3";\nimport "4";\nconst c = import("5");`;
    expect(importsOf(text.replaceAll("; import", ";\nimport")).sort()).toEqual(["1", "2", "3", "4", "5"]);
  });

  test.each([
    "const a = Date.now();",
    "const a = new Date();",
    "setTimeout(() => {}, 1);",
    "const a = performance.now();",
    "const a = Math.random();",
    "await crypto.subtle.digest('SHA-256', b);",
    "const t = AbortSignal.timeout(1);",
    "await Bun.sleep(1);",
    "randomBytes(4);",
  ])("ambient: %s", (text) => {
    for (const path of [
      "runtime/wire/x.ts",
      "runtime/route/decide.ts",
      "runtime/heal/plan.ts",
      "runtime/peer/x.ts",
    ])
      expect(purityViolations(at(path, text))).toHaveLength(1);
    for (const path of [
      "runtime/kernel/clock.ts",
      "runtime/cli/top.ts",
      "runtime/peer/x.test.ts",
      "plugins/a/b.ts",
    ])
      expect(purityViolations(at(path, text))).toEqual([]);
  });

  test.each([
    "export const a = (wallMs: number, b: number) => wallMs > b;",
    "export const a = clock.wallMs() >= entry.until;",
    "export const a = b.until <= this.#deps.clock.wallMs();",
    "export const a = time.wallMs - b;",
    'import { PLAUSIBLE_WALL_MS } from "../kernel/clock.ts"; export const a = b < PLAUSIBLE_WALL_MS;',
  ])("a wall clock that judges: %s", (text) => {
    expect(wallClockViolations(at("runtime/trust/x.ts", text))).toHaveLength(1);
    for (const path of ["runtime/time/x.ts", "runtime/cli/x.ts", "runtime/trust/x.test.ts", "plugins/a/b.ts"])
      expect(wallClockViolations(at(path, text))).toEqual([]);
  });

  test("a wall clock that is only read is fine", () => {
    const text = "export const a = { atMs: clock.wallMs(), untilMs: clock.wallMs() + forMs };";
    expect(wallClockViolations(at("runtime/trust/x.ts", text))).toEqual([]);
  });

  test("ambient: comments and given times are fine, I/O in pure code is not", () => {
    const fine =
      "/** Never Date.now() or setTimeout(f). */\nexport const a = new Date(clock.wallMs()).toISOString();";
    expect(purityViolations(at("runtime/wire/x.ts", fine))).toEqual([]);
    expect(purityViolations(at("runtime/wire/x.ts", 'import { a } from "node:fs";'))).toHaveLength(1);
    expect(purityViolations(at("runtime/wire/x.ts", 'import { a } from "node:crypto";'))).toEqual([]);
    expect(purityViolations(at("runtime/store/x.ts", 'import { a } from "node:fs";'))).toEqual([]);
  });

  test("a circle of files, of folders, of a file and a folder beside it; and none", () => {
    const file = (path: string, ...imports: string[]) =>
      at(path, imports.map((one) => `import { a } from "${one}";`).join("\n"));
    const circle = (...files: SourceFile[]) => circleViolations(files);
    expect(circle(file("runtime/a/x.ts", "./y.ts"), file("runtime/a/y.ts", "./x.ts"))).toEqual([
      expect.stringContaining("runtime/a: x.ts -> y.ts -> x.ts"),
    ]);
    expect(
      circle(
        file("runtime/a/x.ts", "../b/x.ts"),
        file("runtime/b/x.ts"),
        file("runtime/b/y.ts", "../c/x.ts"),
        file("runtime/c/x.ts", "../a/y.ts"),
        file("runtime/a/y.ts"),
      ),
    ).toEqual([expect.stringContaining("runtime: a -> b -> c -> a")]);
    expect(
      circle(
        file("runtime/a/x.ts", "./b/x.ts"),
        file("runtime/a/b/x.ts"),
        file("runtime/a/b/y.ts", "../x.ts"),
      ),
    ).toEqual([expect.stringContaining("runtime/a: x.ts -> b -> x.ts")]);
    expect(
      circle(
        file("runtime/a/x.ts", "./b/x.ts", "./y.ts"),
        file("runtime/a/b/x.ts", "../y.ts", "../../b/y.ts"),
        file("runtime/a/y.ts", "node:fs"),
        file("runtime/b/y.ts", "./z.ts"),
        file("runtime/b/z.ts"),
        file("runtime/b/z.test.ts", "./y.ts", "../a/x.ts"),
      ),
    ).toEqual([]);
  });

  test("an allowance that nothing uses", () => {
    const rules = { a: { may: ["b", "c"], because: "x" }, b: { may: [], because: "x" } };
    const files = [at("runtime/a/x.ts", 'import { a } from "../b/x.ts";')];
    expect(slackViolations(files, rules)).toEqual([expect.stringContaining("runtime/a may import c")]);
    const inTest = [...files, at("runtime/a/x.test.ts", 'import { a } from "../c/x.ts";')];
    expect(slackViolations(inTest, rules)).toHaveLength(1);
  });

  test("a file that lies loose", () => {
    const paths = ["runtime/main.ts", "runtime/registry.ts", "runtime/mesh-new.ts", "runtime/a/x.ts"];
    expect(looseViolations(paths.map((path) => at(path, "")))).toEqual([
      expect.stringContaining("runtime/mesh-new.ts must not lie loose"),
    ]);
  });

  test("size", () => {
    expect(sizeViolations(at("runtime/a/x.ts", "\n".repeat(501)))).toHaveLength(1);
    expect(sizeViolations(at("runtime/a/x.ts", "\n".repeat(500)))).toEqual([]);
    expect(sizeViolations(at("runtime/a/x.test.ts", "\n".repeat(900)))).toEqual([]);
  });

  test.each([
    ["docs/x.md", `see https:/${"/registry.example"}`],
    ["x.sh", `cd /${"work"}/main`],
    ["docs/x.md", `${"sub"}${"agent"}`],
    ["docs/x.md", `..${"/shared"}/x`],
    ["runtime/x.ts", `// ${"TO"}${"DO"}: later`],
    ["docs/x.md", `${"<".repeat(7)} HEAD`],
    ["docs/x.md", `${"> ".repeat(7)}side`],
    ["runtime/x.test.ts", `test.${"only"}("x", () => {});`],
    ["runtime/x.test.ts", `describe.${"skip"}("x", () => {});`],
  ])("words: %s", (path, text) => {
    expect(wordViolations(at(path, `first line\n${text}`))).toEqual([expect.stringContaining(`${path}:2`)]);
  });

  test("registry: a missing, a wrong, a retired and a doubled number", () => {
    const page = parseRegistry(
      "## Frames (`wire/x.ts T`)\n\n| 0x01 | `a` | x |\n| `7` | `gone` | x |\n\n## Other\n\n| 9 | `no` |\n",
    );
    expect(page).toEqual(
      new Map([
        [
          "wire/x.ts T",
          new Map([
            ["a", 1],
            ["gone", 7],
          ]),
        ],
      ]),
    );
    const inCode = (numbers: Record<string, number>) =>
      new Map([["wire/x.ts T", new Map(Object.entries(numbers))]]);
    expect(registryViolations(inCode({ a: 1, gone: 7 }), page)).toEqual([]);
    expect(registryViolations(inCode({ a: 2, gone: 7 }), page)).toHaveLength(1);
    expect(registryViolations(inCode({ a: 1 }), page)).toHaveLength(1);
    expect(registryViolations(inCode({ a: 1, gone: 7, fresh: 3 }), page)).toHaveLength(1);
    const doubled = parseRegistry("## `wire/x.ts T`\n| 1 | `a` |\n| 1 | `b` |\n");
    expect(registryViolations(inCode({ a: 1, b: 1 }), doubled)).toEqual(["wire/x.ts T uses a number twice"]);
  });
});
