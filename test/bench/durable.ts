/**
 * Row 12: durable messages of 512 bytes. They come in over the unix socket of the source's API, many connections at
 * once, see http-client.ts.
 */
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { GODWIT, quantile, type Bench } from "./bench.ts";
import { contest, separateTurns, type Figure, type Sample } from "./contest.ts";
import { HttpClient, type Answered } from "./http-client.ts";
import { follow, idOf, metricOf, untilWhole } from "./probe.ts";
import { type Cost, costFigures, costSample, cpuMs, meter } from "./process.ts";

const BODY_BYTES = 512;
const MESSAGES = 10_000;
const CONNECTIONS = 128;
/** Messages in one request, and such requests at once, of the figure of many in one. */
const BATCH = 500;
const BATCHES_AT_ONCE = 4;
/** Offered load of the latency figure. */
const PACED_PER_SECOND = 500;
const PACED_MESSAGES = 2_000;
/** One at a time: how many, and the pause before each. */
const LONE_MESSAGES = 200;
const LONE_EVERY_MS = 20;
const TIMEOUT_MS = 120_000;

interface Accepted extends Answered {
  readonly id: string;
}

async function post(client: HttpClient, request: Buffer): Promise<Accepted> {
  const answered = await client.ask(request);
  const id = answered.text.startsWith("HTTP/1.1 202")
    ? /"id":"([0-9a-f]+)"/.exec(answered.text)?.[1]
    : undefined;
  if (id === undefined) throw new Error(`POST /messages: ${answered.text.slice(0, 400)}`);
  return { ...answered, id };
}

