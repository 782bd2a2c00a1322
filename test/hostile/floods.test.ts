/**
 * What a stranger costs: under each flood a dial-only member links within three seconds, `/health` answers within one, and mail
 * goes on. Four seconds of each here; a minute of each in flood-minute.long.ts. And a node whose descriptors are all taken.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { idOf } from "./flood.ts";
import { declareSieges, openCrowd } from "./siege.ts";

const FLOOD_MS = 4_000;
const HEALTH_MS_MAX = 1_000;
const SPIN_MS = 2_000;
/** Of what a program takes that spins. */
const APPETITE_MAX = 0.5;

declareSieges(FLOOD_MS, FLOOD_MS / 2);

let lab: Lab;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
}, 60_000);
afterAll(() => lab.close());

const limited = (descriptors: number) => [
  "/bin/sh",
  "-c",
  `ulimit -n ${descriptors}; exec "${binaryPath}" "$@"`,
  "godwit",
];
const ticksOf = (pid: number): number => {
  const [user, system] = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.split(" ").slice(11, 13);
  return Number(user) + Number(system);
};
/** Processor time that the node took while `work` was done, of what a program got that does nothing but take it. */
async function appetite(node: LabNode, work: () => Promise<unknown>): Promise<number> {
  const greedy = Bun.spawn([process.execPath, "-e", "for (;;);"]);
  try {
    const before = [ticksOf(node.pid!), ticksOf(greedy.pid)] as const;
    await work();
    return (ticksOf(node.pid!) - before[0]) / (ticksOf(greedy.pid) - before[1]);
  } finally {
    greedy.kill("SIGKILL");
    await greedy.exited;
  }
}
const saysShort = (text: string): boolean =>
  (JSON.parse(text) as { checks: { name: string }[] }).checks.some(({ name }) => name === "descriptors");
const isShort = async (node: LabNode): Promise<boolean> =>
  saysShort(await (await node.api("/health")).text());
const timesTold = (node: LabNode, event: string): number =>
  node.logLines.filter((line) => line.includes(`"event":"${event}"`)).length;

test("a node with 64 descriptors neither spins nor is silent while a crowd knocks, and is well by itself after it", async () => {
  const node = await lab.add({
    callsign: "NYC-C",
    command: limited(64),
  });
  await node.start();
  expect(await isShort(node)).toBe(false);
  const crowd = openCrowd({
    what: "connections",
    ports: [node.linkPort, node.apiPort],
    sources: 2,
    count: 400,
    perSecond: 400,
    say: "",
    ms: FLOOD_MS,
  });
  try {
    await node.until("the shortage to be told", () => isShort(node), FLOOD_MS);
    expect(await appetite(node, () => Bun.sleep(SPIN_MS))).toBeLessThan(APPETITE_MAX);
    expect(await isShort(node)).toBe(true);
    await crowd.exited;
    // Told while it lasts is how many there were, not how few are left of them: "80 of 256" reads as no shortage at all.
    const told = await (await node.api("/health")).text();
    expect(Number(/descriptors run out: (\d+) of 64 were in use/.exec(told)?.[1])).toBeGreaterThanOrEqual(48);
    await node.until("it to be over", async () => !(await isShort(node)), 15_000);
  } finally {
    crowd.kill("SIGKILL");
  }
  expect([timesTold(node, "descriptors run out"), timesTold(node, "descriptors free again")]).toEqual([1, 1]);
  await node.kill("SIGTERM");
}, 60_000);

/** What else runs in the process has taken all, or gives it back: the limit is where its last descriptor is. */
function limit(node: LabNode, soft: number, hard: number): void {
  const { exitCode } = Bun.spawnSync(["prlimit", `--pid=${node.pid!}`, `--nofile=${soft}:${hard}`]);
  expect(exitCode).toBe(0);
}

function lowestFree(node: LabNode): number {
  const held = new Set(readdirSync(`/proc/${node.pid!}/fd`).map(Number));
  let lowest = 0;
  while (held.has(lowest)) lowest++;
  return lowest;
}

