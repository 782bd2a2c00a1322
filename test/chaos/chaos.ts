/**
 * The chaos driver: real processes, a workload among all pairs, and faults from a seed: SIGKILL, SIGSTOP, cut and
 * silent cables, a full disk, a destroyed disk. Afterwards everything is healed and the ledger judges. The tests differ
 * only in their plan.
 */
import { seededRandom, type Random } from "../../runtime/kernel/random.ts";
import type { LabNode } from "../../scripts/lab.ts";
import { Cluster } from "./cluster.ts";
import { Ledger, type Sent } from "./ledger.ts";
import { sizeOf, type Outcome, type Plan } from "./plan.ts";
import { whyNoMount } from "./tmp-disk.ts";
import type { Silence, Wire } from "./wire.ts";

export const RING = ["DUN-A", "LON-B", "NYC-C", "PAR-D", "OSL-E"] as const;
const LINKS = [
  ["DUN-A", "LON-B"],
  ["LON-B", "NYC-C"],
  ["NYC-C", "PAR-D"],
  ["PAR-D", "OSL-E"],
  ["OSL-E", "DUN-A"],
  ["LON-B", "PAR-D"], // the chord
] as const;
const DISK_NODE = "PAR-D";
const SEND_TIMEOUT_MS = 5_000;
const FULL_DISK_MS = 6_000;
const FULL_DISK_LETTERS_MAX = 32;
const FULL_DISK_LETTER_BYTES = 512 * 1024;
const STOP_TIMEOUT_MS = 15_000;
const SENDERS_PER_NODE = 6;

export async function runChaos(plan: Plan): Promise<Outcome> {
  const hasDisk = plan.fullDisks > 0 && whyNoMount() === undefined;
  const cluster = await Cluster.open({
    callsigns: RING,
    links: LINKS,
    ...(hasDisk ? { disk: { callsign: DISK_NODE, megabytes: plan.diskMegabytes ?? 160 } } : {}),
    config: { "*": { extra: plan.config ?? "" } },
  });
  try {
    return await new Chaos(plan, cluster).run();
  } finally {
    await cluster.close();
  }
}

interface Order {
  readonly to: string;
  readonly size: number;
  readonly priority: number;
  readonly isById: boolean;
  readonly atMs: number;
}

interface ScheduledFault {
  readonly atMs: number;
  readonly kind: "kill" | "stop" | "partition" | "full" | "destroy";
}

class Chaos {
  readonly #plan: Plan;
  readonly #cluster: Cluster;
  readonly #ledger: Ledger;
  readonly #random: Random;
  readonly #startedMs = performance.now();
  /** Under a fault right now. */
  readonly #busy = new Set<string>();
  /** The partition that holds a cable. */
  readonly #held = new Map<Wire, number>();
  readonly #problems: string[] = [];
  /** Messages that a node could not accept because its disk was full. */
  #storeFailures = 0;
  #isOver = false;
  readonly #counts = { kills: 0, stops: 0, partitions: 0, fullDisks: 0, destroyed: 0 };

  constructor(plan: Plan, cluster: Cluster) {
    this.#plan = plan;
    this.#cluster = cluster;
    this.#ledger = new Ledger(cluster);
    this.#random = seededRandom(plan.seed);
  }

