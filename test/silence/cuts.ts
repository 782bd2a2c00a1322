/**
 * Pairs of real nodes in network namespaces, and every way in which one of them is suddenly not there: what the other sees of it
 * and how soon. A pair keeps its cables for one kind of cut, which is made, seen, healed and made again.
 */
import { availableParallelism } from "node:os";
import { NODE_PORT, type NetLink } from "../../scripts/netlab-parts.ts";
import type { LabNode } from "../../scripts/lab.ts";
import { idOf, MemberWatch, stateAt } from "../membership/mesh.ts";
import type { NetMesh } from "../net/net-mesh.ts";

/** What is promised, ms: docs/protocol/frames.md "Probe". */
export const SEEN_WITHIN_MS = 5_000;
const BACK_WITHIN_MS = 10_000;
/** A link on which something was sent is in use for so long. */
const REST_MS = 5_500;
/** More than the time between two probes, so that cuts come at every moment of it. */
const PHASE_MS = 5_000;
const BUSY_EVERY_MS = 50;
const UDP_PORT = 4_861;

/** What goes on before the cut. `asked`: both were asked for their neighbours right before; `busy`: mail is under way. */
export const moods = ["idle", "asked", "busy"] as const;
export type Mood = (typeof moods)[number];

export interface Kind {
  readonly cables: 1 | 2;
  readonly transport: "tcp" | "udp";
  /** Whose view is judged: of a node that was stopped nobody asks. */
  readonly seenBy: "both" | "a";
  cut(pair: Pair): Promise<void> | void;
  heal(pair: Pair): Promise<void> | void;
}

const silent = (direction: "both" | "a to b" | "b to a", cables: 1 | 2, transport: "tcp" | "udp"): Kind => ({
  cables,
  transport,
  seenBy: "both",
  cut: ({ links }) => links.forEach((link) => link.silence(direction)),
  heal: ({ links }) => links.forEach((link) => link.heal()),
});

const ended = (signal: "SIGKILL" | "SIGTERM"): Kind => ({
  cables: 1,
  transport: "tcp",
  seenBy: "a",
  cut: ({ b }) => b.signal(signal),
  heal: async ({ b }) => {
    await b.kill("SIGKILL");
    await b.start();
  },
});

export const kinds: Readonly<Record<string, Kind>> = {
  "a silent cable": silent("both", 1, "tcp"),
  "a silent cable, over UDP": silent("both", 1, "udp"),
  "a cable that carries nothing from the dialler": silent("a to b", 1, "tcp"),
  "a cable that carries nothing to the dialler": silent("b to a", 1, "tcp"),
  "UDP that carries nothing from the dialler": silent("a to b", 1, "udp"),
  "UDP that carries nothing to the dialler": silent("b to a", 1, "udp"),
  "two silent cables": silent("both", 2, "tcp"),
  "a cable that is pulled": {
    ...silent("both", 1, "tcp"),
    cut: ({ links }) => links[0]!.down(),
    heal: ({ links }) => links[0]!.up(),
  },
  "a node that stands still": {
    ...{ cables: 1, transport: "tcp", seenBy: "a" },
    cut: ({ b }) => b.signal("SIGSTOP"),
    heal: ({ b }) => b.signal("SIGCONT"),
  },
  "a node that stands still, over two cables": {
    ...{ cables: 2, transport: "tcp", seenBy: "a" },
    cut: ({ b }) => b.signal("SIGSTOP"),
    heal: ({ b }) => b.signal("SIGCONT"),
  },
  "a node that is killed": ended("SIGKILL"),
  "a node that is stopped": ended("SIGTERM"),
  "a node that is killed, one of its two cables silent": {
    ...ended("SIGKILL"),
    cables: 2,
    cut: ({ b, links }) => {
      links[1]!.silence();
      b.signal("SIGKILL");
    },
    heal: async (pair) => {
      pair.links[1]!.heal();
      await ended("SIGKILL").heal(pair);
    },
  },
};

/** Whether `node` has a neighbour of that id that can be reached. */
async function sees(node: LabNode, id: string): Promise<boolean> {
  const { peers } = await node.json<{ peers: { id: string }[] }>("/mesh/peers");
  return peers.some((peer) => peer.id === id);
}

export class Pair {
  readonly a: LabNode;
  readonly b: LabNode;
  readonly links: readonly NetLink[];
  readonly #kind: Kind;
  #ids: readonly [string, string] = ["", ""];