/** Asks for health on a connection that is open already. */
async function keptConnection(port: number): Promise<{ ask(): Promise<string>; end(): void }> {
  const socket = await new Promise<Socket>((resolve, reject) => {
    const opened = createConnection(port, "127.0.0.1", () => resolve(opened));
    opened.once("error", reject);
  });
  return {
    ask: () =>
      new Promise((resolve) => {
        let heard = "";
        const onData = (bytes: Buffer) => {
          heard += bytes.toString("latin1");
          const [head, body] = heard.split("\r\n\r\n");
          const length = Number(/content-length: (\d+)/i.exec(head!)?.[1]);
          if (body === undefined || body.length < length) return;
          socket.off("data", onData);
          resolve(body);
        };
        socket.on("data", onData);
        socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
      }),
    end: () => socket.destroy(),
  };
}

test("a node whose last descriptor others hold does not spin in accept, says so once and is well when they are back", async () => {
  const HARD = 256;
  const node = await lab.add({ callsign: "OUT-D", command: limited(HARD) });
  await node.start();
  const kept = await keptConnection(node.apiPort);
  expect(saysShort(await kept.ask())).toBe(false);
  // Below every descriptor that it has: what it keeps in hand is of no use either.
  limit(node, 4, HARD);
  const ports = [node.linkPort, node.apiPort];
  const crowd = openCrowd({
    what: "connections",
    ...{ ports, sources: 2, count: 20, perSecond: 100, say: "", ms: 2 * FLOOD_MS },
  });
  try {
    await node.until("the shortage to be told", async () => saysShort(await kept.ask()), FLOOD_MS);
    let slowest = 0;
    const share = await appetite(node, async () => {
      for (const endMs = performance.now() + SPIN_MS; performance.now() < endMs; await Bun.sleep(100)) {
        const askedMs = performance.now();
        expect(saysShort(await kept.ask())).toBe(true);
        slowest = Math.max(slowest, performance.now() - askedMs);
      }
    });
    console.log(
      `without a descriptor: ${Math.round(share * 100)} % of a processor, health in ${slowest.toFixed(0)} ms`,
    );
    expect(share).toBeLessThan(APPETITE_MAX);
    expect(slowest).toBeLessThan(HEALTH_MS_MAX);
    limit(node, HARD, HARD);
    await node.until("it to be over", async () => !(await isShort(node)), 15_000);
  } finally {
    crowd.kill("SIGKILL");
    await crowd.exited;
    kept.end();
  }
  expect([timesTold(node, "descriptors run out"), timesTold(node, "descriptors free again")]).toEqual([1, 1]);
  await node.kill("SIGTERM");
}, 60_000);

test("where others hold all descriptors but the last few, whoever asks for its health still hears it", async () => {
  const HARD = 256;
  const node = await lab.add({ callsign: "LST-E", command: limited(HARD) });
  await node.start();
  limit(node, lowestFree(node) + 3, HARD);
  const shortMs = performance.now() + FLOOD_MS;
  const health = () =>
    fetch(`${node.apiUrl}/health`, {
      headers: { connection: "close" },
      signal: AbortSignal.timeout(500),
    }).then(
      (response) => response.text(),
      () => undefined,
    );
  let text: string | undefined;
  while ((text === undefined || !saysShort(text)) && performance.now() < shortMs) text = await health();
  expect(text !== undefined && saysShort(text)).toBe(true);
  expect(saysShort((await health())!)).toBe(true);
  await node.kill("SIGTERM");
}, 60_000);

test("whatever dials asks for a descriptor: the last are for links, the very last for nobody", async () => {
  let connections = 0;
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (socket) => void (connections++, socket.end()), data() {}, error() {} },
  });
  try {
    const run = Bun.spawn(
      [
        "/bin/sh",
        "-c",
        'ulimit -n 128; exec "$@"',
        "sh",
        ...[process.execPath, join(import.meta.dir, "shortage.ts"), `${server.port}`],
      ],
      { stdout: "pipe", stderr: "inherit" },
    );
    expect(JSON.parse(await new Response(run.stdout).text())).toEqual({
      room: [],
      links: ["plugin"],
      nobody: ["tcp", "websocket", "tor", "plugin"],
    });
    // Who was refused did not connect first.
    expect(connections).toBe(4 + 3);
  } finally {
    server.stop(true);
  }
}, 30_000);