  async run(): Promise<Outcome> {
    const { messages, settleMs } = this.#plan;
    const schedule = this.#schedule();
    const progress = setInterval(() => this.#report(), Math.max(15_000, this.#plan.faultsMs / 40));
    try {
      const senders = this.#cluster.nodes.map((node) => this.#sendFrom(node, this.#orders(node.callsign)));
      const watcher = this.#watch();
      const faults = this.#runFaults(schedule);
      await Promise.all([...senders.map((done) => done.catch((error) => this.#problem(error))), faults]);
      this.#heal();
      const healedMs = performance.now();
      await this.#settle(healedMs + settleMs);
      const settleSeconds = (performance.now() - healedMs) / 1000;
      this.#isOver = true;
      await watcher;
      this.#report();
      await this.#ledger.judge();
      await Promise.all(this.#cluster.nodes.map((node) => this.#stop(node)));
      const receipts = this.#ledger.verifyReceipts();
      const reconnections = [...this.#cluster.wires.values()].reduce(
        (sum, wire) => sum + wire.connections,
        0,
      );
      return {
        faults: [...this.#problems, ...this.#ledger.faults],
        accepted: this.#ledger.accepted,
        ...this.#counts,
        taken: this.#ledger.taken,
        receipts,
        reconnections,
        seconds: Math.round((performance.now() - this.#startedMs) / 1000),
        settleSeconds: Math.round(settleSeconds * 10) / 10,
      };
    } finally {
      this.#isOver = true;
      clearInterval(progress);
      if (messages > 0 && this.#problems.length + this.#ledger.faults.length > 0) this.#showLogs();
    }
  }

  #schedule(): ScheduledFault[] {
    const { kills, stops, partitions, fullDisks, faultsMs, destroy } = this.#plan;
    const spread = <K>(kind: K, count: number) =>
      Array.from({ length: count }, () => ({
        atMs: 1_000 + this.#random.float() * (faultsMs - 1_000),
        kind,
      }));
    const schedule = [
      ...spread("kill" as const, kills),
      ...spread("stop" as const, stops),
      ...spread("partition" as const, partitions),
      ...Array.from({ length: this.#cluster.disk === undefined ? 0 : fullDisks }, (_, i) => ({
        atMs: (faultsMs * (i + 0.5)) / (fullDisks + 0.5),
        kind: "full" as const,
      })),
      ...(destroy === undefined ? [] : [{ atMs: faultsMs / 2, kind: "destroy" as const }]),
    ];
    return schedule.sort((a, b) => a.atMs - b.atMs);
  }

  /** Messages of one node in order, each due at its moment. */
  #orders(from: string): Order[] {
    const { messages, large, faultsMs, destroy } = this.#plan;
    const random = this.#random;
    const talkers = RING.filter((name) => destroy?.what !== "everything" || name !== destroy.callsign);
    if (!talkers.includes(from as (typeof RING)[number])) return [];
    const others = talkers.filter((name) => name !== from);
    const count = Math.round(messages / talkers.length);
    const orders = Array.from({ length: count }, () => ({
      to: others[random.below(others.length)]!,
      size: sizeOf(random, large / messages),
      priority: random.below(4),
      isById: random.float() < 0.5,
      atMs: random.float() * faultsMs,
    }));
    return orders.sort((a, b) => a.atMs - b.atMs);
  }

  async #sendFrom(node: LabNode, orders: readonly Order[]): Promise<void> {
    let next = 0;
    const worker = async () => {
      for (let order = orders[next++]; order !== undefined; order = orders[next++]) {
        await Bun.sleep(Math.max(0, this.#startedMs + order.atMs - performance.now()));
        const { sent, body } = this.#ledger.offer(node.callsign, order.to, order.size);
        const to = order.isById ? this.#cluster.id(order.to) : order.to;
        await this.#offer(node, sent, body, { to, priority: order.priority, idempotency_key: sent.nonce });
      }
    };
    await Promise.all(Array.from({ length: SENDERS_PER_NODE }, worker));
  }

  /** Until it is accepted. The key makes an answer that was lost with its node harmless. */
  async #offer(
    node: LabNode,
    sent: Sent,
    body: Uint8Array,
    fields: Readonly<Record<string, string | number>>,
  ): Promise<void> {
    const untilMs = performance.now() + this.#plan.faultsMs + this.#plan.settleMs;
    let last: unknown;
    while (performance.now() < untilMs) {
      // A disk that went took its keys along: whether the message was accepted will never be known.
      if (this.#ledger.epochOf(node.callsign) !== sent.fromEpoch) return;
      try {
        const id = await node.sendBytes(body, fields, AbortSignal.timeout(SEND_TIMEOUT_MS));
        if (this.#ledger.epochOf(node.callsign) === sent.fromEpoch) this.#ledger.accept(sent, id);
        return;
      } catch (error) {
        last = error;
        if (String(error).includes("GODWIT_STORE_FAILED")) this.#storeFailures++;
        await Bun.sleep(50 + Math.random() * 100);
      }
    }
    throw new Error(`${node.callsign} never accepted a message: ${String(last)}`);
  }

  async #runFaults(schedule: readonly ScheduledFault[]): Promise<void> {
    const running: Promise<void>[] = [];
    for (const [number, { atMs, kind }] of schedule.entries()) {
      await Bun.sleep(Math.max(0, this.#startedMs + atMs - performance.now()));
      const fault =
        kind === "partition"
          ? this.#partition(number)
          : kind === "full"
            ? this.#fillDisk()
            : kind === "destroy"
              ? this.#destroy(this.#plan.destroy!)
              : this.#disturb(kind);
      running.push(fault.catch((error: unknown) => this.#problem(error)));
    }
    await Promise.all(running);
  }

  async #disturb(kind: "kill" | "stop"): Promise<void> {
    const free = this.#cluster.nodes.filter(({ callsign }) => !this.#busy.has(callsign));
    const pauseMs =
      kind === "kill" ? 50 + this.#random.float() ** 2 * 3_000 : 200 + this.#random.float() * 4_000;
    const node = free[this.#random.below(Math.max(1, free.length))];
    if (node === undefined) {
      await Bun.sleep(500);
      return this.#disturb(kind);
    }
    this.#busy.add(node.callsign);
    try {
      if (kind === "kill") {
        await node.kill("SIGKILL");
        this.#counts.kills++;
        await Bun.sleep(pauseMs);
        await this.#start(node);
      } else {
        node.signal("SIGSTOP");
        this.#counts.stops++;
        await Bun.sleep(pauseMs);
        node.signal("SIGCONT");
      }
    } finally {
      this.#busy.delete(node.callsign);
    }
  }

  /** A node whose disk is full does not start; whoever supervises it tries again. */
  async #start(node: LabNode): Promise<void> {
    const untilMs = performance.now() + 30_000;
    for (;;) {
      try {
        return await node.start();
      } catch (error) {
        await node.kill("SIGKILL");
        if (performance.now() > untilMs) throw error;
        await Bun.sleep(300);
      }
    }
  }

  async #stop(node: LabNode): Promise<void> {
    const patience = AbortSignal.timeout(STOP_TIMEOUT_MS);
    const onTimeout = () => {
      this.#problem(`${node.callsign} did not end on SIGTERM\n${node.logTail}`);
      node.signal("SIGKILL");
    };
    patience.addEventListener("abort", onTimeout);
    await node.kill("SIGTERM");
    patience.removeEventListener("abort", onTimeout);
  }

  async #partition(number: number): Promise<void> {
    const random = this.#random;
    const isOneCable = random.float() < 0.6;
    const side = new Set(RING.filter(() => random.float() < 0.5));
    const all = [...this.#cluster.wires];
    const one = random.below(all.length);
    const chosen = all.filter(([name], i) => {
      const [a, b] = name.split(" ") as [(typeof RING)[number], (typeof RING)[number]];
      return isOneCable ? i === one : side.has(a) !== side.has(b);
    });
    const how = (["cut", "cut", "both", "there", "back"] as const)[random.below(5)]!;
    const lastsMs = 300 + random.float() ** 2 * 8_000;
    this.#counts.partitions++;
    for (const [, wire] of chosen) {
      this.#held.set(wire, number);
      wire.heal();
      if (how === "cut") wire.cut();
      else wire.silence(how satisfies Silence);
    }
    await Bun.sleep(lastsMs);
    for (const [, wire] of chosen) {
      if (this.#held.get(wire) !== number) continue;
      this.#held.delete(wire);
      wire.heal();
    }
  }

  /**
   * Counts once the node refused a message because of it. SQLite goes on for a while in the space that it has, so letters
   * are posted there until that is used up.
   */
  async #fillDisk(): Promise<void> {
    const disk = this.#cluster.disk!;
    const node = this.#cluster.node(DISK_NODE);
    const endMs = performance.now() + FULL_DISK_MS;
    const before = this.#storeFailures;
    const offers: Promise<void>[] = [];
    while (performance.now() < endMs) {
      disk.fill();
      if (this.#storeFailures === before && offers.length < FULL_DISK_LETTERS_MAX) {
        const { sent, body } = this.#ledger.offer(DISK_NODE, "DUN-A", FULL_DISK_LETTER_BYTES);
        offers.push(this.#offer(node, sent, body, { to: "DUN-A", idempotency_key: sent.nonce }));
      }
      await Bun.sleep(100);
    }
    await disk.drain();
    if (this.#storeFailures > before) this.#counts.fullDisks++;
    await Promise.all(offers);
  }

  async #destroy({ callsign, what }: { callsign: string; what: "store" | "everything" }): Promise<void> {
    while (this.#busy.has(callsign)) await Bun.sleep(20);
    this.#busy.add(callsign);
    const node = this.#cluster.node(callsign);
    try {
      await node.kill("SIGKILL");
      this.#ledger.noteDestroyed(callsign);
      if (what === "store") await node.destroyStore();
      else await node.destroyState();
      this.#counts.destroyed++;
      await this.#start(node);
      if (what === "everything") await this.#cluster.learnId(callsign);
    } finally {
      this.#busy.delete(callsign);
    }
  }

  #heal(): void {
    for (const wire of this.#cluster.wires.values()) wire.heal();
  }

  async #settle(untilMs: number): Promise<void> {
    while (performance.now() < untilMs) {
      for (const node of this.#cluster.nodes) await this.#ledger.readOutbox(node);
      if (this.#ledger.open.length === 0) return;
      await Bun.sleep(500);
    }
  }

  /** A node forgets its oldest ended messages, so ends are noted as they come. People read and remove their mail. */
  async #watch(): Promise<void> {
    const everyMs = Math.max(5_000, this.#plan.faultsMs / 200);
    for (let nextMs = performance.now() + everyMs; !this.#isOver; await Bun.sleep(200)) {
      if (performance.now() < nextMs) continue;
      nextMs = performance.now() + everyMs;
      for (const node of this.#cluster.nodes)
        if (!this.#busy.has(node.callsign)) {
          await this.#ledger.readOutbox(node).catch(() => {});
          await this.#ledger.take(node).catch(() => {});
        }
    }
  }

  #problem(error: unknown): void {
    this.#problems.push(error instanceof Error ? error.message : String(error));
  }

  #report(): void {
    const { kills, stops, partitions } = this.#counts;
    const seconds = Math.round((performance.now() - this.#startedMs) / 1000);
    console.log(
      `  ${seconds} s: ${this.#ledger.accepted} accepted, ${this.#ledger.ended} ended; ${kills} killed, ${stops} stopped, ${partitions} partitions`,
    );
  }

  #showLogs(): void {
    for (const node of this.#cluster.nodes) console.log(`--- ${node.callsign}\n${node.logTail}`);
  }
}
