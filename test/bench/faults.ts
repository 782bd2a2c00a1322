/**
 * Rows 2, 3 and 5: how long nothing arrives when a link goes down, when a relay freezes, when it is killed and started
 * again. Something small goes every 10 ms, a transient message of Godwit's and a datagram over the peers; the outage
 * lasts until the first one arrives that was sent after the fault.
 */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, type Contestant, type Sample, type Turns } from "./contest.ts";
import { addToHosts } from "./godwit-hosts.ts";
import { UdpTicks, untilPing } from "./ip-probe.ts";
import { Hosts, type Host } from "./namespaces.ts";
import { makeBabeld } from "./peers/babeld.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { idOf, routesOf, Traffic, untilWhole, type Ticks } from "./probe.ts";

const NODES = 10;
const EVERY_MS = 10;
/** Yggdrasil was not back after 212 s once; nobody waits so long here. */
const OUTAGE_MAX_MS = 45_000;
/** A fault on links that just came up measures something else. */
const SETTLE_MS = 4_000;
const WAY_MS = 120_000;
const LOOK_MS = 100;
/** So long the way round is used although the short one is there again, until that is how things are. */
const BACK_MS = 40_000;
/**
 * Ten nodes on two cores measure their links as slow as the scheduler is, so that the long way round may look as cheap
 * as the direct one. A fixed cost for each hop makes the direct way the one that is used before the fault.
 */
const EXTRA = '[routing]\nhop_cost = "5ms"';

/** What a fault is done to, whoever runs there. */
interface Mesh {
  readonly hosts: Hosts;
  ticks(from: Host, to: Host): Promise<Ticks>;
  /** Over which of `ways` goes what `from` says to `to` while ticks go, if over one of them. */
  wayNow(from: Host, to: Host, ways: readonly Host[]): Promise<Host | undefined>;
  signal(host: Host, name: "SIGSTOP" | "SIGCONT"): void;
  /** Ends the process with SIGKILL; resolves when it is gone. */
  kill(host: Host): Promise<void>;
  start(host: Host): Promise<void>;
  close(): Promise<void>;
}

type OpenMesh = (hosts: Hosts) => Promise<Mesh>;

async function openGodwit(hosts: Hosts): Promise<Mesh> {
  const lab = await Lab.create();
  const nodes = await addToHosts(lab, hosts, { extra: EXTRA });
  await Promise.all(nodes.map((node) => node.start(30_000)));
  await untilWhole(nodes);
  const at = (host: Host): LabNode => nodes[host.index]!;
  return {
    hosts,
    ticks: (from, to) => Traffic.start(at(from), at(to), EVERY_MS),
    async wayNow(from, to, ways) {
      const hop = (await routesOf(at(from))).find(({ callsign }) => callsign === at(to).callsign)?.next_hop;
      for (const next of ways) if (hop === (await idOf(at(next)))) return next;
      return undefined;
    },
    signal: (host, name) => at(host).signal(name),
    kill: (host) => at(host).kill("SIGKILL"),
    start: (host) => at(host).start(),
    close: () => lab.close(),
  };
}

/** Datagrams that must pass within the time they take, for a link to count as the one in use. */
const SEEN_MS = 300;
const SEEN_PACKETS = SEEN_MS / EVERY_MS / 2;

const openPeers =
  (make: MakeMesh): OpenMesh =>
  async (hosts) => {
    const { peers } = await make(hosts);
    await Promise.all(peers.map((peer) => peer.start()));
    const at = (host: Host) => peers[host.index]!;
    for (const host of hosts.all.slice(1)) await untilPing(hosts.all[0]!, at(host).address, WAY_MS);
    return {
      hosts,
      ticks: (from, to) => UdpTicks.start(at(from), at(to), EVERY_MS),
      async wayNow(from, _to, ways) {
        const packets = () => ways.map((next) => from.counters(hosts.port(from, next).net.device).packets);
        const before = packets();
        await Bun.sleep(SEEN_MS);
        const used = ways.filter((_, i) => packets()[i]! - before[i]! > SEEN_PACKETS);
        // Over two at once: neither is the one to cut.
        return used.length === 1 ? used[0] : undefined;
      },
      signal: (host, name) => at(host).daemon.signal(name),
      kill: (host) => at(host).daemon.kill(),
      start: (host) => at(host).start(),
      close: async () => {},
    };
  };

/** Does the fault, waits for the first arrival after it, and makes it good again. */
type Fault = (mesh: Mesh, next: Host) => Promise<{ heal(): Promise<void> | void }>;

interface Scene {
  readonly makeHosts: () => Hosts;
  /** Indices of the hosts: who talks, to whom. */
  readonly talkers: readonly [from: number, to: number];
  /** Over which neighbours of the first it may go; that over which it does go just then meets the fault. */
  readonly ways: readonly number[];
  readonly fault: Fault;
}