  private constructor(kind: Kind, a: LabNode, b: LabNode, links: readonly NetLink[]) {
    [this.#kind, this.a, this.b, this.links] = [kind, a, b, links];
  }

  /** Both run and are linked over every cable: `a` has dialled. */
  static async open(mesh: NetMesh, kind: Kind, number: number): Promise<Pair> {
    const [nearHost, farHost] = ["A", "B"].map((end) => mesh.net.host(`P${number}-${end}`)) as [
      ReturnType<NetMesh["net"]["host"]>,
      ReturnType<NetMesh["net"]["host"]>,
    ];
    const links = Array.from({ length: kind.cables }, () => mesh.net.link(nearHost, farHost));
    const isUdp = kind.transport === "udp";
    const options = isUdp
      ? { extra: `[transports.datagrams]\ntype = "udp"\nlisten = ["0.0.0.0:${UDP_PORT}"]\n` }
      : {};
    const endpointOf = (link: NetLink) =>
      isUdp
        ? link.b.endpoint("v4").replace("tcp:", "udp:").replace(String(NODE_PORT), String(UDP_PORT))
        : link.b.endpoint("v4");
    const b = await mesh.start(farHost, [], options);
    const a = await mesh.start(nearHost, links.map(endpointOf), options);
    const pair = new Pair(kind, a, b, links);
    pair.#ids = [await idOf(a), await idOf(b)];
    await pair.#untilLinked();
    return pair;
  }

  /**
   * Cuts at a moment by chance and answers after how many ms each of those who look saw it: the later of the event that says so
   * and, at the end of the time, of an answer without the neighbour. Then heals.
   */
  async cut(mood: Mood, phase: number): Promise<number[]> {
    const [idA, idB] = this.#ids;
    const watchers =
      this.#kind.seenBy === "both"
        ? [[this.a, idB] as const, [this.b, idA] as const]
        : [[this.a, idB] as const];
    const watches = await Promise.all(watchers.map(([node]) => MemberWatch.open(node)));
    const stop = mood === "busy" ? this.#talk() : () => Promise.resolve();
    try {
      await Bun.sleep((mood === "busy" ? 0 : REST_MS) + phase * PHASE_MS);
      if (mood === "asked") await Promise.all(watchers.map(([node, id]) => sees(node, id)));
      const cutMs = performance.now();
      await this.#kind.cut(this);
      const seenMs = await Promise.all(
        watches.map(async (watch, i) => (await firstNotAlive(watch, watchers[i]![1], cutMs)) - cutMs),
      );
      await Bun.sleep(Math.max(0, cutMs + SEEN_WITHIN_MS - performance.now()));
      for (const [node, id] of watchers)
        if (await sees(node, id)) throw new Error(`${node.callsign} still has the other in its answer`);
      return seenMs;
    } finally {
      await stop();
      for (const watch of watches) watch.close();
      await this.#kind.heal(this);
      await this.#untilLinked();
    }
  }

  #talk(): () => Promise<void> {
    const over = new AbortController();
    const talking = (async () => {
      while (!over.signal.aborted) {
        await this.a.send({ to: this.#ids[1], body: "busy", expires_seconds: 60 }).catch(() => {});
        await Bun.sleep(BUSY_EVERY_MS);
      }
    })();
    return () => {
      over.abort();
      return talking;
    };
  }

  async #untilLinked(): Promise<void> {
    const isWhole = async (node: LabNode, id: string) => {
      const { peers } = await node.json<{ peers: { id: string; links: unknown[] }[] }>("/mesh/peers");
      if (peers.find((peer) => peer.id === id)?.links.length !== this.links.length) return false;
      // Whoever was accused refutes that first: what is failed already cannot be seen to go.
      return (await stateAt(node, id)) === "alive";
    };
    const [idA, idB] = this.#ids;
    for (const [node, id] of [
      [this.a, idB],
      [this.b, idA],
    ] as const)
      await node.until(
        "all links to the other",
        () => isWhole(node, id),
        BACK_WITHIN_MS + this.links.length * 60_000,
      );
  }
}

/** When the node was not alive any more to this one: at once if it was in doubt already and stayed so. */
async function firstNotAlive(watch: MemberWatch, id: string, cutMs: number): Promise<number> {
  const before = watch.events.findLast((event) => event.id === id && event.atMs < cutMs);
  const gone = ["member.suspect", "member.failed", "member.left"].map((type) =>
    watch.at(type, id, SEEN_WITHIN_MS * 2, cutMs),
  );
  const next = await Promise.any(gone).catch(() => Number.POSITIVE_INFINITY);
  const isInDoubt = before !== undefined && before.type !== "member.alive";
  const wasAliveBetween = watch.events.some(
    ({ type, id: of, atMs }) => type === "member.alive" && of === id && atMs >= cutMs && atMs < next,
  );
  if (isInDoubt && !wasAliveBetween) return cutMs;
  if (next === Number.POSITIVE_INFINITY) throw new Error("nothing was seen");
  return next;
}

/** Keeps half of every processor busy until it is disposed of. */
export class HalfLoad implements Disposable {
  readonly #children = Array.from({ length: availableParallelism() }, () =>
    Bun.spawn([process.execPath, "-e", HALF], { stdout: "ignore", stderr: "ignore" }),
  );

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill("SIGKILL");
  }
}

const HALF =
  "for (;;) { const end = performance.now() + 10; while (performance.now() < end); await Bun.sleep(10); }";
