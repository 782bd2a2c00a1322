/**
 * An outside author: an empty folder, the compiled binary, no Bun and no Node on the PATH, no network. What they do stands
 * in docs/plugin-authors.md, whose commands test/documented runs; here is what comes of them.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort, type LabNode } from "../../scripts/lab.ts";
import { AuthorLab, Lines, TRUST, trustLines, whyNoNamespace } from "./author-lab.ts";

const why = whyNoNamespace();
const suffix = why === undefined ? "" : ` [skipped: ${why}]`;
const MESSAGES = 60;
const STORY_MS = 200_000;

let lab: AuthorLab;
let gull: string;
let a: LabNode;
let b: LabNode;
let publisher = "";

beforeAll(async () => {
  if (why !== undefined) return;
  lab = await AuthorLab.create({ isOffline: true });
  gull = join(lab.folder, "gull");
});
afterAll(async () => {
  await lab?.close();
});

const edit = async (name: string, from: string | RegExp, to: string) => {
  const before = await readFile(join(gull, name), "utf8");
  const after = before.replace(from, to);
  expect(after).not.toBe(before);
  await writeFile(join(gull, name), after);
};
/** A command that has to succeed. */
const fine = async (words: string, cwd = gull, more: readonly string[] = []) => {
  const ran = await lab.godwit(words, cwd, more);
  expect([words, ran.code, ran.code === 0 ? "" : ran.err + ran.out]).toEqual([words, 0, ""]);
  return ran;
};
/** Each goes on from where the one before it ended, so all are one test. */
const steps: [what: string, run: () => Promise<void>][] = [];
const step = (what: string, run: () => Promise<void>) => steps.push([what, run]);
const on = (node: LabNode) => ["--config", node.configPath];

step("new, check and test: in an empty folder, offline", async () => {
  const offline = Bun.spawnSync([Bun.which("ip")!, "-n", lab.namespace!, "-br", "link"]);
  expect(offline.stdout.toString().trim().split("\n")).toHaveLength(1);
  await fine("plugin new gull --kind transport", lab.folder);
  expect((await lab.godwit("plugin new gull --kind transport", lab.folder)).err).toContain(
    "is there already",
  );
  expect((await fine("plugin docs", lab.folder)).out).toContain("Writing a plugin");
  expect((await fine("plugin docs permissions", lab.folder)).out).toContain("net.tcp.connect:PORT");
  await fine("plugin check");
  const { err } = await fine("plugin test");
  expect(err).toContain("transport conformance: gull");
  expect(err).toMatch(/\n 0 fail/);
});

step("a break is named by check and by test, and mended", async () => {
  const good = await readFile(join(gull, "index.ts"), "utf8");
  await edit("index.ts", "schemes: [SCHEME]", "schemes: SCHEME");
  const wrong = await lab.godwit("plugin check", gull);
  expect([wrong.code, wrong.out + wrong.err]).toEqual([
    1,
    expect.stringMatching(/index\.ts\(\d+,\d+\): error TS\d+/),
  ]);
  await writeFile(join(gull, "index.ts"), good);
  // It listens and keeps the port when it stops.
  await edit("index.ts", "ctx.own(() => tcp.close());", "");
  const broken = await lab.godwit("plugin test", gull);
  expect([broken.code, broken.err]).toEqual([1, expect.stringContaining("stopped: sockets are closed")]);
  await writeFile(join(gull, "index.ts"), good);
  const tests = await readFile(join(gull, "index.test.ts"), "utf8");
  await writeFile(
    join(gull, "index.test.ts"),
    'import { test } from "bun:test";\ntest("nothing", () => {});\n',
  );
  const untested = await lab.godwit("plugin test", gull);
  expect([untested.code, untested.err]).toEqual([1, expect.stringContaining("transportConformance")]);
  const unpacked = await lab.godwit("plugin pack", gull);
  expect([unpacked.code, unpacked.err]).toEqual([1, expect.stringContaining("transportConformance")]);
  await writeFile(join(gull, "index.test.ts"), tests);
  await fine("plugin test");
});

step("dev: three nodes, anew at a save, and a mistake leaves what ran", async () => {
  const child = lab.spawn(["plugin", "dev", "--trust", TRUST], gull);
  try {
    const lines = new Lines(child.stdout);
    let at = await lines.until(/^transport "gull" 0\.1\.0 runs on a, b and c/);
    at = await lines.until(/^a message went a -> b -> c/, at);
    at = await lines.until(/^waiting for changes/, at);
    const good = await readFile(join(gull, "index.ts"), "utf8");
    await writeFile(join(gull, "index.ts"), good.replace("start(ctx", 'start(ctx", '));
    at = await lines.until(/^! .*cannot bundle/, at);
    at = await lines.until(/keep what they had/, at);
    await writeFile(
      join(gull, "index.ts"),
      good.replace("const tcp", 'ctx.log.warn("saved");\n    const tcp'),
    );
    at = await lines.until(/^c {2}.*saved/, at);
    at = await lines.until(/^a message went a -> b -> c/, at);
    await writeFile(join(gull, "index.ts"), good);
    await lines.until(/^a message went a -> b -> c/, at);
  } finally {
    child.kill("SIGTERM");
  }
  expect(await child.exited).toBe(0);
});

