/**
 * A mesh whose nodes share radio channels, from one seed and in virtual time: the real mesh with real seals over the real link, and
 * fast edges beside it, so that there are gateways. Uses the oracles of the fast world (../ledger.ts, ../loops.ts, ../bounds.ts) and
 * counts airtime by what it was for (airtime.ts).
 */
import type { Random } from "@godwit/sdk";
import { seededRandom } from "../../../runtime/kernel/random.ts";
import { custodyLimitsDefault } from "../../../runtime/custody/context.ts";
import type { Mesh } from "../../../runtime/mesh/mesh.ts";
import type { Priority } from "../../../runtime/wire/constants.ts";
import { checkBounds, checkPackets } from "../bounds.ts";
import { realIdentity } from "../crypto.ts";
import { Ledger, nonceOf } from "../ledger.ts";
import { Edge, type EdgeParams } from "../links.ts";
import { LoopChecker } from "../loops.ts";
import { SimNode, type SimNodeEvents } from "../node.ts";
import { SimTime } from "../time.ts";
import { Workload } from "../workload.ts";
import { AirtimeLedger, isControl, type EarlyRepeat } from "./airtime.ts";
import { Channel, type Miss } from "./channel.ts";
import { ForeignTraffic } from "./foreign.ts";
import { RadioLife } from "./life.ts";
import type { Lora, Overhead } from "./lora.ts";
import { endpointOf } from "./port.ts";
import type { Radio } from "./radio.ts";

export interface RadioWorldOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Minutes in which the nodes start, one after the other in any order. */
  readonly startMinutes: number;
  /** Minutes before mail is offered, in which it is, and after the last of it, which must be more than its lifetime. */
  readonly warmUpMinutes: number;
  readonly minutes: number;
  readonly drainMinutes: number;
  readonly lora: Lora;
  readonly overhead: Overhead;
  readonly mtu: number;
  readonly loss: number;
  /** Of the channel for each node: its own budget, and how much of it at once, ms. */
  readonly ownShare: number;
  readonly burstMs: number;
  readonly dutyCycle: number;
  readonly queueFramesMax: number;
  readonly relayHopsMax?: number;
  /** Of the channel, for others. */
  readonly foreignShare: number;
  /** How well nodes hear each other, dB; undefined: not at all. Asked once for each pair. No radio: -1 of `radioOf`. */
  readonly hears: (a: number, b: number, random: Random) => number | undefined;
  /** Which nodes have a radio; without it all. */
  readonly hasRadio?: (node: number) => boolean;
  /** Fast edges. */
  readonly wires?: readonly (readonly [number, number])[];
  /** Means of how long a wire works and how long it does not, ms; none: it always does. */
  readonly flaps?: { readonly upMs: number; readonly downMs: number };
  /** Nodes, of which each cannot be heard for a while: from, and for how long, ms of virtual time. */
  readonly cellars?: readonly { readonly node: number; readonly fromMs: number; readonly forMs: number }[];
  /** Which pairs know each other's radio by configuration; the one named first dials. */
  readonly peers: readonly (readonly [number, number])[];
  /** All know the records of all, as from a file. */
  readonly introduced: boolean;
  readonly mailPerHour: number;
  readonly bodyBytes: number;
  readonly lifetimeMs: number;
  /** Who writes to whom; without it anybody to anybody. */
  readonly pair?: (random: Random) => readonly [number, number];
  readonly faultsMax?: number;
  /** Plants a bug in each node that opens (tests of the checkers only). */
  readonly mutate?: (mesh: Mesh, node: SimNode) => void;
}

export interface RadioResult {
  readonly faults: readonly string[];
  readonly events: number;
  readonly traceHash: string;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly sent: number;
  /** Of what was accepted, delivered within ten minutes, 0 to 1. */
  readonly onTime: number;
  readonly delivered: number;
  readonly delayP50Ms: number;
  readonly delayP95Ms: number;
  /** Shares of the channel since the start, and while mail was offered, by kind. */
  readonly shares: Readonly<Record<string, number>>;
  readonly talkShares: Readonly<Record<string, number>>;
  readonly control: number;
  readonly talkControl: number;
  /** Largest share of one node, own airtime. */
  readonly ownMost: number;
  readonly early: readonly EarlyRepeat[];
  readonly misses: Readonly<Record<Miss, number>>;
  readonly refused: number;
  readonly links: number;
  readonly frames: Readonly<Record<string, number>>;
}

