/** `@godwit/sdk` as a package of its own: its tarball installed into an empty folder, and the plugins of its README at work. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, run } from "../../scripts/lib.ts";

let folder: string;
let packed: string[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "godwit-sdk-"));
  const { output } = await fine(["pm", "pack", "--destination", folder], join(root, "sdk"));
  packed = output.split("\n").flatMap((line) => /^packed \S+ (\S+)$/.exec(line)?.[1] ?? []);
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "outside", type: "module" }));
  const types = JSON.parse(await readFile(join(root, "node_modules/@types/bun/package.json"), "utf8")) as {
    version: string;
  };
  await fine(["add", "./godwit-sdk-0.1.0.tgz", `@types/bun@${types.version}`], folder);
  await writeFile(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "ESNext",
        module: "Preserve",
        moduleResolution: "bundler",
        lib: ["ESNext"],
        types: ["bun"],
        strict: true,
        noUncheckedIndexedAccess: true,
        exactOptionalPropertyTypes: true,
        noPropertyAccessFromIndexSignature: true,
        verbatimModuleSyntax: true,
        allowImportingTsExtensions: true,
        skipLibCheck: false,
        noEmit: true,
      },
    }),
  );
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

async function fine(words: readonly string[], cwd: string) {
  const ran = await run([process.execPath, ...words], { cwd, timeoutMs: 90_000 });
  expect([words[0], ran.code, ran.code === 0 ? "" : ran.output]).toEqual([words[0], 0, ""]);
  return ran;
}

test("the tarball holds what it needs and no source, test or key", () => {
  for (const path of [
    "package.json",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "dist/src/index.js",
    "dist/src/index.d.ts",
    "dist/testkit/index.d.ts",
  ])
    expect(packed).toContain(path);
  expect(
    packed.filter((path) => !/^(dist\/|package\.json|README\.md|CHANGELOG\.md|LICENSE)/.test(path)),
  ).toEqual([]);
  expect(packed.filter((path) => /\.test\.|(?<!\.d)\.ts$/.test(path))).toEqual([]);
});

test("plugins of the README are type-checked and run against the installed package", async () => {
  const readme = await readFile(join(root, "sdk/README.md"), "utf8");
  const plugins = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)]
    .map(([, block]) => block!)
    .filter((block) => block.includes("export default definePlugin"));
  const ids = await Promise.all(
    plugins.map(async (text) => {
      const id = /id: "([a-z-]+)"/.exec(text)![1]!;
      await writeFile(join(folder, `${id}.ts`), text);
      return id;
    }),
  );
  // Each of them stands below.
  expect(ids.toSorted()).toEqual(["board", "forget-keys", "frost-watch", "greeter", "thermometer"]);
  await writeFile(
    join(folder, "readme.test.ts"),
    `import { expect, test } from "bun:test";
import { consumerConformance, healActionConformance, pagesConformance, providerConformance, serviceConformance } from "@godwit/sdk/testkit";
import { SDK_VERSION, z } from "@godwit/sdk";
import { Tcp } from "@godwit/sdk/tcp";
import board from "./board.ts";
import greeter from "./greeter.ts";
import forget from "./forget-keys.ts";
import thermometer from "./thermometer.ts";
import frost from "./frost-watch.ts";

test("entry points", () => {
  expect([SDK_VERSION, typeof Tcp, z.string().parse("x")]).toEqual(["0.1.0", "function", "x"]);
});
serviceConformance({
  name: "greeter",
  setup: () => ({ plugin: greeter, config: { greeting: "Hello" }, badConfigs: [{ greeting: 1 }] }),
});
pagesConformance({
  name: "board",
  setup: () => ({ plugin: board, config: {}, pages: [{ path: "/" }, { path: "/waiting" }] }),
});
healActionConformance({
  name: "forget-keys",
  setup: () => ({
    plugin: forget,
    config: { keep: 1 },
    action: "forget-keys",
    async trouble(host) {
      for (const key of ["a", "b"]) await host.storage.set(key, new Uint8Array(1));
    },
    isHealed: async (host) => (await host.storage.keys()).length <= 1,
  }),
});
providerConformance({
  name: "thermometer",
  setup: () => ({ plugin: thermometer, config: {}, service: "temperature", requests: [{ ask: "now" }] }),
});
consumerConformance({
  name: "frost-watch",
  setup: () => ({
    plugin: frost,
    config: { to: "DUN-B" },
    service: "temperature",
    provider: () => ({ request: async () => ({ json: -1 }) }),
  }),
});
`,
  );
  await fine(["check", "--no-script", "--no-pretty"], folder);
  const { output } = await fine(["test"], folder);
  expect(output).toMatch(/\n 0 fail/);
}, 120_000);

test("config is typed from the schema: a wrong use does not pass the type checker", async () => {
  await writeFile(
    join(folder, "wrong.ts"),
    `import { definePlugin, z } from "@godwit/sdk";
export default definePlugin({
  id: "wrong",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: [],
  config: z.strictObject({ port: z.int() }),
  start(ctx, { port }) {
    const text: string = port;
    ctx.mesh.send({ to: text, body: new Uint8Array() });
  },
});
`,
  );
  const { code, output } = await run([process.execPath, "check", "--no-script", "--no-pretty", "wrong.ts"], {
    cwd: folder,
  });
  // The other test checks the whole folder.
  await rm(join(folder, "wrong.ts"));
  expect(code).not.toBe(0);
  expect(output).toContain("Type 'number' is not assignable to type 'string'");
  // A transport moves bytes and never sees a message.
  expect(output).toContain("'mesh' does not exist");
});