function requestFor(to: string): Buffer {
  const body = Buffer.alloc(BODY_BYTES, "x");
  const head =
    `POST /messages?to=${to} HTTP/1.1\r\nhost: godwit\r\ncontent-type: application/octet-stream\r\n` +
    `content-length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), body]);
}

interface Burst {
  readonly acceptedPerSecond: number;
  readonly deliveredPerSecond: number;
  readonly acceptMs: readonly number[];
  /** Of each node on the way. */
  readonly costs: readonly Cost[];
}

/** As fast as it goes: `MESSAGES` messages, until the last signed receipt is back. */
async function burst(nodes: readonly LabNode[]): Promise<Burst> {
  const [source, target] = [nodes[0]!, nodes.at(-1)!];
  const request = requestFor(await idOf(target));
  const client = await HttpClient.open(source.socketPath, CONNECTIONS);
  try {
    const meters = nodes.map((node) => meter(node.pid!));
    const startMs = performance.now();
    const answers = await Promise.all(Array.from({ length: MESSAGES }, () => post(client, request)));
    const acceptedMs = Math.max(...answers.map(({ answeredMs }) => answeredMs)) - startMs;
    await untilReceipts(source);
    const deliveredMs = performance.now() - startMs;
    const costs = meters.map((cost) => cost());
    return {
      acceptedPerSecond: MESSAGES / (acceptedMs / 1_000),
      deliveredPerSecond: MESSAGES / (deliveredMs / 1_000),
      acceptMs: answers.map(({ sentMs, answeredMs }) => answeredMs - sentMs),
      costs,
    };
  } finally {
    client.close();
  }
}

/** As fast as it goes with many messages in a request: accepted a second, and processor time of the source until the last receipt. */
async function batched(nodes: readonly LabNode[]): Promise<{ perSecond: number; cpuUs: number }> {
  const [source, target] = [nodes[0]!, nodes.at(-1)!];
  const line = `${JSON.stringify({ to: await idOf(target), body: "x".repeat(BODY_BYTES) })}\n`;
  const body = line.repeat(BATCH);
  const headers = { "content-type": "application/x-ndjson" };
  // Releases before take one message at a time.
  const { status } = await source.api("/messages", { method: "POST", headers, body: line });
  if (status === 400) return { perSecond: Number.NaN, cpuUs: Number.NaN };
  let left = MESSAGES / BATCH;
  const cpuBefore = cpuMs(source.pid!);
  const startMs = performance.now();
  const postAll = async () => {
    while (left-- > 0) {
      const response = await source.api("/messages", { method: "POST", headers, body });
      const text = await response.text();
      if (response.status !== 207 || text.match(/"id":/g)?.length !== BATCH)
        throw new Error(`POST /messages: ${response.status} ${text.slice(0, 400)}`);
    }
  };
  await Promise.all(Array.from({ length: BATCHES_AT_ONCE }, postAll));
  const perSecond = MESSAGES / ((performance.now() - startMs) / 1_000);
  await untilReceipts(source);
  return { perSecond, cpuUs: ((cpuMs(source.pid!) - cpuBefore) * 1_000) / MESSAGES };
}

const untilReceipts = (source: LabNode): Promise<void> =>
  source.until(
    "all receipts",
    async () => (await metricOf(source, "godwit_queue_messages")) === 0,
    TIMEOUT_MS,
    20,
  );

/** At a steady rate: from the API's answer (it is durable) to the event at the far end (it is durable there). */
async function paced(nodes: readonly LabNode[]): Promise<number[]> {
  const [source, target] = [nodes[0]!, nodes.at(-1)!];
  const request = requestFor(await idOf(target));
  const client = await HttpClient.open(source.socketPath, CONNECTIONS);
  const arrivedMs = new Map<string, number>();
  const events = await follow(target, "message", ({ type, data, atMs }) => {
    if (type === "message.received") arrivedMs.set(String(data["id"]), atMs);
  });
  try {
    const posts: Promise<Accepted>[] = [];
    const startMs = performance.now();
    while (posts.length < PACED_MESSAGES) {
      const due = Math.min(PACED_MESSAGES, ((performance.now() - startMs) / 1_000) * PACED_PER_SECOND);
      while (posts.length < due) posts.push(post(client, request));
      await Bun.sleep(1);
    }
    const answers = await Promise.all(posts);
    await target.until("all arrivals", async () => arrivedMs.size >= PACED_MESSAGES, TIMEOUT_MS, 20);
    return answers.map(({ id, askedMs }) => (arrivedMs.get(id) ?? Number.NaN) - askedMs);
  } finally {
    events.close();
    client.close();
  }
}

/** One after the other on a mesh that does nothing else: from POST to the event at the far end, ms. */
async function alone(nodes: readonly LabNode[]): Promise<number[]> {
  const [source, target] = [nodes[0]!, nodes.at(-1)!];
  const request = requestFor(await idOf(target));
  const client = await HttpClient.open(source.socketPath, 1);
  let arrived: (atMs: number) => void = () => {};
  const events = await follow(target, "message", ({ type, atMs }) => {
    if (type === "message.received") arrived(atMs);
  });
  try {
    const times: number[] = [];
    while (times.length < LONE_MESSAGES) {
      await Bun.sleep(LONE_EVERY_MS);
      const arrival = new Promise<number>((resolve) => (arrived = resolve));
      const { askedMs } = await post(client, request);
      times.push((await arrival) - askedMs);
    }
    return times;
  } finally {
    events.close();
    client.close();
  }
}

async function runOver(hops: number, sample: Record<string, readonly number[]>): Promise<void> {
  const lab = await Lab.create();
  try {
    const nodes: LabNode[] = [];
    for (let j = 0; j <= hops; j++)
      nodes.push(
        await lab.add({
          callsign: `DUR-${j}`,
          peers: j === 0 ? [] : [nodes[j - 1]!.endpoint],
          // By default one sender may fill half of an inbox of 10,000.
          extra: "[delivery]\ninbox_messages_max = 1000000",
        }),
      );
    await Promise.all(nodes.map((node) => node.start()));
    await untilWhole(nodes);
    sample[`latency${hops}`] = [quantile(await paced(nodes), 0.99) / hops];
    const result = await burst(nodes);
    sample[`accepted${hops}`] = [result.acceptedPerSecond];
    sample[`delivered${hops}`] = [result.deliveredPerSecond];
    sample[`api${hops}`] = [quantile(result.acceptMs, 0.99)];
    for (const [i, cost] of result.costs.entries())
      Object.assign(
        sample,
        costSample(`${hops}${i === 0 ? "source" : i === hops ? "end" : "far"}`, cost, MESSAGES),
      );
    if (hops > 1) {
      const times = await alone(nodes);
      sample["lone50"] = [quantile(times, 0.5)];
      sample["lone99"] = [quantile(times, 0.99)];
      return;
    }
    const { perSecond, cpuUs } = await batched(nodes);
    sample["batched"] = [perSecond];
    sample["batchedcpu"] = [cpuUs];
  } finally {
    await lab.close();
  }
}

async function runGodwit(): Promise<Sample> {
  const sample: Record<string, readonly number[]> = {};
  for (const hops of [1, 2]) await runOver(hops, sample);
  return sample;
}

const NNCP_MESSAGES = 300;
/** Processes at once that hand a message over; more were not faster on two cores. */
const NNCP_JOBS = 2;
/** What the kernel counts for a program in (getrusage). */
const BLOCK_BYTES = 512;

/** Two NNCP nodes of one machine; a process for each message, then one that moves all and one that unpacks all. */
async function runNncp(): Promise<Sample> {
  const dir = await mkdtemp(join(tmpdir(), "godwit-bench-nncp-"));
  // Of all processes since it was set to nothing. Their peak is not told: the kernel counts what they were before exec, a copy of this process.
  let paid = { cpuMs: 0, written: 0, peakMb: Number.NaN };
  const ran = async (...argv: string[]) => {
    const child = Bun.spawn(argv, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const [out, error] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    if ((await child.exited) !== 0) throw new Error(`${argv.join(" ")}: ${error}`);
    const { cpuTime, ops } = child.resourceUsage()!;
    paid.cpuMs += Number(cpuTime.total) / 1_000;
    paid.written += ops.out * BLOCK_BYTES;
    return out;
  };
  try {
    const keys = await Promise.all([0, 1].map(() => ran("nncp-cfgnew", "-nocomments")));
    const field = (of: number, name: string) => new RegExp(`${name}: (\\w+)`).exec(keys[of]!)![1]!;
    const [inbox, carrier] = [join(dir, "inbox"), join(dir, "carrier")];
    for (const path of [inbox, carrier]) await mkdir(path);
    const publicParts = ["id", "exchpub", "signpub"];
    for (const of of [0, 1]) {
      const parts = (who: number, names: readonly string[]) =>
        Object.fromEntries(names.map((name) => [name, field(who, name)]));
      const self = parts(of, [...publicParts, "exchprv", "signprv", "noiseprv", "noisepub"]);
      const far = { ...parts(1 - of, publicParts), incoming: inbox };
      const spool = join(dir, `spool-${of}`);
      await mkdir(spool);
      await writeFile(
        join(dir, `${of}.hjson`),
        JSON.stringify({
          spool,
          log: join(spool, "log"),
          self,
          neigh: { self: parts(of, publicParts), far },
        }),
      );
    }
    const body = join(dir, "body");
    await writeFile(body, Buffer.alloc(BODY_BYTES, "x"));
    const [source, target] = [join(dir, "0.hjson"), join(dir, "1.hjson")];
    paid = { cpuMs: 0, written: 0, peakMb: Number.NaN };
    const startMs = performance.now();
    let given = 0;
    const job = async () => {
      while (given < NNCP_MESSAGES)
        await ran("nncp-file", "-quiet", "-cfg", source, body, `far:message-${given++}`);
    };
    await Promise.all(Array.from({ length: NNCP_JOBS }, job));
    const acceptedMs = performance.now() - startMs;
    const source1 = paid;
    paid = { cpuMs: 0, written: 0, peakMb: Number.NaN };
    await ran("nncp-xfer", "-quiet", "-cfg", source, "-mkdir", "-tx", carrier);
    await ran("nncp-xfer", "-quiet", "-cfg", target, "-rx", carrier);
    await ran("nncp-toss", "-quiet", "-cfg", target);
    const deliveredMs = performance.now() - startMs;
    const arrived = (await readdir(inbox)).length;
    if (arrived !== NNCP_MESSAGES) throw new Error(`${arrived} of ${NNCP_MESSAGES} messages arrived`);
    return {
      accepted1: [NNCP_MESSAGES / (acceptedMs / 1_000)],
      delivered1: [NNCP_MESSAGES / (deliveredMs / 1_000)],
      ...costSample("1source", source1, NNCP_MESSAGES),
      ...costSample("1end", paid, NNCP_MESSAGES),
    };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

const figures = (hops: 1 | 2): Readonly<Record<string, Figure>> => {
  const over = hops === 1 ? "1 hop" : "2 hops, through a relay";
  const goal = { of: "median", atLeast: 10_000 } as const;
  return {
    [`accepted${hops}`]: {
      what: `accepted (durable at the source), ${over}`,
      unit: "1/s",
      better: "more",
      goal,
    },
    [`delivered${hops}`]: {
      what: `delivered (Godwit: with signed receipt), ${over}`,
      unit: "1/s",
      better: "more",
      goal,
    },
    [`api${hops}`]: { what: `p99 of the API's answer under that load, ${over}`, unit: "ms" },
    [`latency${hops}`]: {
      what: `p99 per hop at ${PACED_PER_SECOND}/s, ${over}`,
      unit: "ms",
      goal: { of: "median", atMost: 30 },
    },
    ...costFigures(`${hops}source`, "the source", `a message, ${over}`),
    ...(hops === 1 ? {} : costFigures(`${hops}far`, "the relay", "a message")),
    ...costFigures(`${hops}end`, "the recipient", `a message, ${over}`),
  };
};