const turnsOf = (open: OpenMesh, { makeHosts, talkers, ways, fault }: Scene, note: (text: string) => void) =>
  (async (): Promise<Turns> => {
    const hosts = makeHosts();
    let mesh: Mesh | undefined;
    const close = async () => {
      await mesh?.close();
      await hosts.close();
    };
    try {
      await hosts.settle();
      mesh = await open(hosts);
    } catch (error) {
      await close();
      throw error;
    }
    const [from, to] = talkers.map((index) => hosts.all[index]!) as [Host, Host];
    /** Waits until it has gone the same way for a while, to the moment of the answer. */
    const steadyWay = async (): Promise<Host | undefined> => {
      const endMs = performance.now() + WAY_MS;
      const among = ways.map((index) => hosts.all[index]!);
      let steady: { readonly way: Host; readonly sinceMs: number } | undefined;
      while (performance.now() < endMs) {
        const way = await mesh.wayNow(from, to, among);
        const nowMs = performance.now();
        if (way === undefined || way !== steady?.way) steady = way && { way, sinceMs: nowMs };
        // Others than the first are a last resort: what it takes to be rid of them is another figure.
        else if (nowMs - steady.sinceMs >= (way === among[0] ? SETTLE_MS : BACK_MS)) return way;
        await Bun.sleep(LOOK_MS);
      }
      return undefined;
    };
    const run = async (): Promise<Sample> => {
      const ticks = await mesh.ticks(from, to);
      try {
        const next = await steadyWay();
        if (next === undefined) {
          note("no way is used that can meet the fault: a turn without a figure");
          return {};
        }
        await ticks.arrivals.after(performance.now(), WAY_MS);
        const faultMs = performance.now();
        const { heal } = await fault(mesh, next);
        // What was on its way arrives although the way is cut: it is later by what the fault took.
        const cutMs = performance.now();
        const endMs = await ticks.arrivals.after(cutMs, OUTAGE_MAX_MS).catch(() => {
          note(`nothing arrived for ${OUTAGE_MAX_MS} ms: counted as that`);
          return faultMs + OUTAGE_MAX_MS;
        });
        await heal();
        return { [next.index === ways[0] ? "outage" : "round"]: [endMs - faultMs] };
      } finally {
        ticks.stop();
      }
    };
    return { run, close };
  })();

const contestantsOf = (scene: Scene): Contestant[] => [
  { name: GODWIT, open: (note) => turnsOf(openGodwit, scene, note) },
  {
    name: "babeld",
    needs: ["babeld", "ping"],
    open: (note) => turnsOf(openPeers(makeBabeld), scene, note),
  },
  {
    name: "yggdrasil",
    needs: ["yggdrasil", "ping"],
    open: (note) => turnsOf(openPeers(makeYggdrasil), scene, note),
  },
];

const outage = (what: string, atMost: number) => ({
  outage: { what, unit: "ms", better: "less" as const, goal: { of: "p95" as const, atMost } },
  round: { what: `${what}, which was the way round: the short one is left`, unit: "ms" },
});

export const rerouteLink: Bench = contest({
  name: "reroute-link",
  row: 2,
  how:
    "ring of 10 namespaces; `ip link set down` on the link that what one of two neighbours says to the other goes over just then, so that the way round has 9 hops; " +
    "who keeps to the way round has the direct link left, which is a figure of its own. A turn in which no way is used has none",
  figures: outage("outage when the link in use goes down", 150),
  contestants: contestantsOf({
    makeHosts: () => Hosts.ring(NODES),
    talkers: [0, 1],
    ways: [1, NODES - 1],
    fault: async ({ hosts }, far) => {
      const near = hosts.all[0]!;
      const { net } = hosts.port(near, far);
      net.up(false);
      return { heal: () => net.up(true) };
    },
  }),
});

export const rerouteSilent: Bench = contest({
  name: "reroute-silent",
  row: 3,
  how: "ring of 10 namespaces; the relay between the two talkers freezes: SIGSTOP, and its kernel stops forwarding, which matters to babeld only; the way round has 8 hops",
  figures: outage("outage when the relay in use freezes (SIGSTOP)", 2_000),
  contestants: contestantsOf({
    makeHosts: () => Hosts.ring(NODES),
    talkers: [0, 2],
    ways: [1, NODES - 1],
    fault: async (mesh, relay) => {
      mesh.signal(relay, "SIGSTOP");
      relay.forwards(false);
      const heal = () => {
        relay.forwards(true);
        mesh.signal(relay, "SIGCONT");
      };
      return { heal };
    },
  }),
});

export const restart: Bench = contest({
  name: "restart",
  row: 5,
  how: "line A - B - C of namespaces; kill -9 of B and start at once. Routes that babeld left in the kernel go on working meanwhile",
  figures: outage("outage when the relay is killed and started at once", 100),
  contestants: contestantsOf({
    makeHosts: () => Hosts.line(3),
    talkers: [0, 2],
    ways: [1],
    fault: async (mesh, relay) => {
      await mesh.kill(relay);
      const started = mesh.start(relay);
      return { heal: () => started };
    },
  }),
});
