/**
 * The command line as people use it: the compiled binary on a real terminal, against real nodes in a line, of which one
 * is killed and starts again.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab, type LabNode } from "../../scripts/lab.ts";

let lab: Lab;
let a: LabNode;
let b: LabNode;
let c: LabNode;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  b = await lab.add({ callsign: "LON-B" });
  a = await lab.add({ callsign: "DUN-A", peers: [b.endpoint] });
  c = await lab.add({ callsign: "NYC-C", peers: [b.endpoint] });
  await Promise.all([a, b, c].map((node) => node.start()));
  await reachesC();
}, 60_000);
afterAll(() => lab?.close());

const reachesC = () =>
  a.until(
    "a route to NYC-C",
    async () => {
      const { routes } = await a.json<{ routes: { callsign: string | null }[] }>("/mesh/routes");
      return routes.some(({ callsign }) => callsign === "NYC-C");
    },
    30_000,
  );

const environment = () => ({ PATH: process.env["PATH"] ?? "", HOME: lab.dir, TERM: "xterm-256color" });

/** Into pipes. */
async function godwit(node: LabNode, ...words: string[]) {
  const child = Bun.spawn([binaryPath, ...words, "--socket", node.socketPath], {
    env: environment(),
    cwd: lab.dir,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { code: await child.exited, out, err };
}

/** On a terminal of its own, whose keys `type` presses. */
function onTerminal(node: LabNode, ...words: string[]) {
  let shown = "";
  let look = () => {};
  const child = Bun.spawn([binaryPath, ...words, "--socket", node.socketPath], {
    env: environment(),
    cwd: lab.dir,
    terminal: {
      cols: 80,
      rows: 24,
      data(_, bytes) {
        shown += Buffer.from(bytes).toString();
        look();
      },
    },
  });
  const until = async (what: RegExp | string) => {
    while (!(typeof what === "string" ? shown.includes(what) : what.test(shown)))
      await new Promise<void>((resolve) => (look = resolve));
  };
  return {
    type: (keys: string) => child.terminal!.write(keys),
    until,
    end: async () => {
      const code = await child.exited;
      child.terminal!.close();
      return { code, shown };
    },
  };
}

const CTRL_C = "\x03";

test("ping says the way of each answer; Ctrl-C ends it with the summary and 0", async () => {
  const ping = onTerminal(a, "ping", "NYC-C", "--interval", "100ms");
  await ping.until(/^2 {2}NYC-C \([a-z2-7]{10}\) {2}[\d.]+ ms {2}by LON-B\r$/m);
  ping.type(CTRL_C);
  const { code, shown } = await ping.end();
  expect(code).toBe(0);
  expect(shown).toMatch(
    /\n(\d+) sent, \1 answered; min \/ median \/ max [\d.]+ ms \/ [\d.]+ ms \/ [\d.]+ ms\r\n$/,
  );
  expect((await godwit(a, "ping", "LON-B", "--count", "1")).out).toMatch(/^1 {2}LON-B .* direct$/m);
});

test("--watch shows a node that is killed where it stood before, and gives the terminal back", async () => {
  const watch = onTerminal(a, "members", "--watch", "0.2");
  await watch.until(/LON-B +\S+alive/);
  const log = onTerminal(a, "logs", "-f", "--level", "info");
  await log.until("node started");
  await b.kill("SIGKILL");
  await watch.until(/LON-B +\S+(?:failed|suspect)/);
  watch.type(CTRL_C);
  const { code, shown } = await watch.end();
  expect(code).toBe(0);
  expect(shown).toContain("\x1b[32malive");
  expect(shown).toEndWith("\x1b[?25h");
  // Each picture goes up by as many lines as the one before has.
  expect(shown).toContain("\r\x1b[4A");
  await log.until(/info \S* link down .*goodbye/);
  log.type(CTRL_C);
  expect((await log.end()).code).toBe(0);
  const lost = await godwit(a, "ping", "NYC-C", "--count", "1");
  expect([lost.code, lost.out]).toEqual([1, expect.stringContaining("1 sent, 0 answered")]);
  await b.start();
  await reachesC();
}, 60_000);

test("logs -f goes on when the node is started again", async () => {
  const log = onTerminal(b, "logs", "-f");
  await log.until("node started");
  await b.kill("SIGTERM");
  await log.until("the node is away");
  await b.start();
  await log.until(/the node is away[^]*node started/);
  log.type(CTRL_C);
  expect((await log.end()).code).toBe(0);
  await reachesC();
}, 60_000);

interface Expiry {
  readonly expires_in_seconds: number;
  readonly expires_at: string;
}

test("mail to a name that nobody has says until when it waits, by the node's own count", async () => {
  const { code, out, err } = await godwit(a, "send", "NYCC", "hi", "--ttl", "2h");
  expect([code, out]).toEqual([0, expect.stringContaining("is queued")]);
  expect(err).toContain("nobody called NYCC has been heard of yet; did you mean NYC-C?");
  expect(err).toMatch(/expires in (?:2 h|120 min)/);
  const [{ expires_in_seconds: left, expires_at: at }] = (await a.box<Expiry>("outbox")) as [Expiry];
  expect(left).toBeGreaterThan(7_000);
  expect(left).toBeLessThanOrEqual(7_200);
  expect(Math.abs(Date.parse(at) - (Date.now() + left * 1_000))).toBeLessThan(5_000);
});

test("a file arrives under its name, and a finished message expires no more", async () => {
  writeFileSync(join(lab.dir, "Über uns.json"), '{"a":1}');
  const sent = await godwit(a, "send", "NYC-C", "--file", "Über uns.json", "--wait", "--json");
  expect(JSON.parse(sent.out)).toMatchObject({
    state: "delivered",
    expires_in_seconds: null,
    expires_at: null,
  });
  const [{ id }] = (await c.box<{ id: string }>("inbox")) as [{ id: string }];
  mkdirSync(join(lab.dir, "into"));
  expect((await godwit(c, "inbox", "read", id, "--save", "into")).out).toBe("into/Über uns.json\n");
  expect(readFileSync(join(lab.dir, "into", "Über uns.json"), "utf8")).toBe('{"a":1}');
});

test("init alone makes two nodes of one machine that link", async () => {
  const port = freePort();
  const init = async (name: string, ...words: string[]) => {
    const argv = [
      "init",
      "--config",
      `${name}.toml`,
      "--state-dir",
      name,
      "--callsign",
      `TWO-${name}`,
      ...words,
    ];
    const child = Bun.spawn([binaryPath, ...argv], { env: environment(), cwd: lab.dir, stdout: "ignore" });
    expect(await child.exited).toBe(0);
  };
  await init("x", "--listen", `127.0.0.1:${port}`, "--api", `127.0.0.1:${freePort()}`);
  await init("y", "--listen", `127.0.0.1:${freePort()}`, "--api", "off", "--peer", `tcp://127.0.0.1:${port}`);
  const nodes = ["x", "y"].map((name) =>
    Bun.spawn([binaryPath, "run", "--config", `${name}.toml`], {
      env: environment(),
      cwd: lab.dir,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    }),
  );
  try {
    const socketPath = join(lab.dir, "x", "godwit.sock");
    await a.until(
      "the two to link",
      async () => {
        const answer = await fetch("http://godwit/mesh/peers", { unix: socketPath });
        const { peers } = (await answer.json()) as { peers: { callsign: string; state: string }[] };
        return peers.some(({ callsign, state }) => callsign === "TWO-Y" && state === "connected");
      },
      30_000,
    );
  } finally {
    for (const node of nodes) node.kill();
    await Promise.all(nodes.map((node) => node.exited));
  }
}, 60_000);
