/** Links over Tor beside bare onion streams: the same private network, the same two daemons, one after the other in each run. */
import { join } from "node:path";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { NetLab } from "../../scripts/netlab.ts";
import { TorNet, whyNoTorNet } from "../tor/tor-net.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { type Cost, costMeasures, meter, perUnit } from "./process.ts";
import type { BareFigures } from "./tor-bare.ts";

const PROBES = 50;
const PAUSE_MS = 40;
const BODY_BYTES = 8 * 2 ** 20;
const PORTS = [
  { socks: 9050, control: 9051 },
  { socks: 9150, control: 9151 },
] as const;

async function bootstrapped(log: () => string): Promise<void> {
  const endMs = performance.now() + 120_000;
  while (!log().includes("Bootstrapped 100%")) {
    if (performance.now() > endMs) throw new Error("the private Tor network did not come up");
    await Bun.sleep(100);
  }
}

async function linkFigures(
  a: LabNode,
  b: LabNode,
): Promise<{ rtts: number[]; unanswered: number; megabits: number; cost: Cost }> {
  const rtts: number[] = [];
  let unanswered = 0;
  for (let i = 0; i < PROBES; i++) {
    const { rtt_ms: ms } = await a.json<{ rtt_ms: number | null }>(`/mesh/trace/${b.callsign}`, {
      method: "POST",
    });
    if (ms === null) unanswered++;
    else rtts.push(ms);
    // A node answers 200 questions of traces a second, and each trace asks several.
    await Bun.sleep(PAUSE_MS);
  }
  const cost = meter(a.pid!, b.pid!);
  const startedMs = performance.now();
  const ids: string[] = [];
  const piece = new Uint8Array(2 ** 20);
  for (let sent = 0; sent < BODY_BYTES; sent += piece.length)
    ids.push(await a.sendBytes(piece, { to: b.callsign }));
  for (const one of ids)
    await a.until(
      "its receipt",
      async () => (await a.json<{ state: string }>(`/messages/${one}`)).state === "delivered",
      120_000,
      10,
    );
  const megabits = (BODY_BYTES * 8) / 1_000 / (performance.now() - startedMs);
  return { rtts, unanswered, megabits, cost: perUnit(cost(), ids.length) };
}

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const why = whyNoTorNet();
  if (why !== undefined) throw new Error(why);
  const [linkRtt, lost, bareRtt, linkRate, bareRate]: number[][] = [[], [], [], [], []];
  const costs: Cost[] = [];
  const net = NetLab.create();
  const host = net.host("tor");
  const tor = new TorNet(host);
  const lab = await Lab.create();
  try {
    tor.start();
    await tor.ready();
    const daemons = PORTS.map((ports, n) => tor.client(`daemon${n}`, ports));
    for (const daemon of daemons) daemon.start();
    await Promise.all(daemons.map((daemon) => bootstrapped(() => daemon.log)));
    const nodes = await Promise.all(
      PORTS.map(({ socks, control }, n) =>
        lab.add({
          callsign: `TOR-${"AB"[n]}`,
          namespace: host.namespace,
          listen: [],
          extra: `[transports.tor]\ntype = "tor"\nsocks = "127.0.0.1:${socks}"\ncontrol = "127.0.0.1:${control}"\n`,
        }),
      ),
    );
    const [a, b] = nodes as [LabNode, LabNode];
    await Promise.all([a.start(), b.start()]);
    const onion = async () =>
      (await b.json<{ transports: { listen: string[] }[] }>("/mesh/status")).transports.flatMap(
        ({ listen }) => listen,
      )[0];
    await b.until("its onion address", async () => (await onion()) !== undefined, 60_000);
    await a.configure([(await onion())!]);
    await a.json("/reload", { method: "POST" });
    await a.until(
      "the link",
      async () => (await a.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected === 1,
      60_000,
    );
    for (let i = 0; i < runs; i++) {
      const link = await linkFigures(a, b);
      costs.push(link.cost);
      linkRtt!.push(...link.rtts);
      lost!.push(link.unanswered);
      linkRate!.push(link.megabits);
      const output = host.exec(process.execPath, join(root, "test/bench/tor-bare.ts"), JSON.stringify(PORTS));
      const bare = JSON.parse(output) as BareFigures;
      bareRtt!.push(...bare.rttsMs);
      bareRate!.push(bare.megabits);
      note(`tor ${i + 1}/${runs}`);
    }
  } finally {
    await lab.close();
    await tor.close();
    await net.close();
  }
  return [
    { what: "round trip, link over an onion address", unit: "ms", values: linkRtt! },
    { what: `traces without an answer, of ${PROBES}`, unit: "", values: lost! },
    { what: "round trip, bare onion stream", unit: "ms", values: bareRtt! },
    {
      what: "durable messages of 1 MiB over the link, until the last receipt",
      unit: "Mbit/s",
      values: linkRate!,
    },
    ...costMeasures("both nodes", "one of those", costs),
    { what: "bare onion stream, 8 MiB", unit: "Mbit/s", values: bareRate! },
  ];
}

export const tor: Bench = {
  name: "tor",
  row: 0,
  how: "private network of 4 authorities and 2 daemons on one machine; POST /mesh/trace, then 8 messages of 1 MiB; beside it bytes through a stream of the same daemons",
  run,
};