export const durable: Bench = contest({
  name: "durable",
  row: 12,
  how:
    `Godwit: ${MESSAGES} messages of 512 B over ${CONNECTIONS} connections to the source's unix socket; ${BATCHES_AT_ONCE} requests at once where there are ${BATCH} in one; hop: from POST to the event at the far end, divided by the hops; all nodes and stores on one machine and disk. ` +
    `NNCP: ${NNCP_MESSAGES} files of 512 B, one nncp-file process each (it fsyncs before it ends), ${NNCP_JOBS} at once; delivered: then nncp-xfer and nncp-toss, no receipt`,
  figures: {
    ...figures(1),
    batched: {
      what: `accepted with ${BATCH} messages in a request, 1 hop`,
      unit: "1/s",
      better: "more",
      goal: { of: "median", atLeast: 10_000 },
    },
    batchedcpu: { what: "processor time of the source for one of those, 1 hop", unit: "us" },
    ...figures(2),
    lone50: {
      what: "one message on an idle mesh, POST to the event, 2 hops: p50",
      unit: "ms",
      goal: { of: "median", atMost: 3 },
    },
    lone99: { what: "the same: p99", unit: "ms", goal: { of: "median", atMost: 8 } },
  },
  contestants: [
    { name: GODWIT, open: async () => separateTurns(runGodwit) },
    {
      name: "nncp",
      needs: ["nncp-cfgnew", "nncp-file", "nncp-xfer", "nncp-toss"],
      open: async () => separateTurns(runNncp),
    },
  ],
});