/** NEA-R has a forward to a server that says everything again, through FAR-F. */
async function forwardToEcho(
  descriptors: number,
): Promise<{ near: LabNode; far: LabNode; port: number; stop(): void }> {
  const echo = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, bytes) => void socket.write(bytes), error() {} },
  });
  const near = await lab.add({ callsign: "NEA-R", folder: `near-${echo.port}` });
  await near.start();
  const far = await lab.add({
    callsign: "FAR-F",
    folder: `far-${echo.port}`,
    peers: [near.endpoint],
    command: limited(descriptors),
    extra: `[[forward_allow]]\nfrom = ["${await idOf(near)}"]\ntargets = ["127.0.0.1:*"]`,
  });
  await far.start();
  const knows = async () =>
    (await near.json<{ routes: { callsign: string | null }[] }>("/mesh/routes")).routes.some(
      ({ callsign }) => callsign === "FAR-F",
    );
  await near.until("a route to FAR-F", knows, 20_000);
  const { listen } = await near.json<{ listen: string }>("/forwards", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ listen: "127.0.0.1:0", to: "FAR-F", target: `127.0.0.1:${echo.port}` }),
  });
  const stop = () => echo.stop(true);
  return { near, far, port: Number(listen.split(":").at(-1)), stop };
}

/** What comes back of it, until the connection ends. */
const echoOf = (port: number, text: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = createConnection(port, "127.0.0.1", () => socket.write(text));
    let heard = "";
    socket.on("data", (bytes) => {
      heard += bytes.toString();
      if (heard.length >= text.length) socket.destroy();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(heard));
    socket.setTimeout(5_000, () => socket.destroy());
  });
const forwardOf = async (node: LabNode) =>
  (await node.json<{ forwards: { connections: number; last_error: string | null }[] }>("/forwards"))
    .forwards[0]!;

test("the target of a forward gets none of the last descriptors, and is there again when there are more", async () => {
  const { near, far, port, stop } = await forwardToEcho(256);
  try {
    expect(await echoOf(port, "before")).toBe("before");
    // Between what is for links and what is for targets.
    limit(far, lowestFree(far) + 8, 256);
    await far.until("the shortage to be told", () => isShort(far), FLOOD_MS);
    expect(await echoOf(port, "meanwhile")).toBe("");
    expect((await forwardOf(near)).last_error).toContain("too few descriptors");
    limit(far, 256, 256);
    await far.until("it to be over", async () => !(await isShort(far)), 15_000);
    expect(await echoOf(port, "after")).toBe("after");
  } finally {
    await Promise.all([near.kill("SIGTERM"), far.kill("SIGTERM")]);
    stop();
  }
}, 60_000);

test("what comes to a forward's port is counted at accept, by source: two that hold all its places with a byte each keep nobody out", async () => {
  const { near, far, port, stop } = await forwardToEcho(4_096);
  const crowd = openCrowd({
    what: "connections",
    ...{ ports: [port], sources: 2, count: 1_000, perSecond: 1_000, say: "x", ms: 2 * FLOOD_MS },
  });
  try {
    const isFull = async () => (await forwardOf(near)).connections >= 500;
    await near.until("the crowd to have every place", isFull, FLOOD_MS);
    const took: number[] = [];
    for (let i = 0; i < 5; i++) {
      const startedMs = performance.now();
      expect(await echoOf(port, "honest")).toBe("honest");
      took.push(Math.round(performance.now() - startedMs));
    }
    console.log(`through a forward whose places a crowd holds: ${took.join(", ")} ms`);
    expect(Math.max(...took)).toBeLessThan(3_000);
    expect((await forwardOf(near)).connections).toBeLessThanOrEqual(512);
  } finally {
    crowd.kill("SIGKILL");
    await crowd.exited;
    await Promise.all([near.kill("SIGTERM"), far.kill("SIGTERM")]);
    stop();
  }
}, 60_000);