const POLL_MS = 10_000;
const ON_TIME_MS = 600_000;
const FOREIGN_STATIONS = 3;
const FOREIGN_DB = 20;
const WIRE: EdgeParams = {
  kind: "stream",
  linkClass: "fast",
  rateBitsPerSecond: 1e8,
  delayMs: 10,
  jitterMs: 0,
  loss: 0,
};

export class RadioWorld {
  readonly time = new SimTime();
  readonly nodes: SimNode[] = [];
  readonly radios: (Radio | undefined)[] = [];
  readonly wires: Edge[] = [];
  readonly faults: string[] = [];
  readonly channel: Channel;
  readonly airtime: AirtimeLedger;
  readonly ledger: Ledger;
  readonly loops: LoopChecker;
  readonly workload: Workload;
  readonly #options: RadioWorldOptions;
  readonly #random: Random;
  readonly #foreign: ForeignTraffic;
  /** By nonce, virtual ms. */
  readonly #arrivedAtMs = new Map<number, number>();
  #talkFrom = new Map<string, number>();
  #talk = new Map<string, number>();
  #isTalking = false;

  constructor(options: RadioWorldOptions) {
    this.#options = options;
    const random = (this.#random = seededRandom(options.seed));
    const { time } = this;
    const { lora, overhead, loss } = options;
    const fork = () => seededRandom(random.below(2 ** 32));
    this.channel = new Channel({ time, random: fork(), lora, overhead, loss });
    this.airtime = new AirtimeLedger(() => time.nowMs);
    this.channel.onSent = (sent) => this.airtime.onSent(sent);
    this.#makeNodes(random);
    this.#makeEarshot(random);
    for (const [a, b] of options.wires ?? []) this.#addWire(a, b, fork());
    this.#foreign = this.#makeForeign(random);
    this.ledger = new Ledger(
      () => time.nowMs,
      (text) => this.#fault(text),
    );
    this.loops = new LoopChecker(this.nodes);
    this.workload = new Workload({
      nodes: this.nodes,
      random: fork(),
      time,
      ledger: this.ledger,
      fault: (text) => this.#fault(text),
      talkers: this.nodes,
      bodyBytesMax: options.bodyBytes,
    });
    time.afterEvent = () => {
      this.loops.check();
      for (const cycle of this.loops.cycles.splice(0)) this.#fault(cycle);
    };
  }

  run(): RadioResult {
    const { startMinutes, warmUpMinutes, minutes, drainMinutes, cellars = [] } = this.#options;
    for (const node of this.nodes)
      this.time.after(startMinutes * 60_000 * this.#random.float(), () => node.start());
    this.#foreign.start();
    for (const wire of this.wires) this.#flap(wire);
    for (const { node, fromMs, forMs } of cellars) this.#shield(node, fromMs, forMs);
    this.#advance(warmUpMinutes * 60_000);
    this.#talkFrom = new Map(this.airtime.total);
    this.#isTalking = true;
    this.#offer();
    this.#advance(minutes * 60_000);
    this.#isTalking = false;
    this.#talk = new Map(this.airtime.total);
    this.#advance(drainMinutes * 60_000, () => this.ledger.open.length === 0);
    this.ledger.checkEnd();
    for (const text of this.loops.audit()) this.#fault(text);
    return this.#result();
  }

  #advance(forMs: number, isDone: () => boolean = () => false): void {
    const untilMs = this.time.nowMs + forMs;
    while (this.time.nowMs < untilMs && !this.#isBeyondHope) {
      this.time.run(Math.min(untilMs, this.time.nowMs + POLL_MS), () => this.#isBeyondHope);
      for (const node of this.nodes) {
        for (const text of checkBounds(node, custodyLimitsDefault)) this.#fault(text);
        for (const text of checkPackets(node)) this.#fault(text);
      }
      if (isDone()) return;
    }
  }

  get #isBeyondHope(): boolean {
    return this.faults.length >= (this.#options.faultsMax ?? 5);
  }

  #fault(text: string): void {
    if (!this.#isBeyondHope) this.faults.push(`${(this.time.nowMs / 1_000).toFixed(3)} s: ${text}`);
  }

  /** Poisson arrivals. */
  #offer(): void {
    const { mailPerHour, bodyBytes, lifetimeMs, pair } = this.#options;
    const pauseMs = (-Math.log(1 - this.#random.float()) * 3_600_000) / mailPerHour;
    this.time.after(pauseMs, () => {
      if (!this.#isTalking) return;
      const [from, to] = pair?.(this.#random) ?? this.#anyPair();
      const source = this.nodes[from]!;
      const target = this.nodes[to]!;
      const priority: Priority = 2;
      const order = { source, address: target.id, bytes: bodyBytes, priority, lifetimeMs };
      if (source.mesh !== undefined)
        void this.workload.send({ ...order, isRepeated: false, isWithdrawn: false }, [target]);
      this.#offer();
    });
  }

  #anyPair(): [number, number] {
    const { nodes } = this.#options;
    const from = this.#random.below(nodes);
    return [from, (from + 1 + this.#random.below(nodes - 1)) % nodes];
  }

  #makeNodes(random: Random): void {
    const { nodes: count, seed, mtu, hasRadio = () => true } = this.#options;
    for (let index = 0; index < count; index++) {
      const radio = hasRadio(index) ? this.#makeRadio(random) : undefined;
      this.radios.push(radio);
      const location = `R${String.fromCharCode(65 + (index % 26))}${String.fromCharCode(65 + Math.floor(index / 26))}`;
      let lives = 0;
      this.nodes.push(
        new SimNode(
          {
            index,
            identity: realIdentity(seededRandom(seed * 7_919 + index)),
            callsign: `${location}-A`,
            location,
            seed: seed * 10_007 + index,
            time: this.time,
            limits: custodyLimitsDefault,
            commitDelayMs: 0.2 + random.float() * 10,
            ...(radio === undefined
              ? {}
              : {
                  transport: (life) =>
                    new RadioLife({
                      life,
                      radio,
                      time: this.time,
                      mtu,
                      airtime: this.airtime,
                      seed: (seed * 10_007 + index) * 1_009 + lives++,
                    }),
                }),
          },
          (other) => this.nodes[other]!,
          (node) => this.#eventsOf(node),
        ),
      );
    }
  }

  #makeRadio(random: Random): Radio {
    const { queueFramesMax, ownShare, burstMs, dutyCycle, relayHopsMax = 0 } = this.#options;
    const radio = this.channel.add({
      address: random.below(2 ** 32),
      random: seededRandom(random.below(2 ** 32)),
      queueFramesMax,
      ownShare,
      burstMs,
      dutyCycle,
      relayHopsMax,
    });
    // Its node is not there yet.
    radio.power(false);
    return radio;
  }

  #makeEarshot(random: Random): void {
    const { nodes, hears } = this.#options;
    for (let a = 0; a < nodes; a++) {
      for (let b = a + 1; b < nodes; b++) {
        const dB = hears(a, b, random);
        const [radioA, radioB] = [this.radios[a], this.radios[b]];
        if (dB !== undefined && radioA !== undefined && radioB !== undefined)
          this.channel.join(radioA, radioB, dB);
      }
    }
  }

  #makeForeign(random: Random): ForeignTraffic {
    const { foreignShare: share } = this.#options;
    const stations = Array.from({ length: share > 0 ? FOREIGN_STATIONS : 0 }, () =>
      this.channel.add({
        address: random.below(2 ** 32),
        random: seededRandom(random.below(2 ** 32)),
        queueFramesMax: 64,
        ownShare: 1,
        burstMs: 3_600_000,
        dutyCycle: 1,
      }),
    );
    for (const [at, station] of stations.entries()) {
      for (const radio of this.radios)
        if (radio !== undefined) this.channel.join(station, radio, FOREIGN_DB * random.float());
      for (const other of stations.slice(0, at)) this.channel.join(station, other, FOREIGN_DB);
    }
    const { channel, time } = this;
    return new ForeignTraffic({
      channel,
      stations,
      share,
      time,
      random: seededRandom(random.below(2 ** 32)),
    });
  }

  #addWire(a: number, b: number, random: Random): void {
    const wire = new Edge({ params: WIRE, name: "wire", a, b, time: this.time, random });
    this.wires.push(wire);
    this.nodes[a]!.edges.push(wire);
    this.nodes[b]!.edges.push(wire);
  }

  #flap(wire: Edge): void {
    const { flaps } = this.#options;
    if (flaps === undefined) return;
    const random = wire.random;
    const draw = (meanMs: number) => -Math.log(1 - random.float()) * meanMs;
    this.time.after(draw(flaps.upMs), () => {
      wire.block("both");
      this.time.after(draw(flaps.downMs), () => {
        wire.unblock("both");
        this.#flap(wire);
      });
    });
  }