step("pack, and add to a running node: it carries traffic between two real nodes", async () => {
  publisher = /publisher (\w{52})/.exec((await fine("plugin pack")).out)![1]!;
  const shown = (await fine("plugin inspect gull-0.1.0.gwp")).out;
  expect(shown).toContain(publisher);
  expect(shown).toContain("asks for net.tcp");
  const port = freePort();
  const table = (listen: string) =>
    `[transports.gull]\ntype = "gull"\n${trustLines("net.tcp")}\nlisten = ${listen}\n`;
  a = await lab.node({ callsign: "GUL-A" });
  b = await lab.node({ callsign: "GUL-B", peers: [`gull://127.0.0.1:${port}`] });
  await Promise.all([a.start(), b.start()]);
  for (const node of [a, b]) {
    const stranger = await lab.godwit("plugin add gull-0.1.0.gwp", gull, on(node));
    expect([stranger.code, stranger.err]).toEqual([1, expect.stringContaining("is not trusted here")]);
    await fine(`plugin trust ${publisher}`, gull, on(node));
    await fine("plugin add gull-0.1.0.gwp", gull, on(node));
    expect((await fine("plugin list", gull, on(node))).out).toMatch(/gull +0\.1\.0 +transport/);
    await node.reconfigure({ extra: table(node === a ? `["127.0.0.1:${port}"]` : "[]") });
    await fine("config check", gull, on(node));
    await fine("reload", gull, on(node));
  }
  await b.until("the link over the plugin", async () => (await schemes(b)).join() === "gull", 20_000);
  expect((await fine("plugin list --running", gull, on(a))).out).toContain("gull");
  expect((await fine("health", gull, on(a))).out).toContain("gull");
  const id = await a.send({ to: "GUL-B", body: "over a stranger's transport" });
  await a.until("the receipt", async () => (await stateOf(a, id)) === "delivered", 20_000);
});

step("a new version takes over while messages flow, and none is lost or doubled", async () => {
  await edit("godwit-plugin.json", '"version": "0.1.0"', '"version": "0.2.0"');
  await edit("index.ts", "const tcp", 'ctx.log.warn("second version");\n    const tcp');
  await fine("plugin pack");
  const ids: string[] = [];
  const sender = { isBusy: true };
  const sending = (async () => {
    while (ids.length < MESSAGES || sender.isBusy) {
      ids.push(await a.send({ to: "GUL-B", body: `number ${ids.length}` }));
      await Bun.sleep(10);
    }
  })();
  for (const node of [b, a]) {
    await fine("plugin add gull-0.2.0.gwp", gull, on(node));
    const { out } = await fine("reload", gull, on(node));
    expect(out).toContain("gull");
  }
  await a.until("the new code to run", async () => a.logTail.includes("second version"), 10_000);
  sender.isBusy = false;
  await sending;
  await a.until(
    "every receipt",
    async () => (await a.box<{ state: string }>("outbox")).every(({ state }) => state === "delivered"),
    60_000,
  );
  const inbox = (await b.box<{ id: string }>("inbox")).map(({ id }) => id);
  expect(new Set(inbox).size).toBe(inbox.length);
  expect(ids.filter((id) => !inbox.includes(id))).toEqual([]);
});

step("remove: the table first, then the plugin; the node runs on", async () => {
  for (const node of [a, b]) {
    await node.reconfigure({ extra: "" });
    await fine("reload", gull, on(node));
    await fine("plugin remove gull", gull, on(node));
    expect((await fine("plugin list", gull, on(node))).out).toStartWith("no plugins are installed");
  }
  await a.until("the link to go", async () => (await schemes(a)).length === 0, 20_000);
  expect((await a.json<{ status: string }>("/health")).status).toBe("ok");
  expect(existsSync(join(a.stateDir, "plugins/gull"))).toBe(false);
  expect([...a.errorLines, ...b.errorLines]).toEqual([]);
});

test.skipIf(why !== undefined)(
  `an afternoon of an author who has only the binary${suffix}`,
  async () => {
    for (const [what, run] of steps) {
      const startedMs = performance.now();
      try {
        await run();
      } catch (error) {
        console.error(`at the step: ${what}`);
        throw error;
      }
      console.log(`  ${((performance.now() - startedMs) / 1_000).toFixed(1)} s  ${what}`);
    }
  },
  STORY_MS,
);

async function schemes(node: LabNode): Promise<string[]> {
  const { peers } = await node.json<{ peers: { links: { address: string }[] }[] }>("/mesh/peers");
  return peers.flatMap(({ links }) => links.map(({ address }) => address.replace(/:\/\/.*/, "")));
}

const stateOf = async (node: LabNode, id: string): Promise<string> =>
  (await node.json<{ state: string }>(`/messages/${id}`)).state;