  #shield(node: number, fromMs: number, forMs: number): void {
    const radio = this.radios[node]!;
    this.time.after(fromMs, () => {
      radio.isShielded = true;
      this.time.after(forMs, () => (radio.isShielded = false));
    });
  }

  #eventsOf(node: SimNode): SimNodeEvents {
    return {
      delivered: (entry, body) => {
        const nonce = nonceOf(body, entry.size);
        if (nonce !== undefined && !this.#arrivedAtMs.has(nonce))
          this.#arrivedAtMs.set(nonce, this.time.nowMs);
        this.ledger.onDelivered(node, entry, body);
      },
      changed: (entry) => this.ledger.onChanged(node, entry),
      quarantined: () => {},
      routeChanged: (destination) => this.loops.touch(node.index, destination),
      opened: () => this.#onOpened(node),
      lost: (before) => this.ledger.onLoss(before, this.nodes),
      lostKeys: () => this.ledger.onLostKeys(),
      broken: (reason) => this.#fault(`n${node.index} cannot start: ${reason}`),
      ended: () => this.loops.setLife(node.index, 0),
      mutate: (mesh) => this.#options.mutate?.(mesh, node),
    };
  }

  #onOpened(node: SimNode): void {
    this.loops.setLife(node.index, node.life!.number);
    this.ledger.onOpened(node).catch((error: unknown) => this.#fault(String(error)));
    const { peers, introduced } = this.#options;
    const mesh = node.mesh!;
    for (const [a, b] of peers)
      if (a === node.index)
        mesh.hints.add(
          "static",
          { endpoint: endpointOf(this.radios[b]!.address), permanent: true },
          "operator",
        );
    if (!introduced) return;
    for (const other of this.nodes)
      if (other !== node && other.mesh !== undefined) {
        mesh.records.offer(other.mesh.ownRecord.bytes);
        other.mesh.records.offer(mesh.ownRecord.bytes);
      }
  }

  #result(): RadioResult {
    const { warmUpMinutes, minutes } = this.#options;
    const delays: number[] = [];
    let sent = 0;
    for (const { nonce, id, sentAtMs } of this.ledger.messages.values()) {
      if (id === undefined) continue;
      sent++;
      const atMs = this.#arrivedAtMs.get(nonce);
      if (atMs !== undefined) delays.push(atMs - sentAtMs);
    }
    delays.sort((a, b) => a - b);
    const shares = sharesOf(this.airtime.total, new Map(), this.time.nowMs);
    const talkShares = sharesOf(this.#talk, this.#talkFrom, minutes * 60_000);
    const talkMs = (warmUpMinutes + minutes) * 60_000;
    const own = this.radios.flatMap((radio) => (radio === undefined ? [] : [radio.airtimeMs]));
    return {
      faults: this.faults,
      events: this.time.events,
      traceHash: this.time.digest(),
      outcomes: this.ledger.outcomes,
      sent,
      onTime: delays.filter((ms) => ms <= ON_TIME_MS).length / Math.max(1, sent),
      delivered: delays.length / Math.max(1, sent),
      delayP50Ms: delays[Math.floor(delays.length / 2)] ?? Number.NaN,
      delayP95Ms: delays[Math.floor(delays.length * 0.95)] ?? Number.NaN,
      shares,
      talkShares,
      control: controlOf(shares),
      talkControl: controlOf(talkShares),
      ownMost: Math.max(0, ...own) / Math.max(talkMs, this.time.nowMs),
      early: this.airtime.early,
      misses: this.channel.misses,
      refused: this.radios.reduce((sum, radio) => sum + (radio?.refused ?? 0), 0),
      links: this.nodes.reduce((sum, { mesh }) => sum + [...(mesh?.peers.connected ?? [])].length, 0) / 2,
      frames: Object.fromEntries(this.airtime.frames),
    };
  }
}

function sharesOf(
  now: ReadonlyMap<string, number>,
  before: ReadonlyMap<string, number>,
  ms: number,
): Record<string, number> {
  return Object.fromEntries([...now].map(([kind, air]) => [kind, (air - (before.get(kind) ?? 0)) / ms]));
}

const controlOf = (shares: Readonly<Record<string, number>>): number =>
  Object.entries(shares).reduce((sum, [kind, share]) => sum + (isControl(kind) ? share : 0), 0);
