/**
 * A mesh whose nodes share radio channels, from one seed and in virtual time: the real mesh with real seals over the real link, and
 * fast edges beside it, so that there are gateways. Uses the oracles of the fast world (../ledger.ts, ../loops.ts, ../bounds.ts) and
 * counts airtime by what it was for (airtime.ts).
 */
import type { Random } from "@godwit/sdk";
import { seededRandom } from "../../../runtime/kernel/random.ts";
import { custodyLimitsDefault } from "../../../runtime/custody/context.ts";
import type { Priority } from "../../../runtime/wire/constants.ts";
import { checkBounds, checkPackets } from "../bounds.ts";
import { realIdentity } from "../crypto.ts";
import { Ledger, nonceOf } from "../ledger.ts";
import { Edge, type EdgeParams } from "../links.ts";
import { LoopChecker } from "../loops.ts";
import { SimNode, type SimNodeEvents } from "../node.ts";
import { SimTime } from "../time.ts";
import { Workload } from "../workload.ts";
import { Air } from "./air.ts";
import type { AirtimeLedger } from "./airtime.ts";
import type { RadioWorldOptions, WorldAir, WorldRadio } from "./options.ts";
import { controlOf, delaysOf, sharesOf, type RadioResult } from "./result.ts";

const POLL_MS = 10_000;
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
  readonly air: WorldAir;
  readonly wires: Edge[] = [];
  readonly faults: string[] = [];
  readonly ledger: Ledger;
  readonly loops: LoopChecker;
  readonly workload: Workload;
  readonly #options: RadioWorldOptions;
  readonly #random: Random;
  /** When and who. */
  readonly #crashes: Random;
  /** By nonce, virtual ms. */
  readonly #arrivedAtMs = new Map<number, number>();
  #talkFromMs = 0;
  #talkFrom = new Map<string, number>();
  #talk = new Map<string, number>();
  #isTalking = false;
  crashed = 0;

  constructor(options: RadioWorldOptions) {
    this.#options = options;
    const random = (this.#random = seededRandom(options.seed));
    const { time } = this;
    const fork = () => seededRandom(random.below(2 ** 32));
    this.air = options.newAir?.(options, time, fork()) ?? new Air(options, time, fork());
    this.#makeNodes(random);
    for (const [a, b] of options.wires ?? []) this.#addWire(a, b, fork());
    this.#crashes = seededRandom(options.seed * 15_486_071 + 4);
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

  get channel(): WorldAir["channel"] {
    return this.air.channel;
  }

  get airtime(): AirtimeLedger {
    return this.air.airtime;
  }

  get radios(): readonly (WorldRadio | undefined)[] {
    return this.air.radios;
  }

  run(): RadioResult {
    const { startMinutes, warmUpMinutes, practiceMinutes = 0, minutes, drainMinutes } = this.#options;
    for (const node of this.nodes)
      this.time.after(startMinutes * 60_000 * this.#random.float(), () => node.start());
    this.air.start();
    for (const wire of this.wires) this.#flap(wire);
    this.#advance(warmUpMinutes * 60_000);
    this.#practise(practiceMinutes * 60_000);
    this.air.startTalk();
    this.#talkFromMs = this.time.nowMs;
    this.#talkFrom = new Map(this.airtime.heard);
    this.#isTalking = true;
    this.#offer();
    this.#crash();
    this.#advance(minutes * 60_000);
    this.#isTalking = false;
    this.#talk = new Map(this.airtime.heard);
    this.#advance(drainMinutes * 60_000, () => this.ledger.open.length === 0);
    this.ledger.checkEnd();
    for (const text of this.loops.audit()) this.#fault(text);
    this.#checkBudgets();
    return this.#result();
  }

  /** Nobody had more of the air than is his, by all the oracle of airtime saw. */
  #checkBudgets(): void {
    const { ownShare, burstMs, mtu } = this.#options;
    // What is saved up, and the frame that uses up the last of it.
    const mostMs = burstMs + ownShare * this.time.nowMs + 2 * this.channel.airtimeOf(mtu, "all");
    for (const [node, radio] of this.radios.entries()) {
      const kinds = radio === undefined ? [] : [...(this.airtime.byNode.get(radio.address) ?? [])];
      // What a device says by itself is not the node's.
      const ms = kinds.reduce((sum, [kind, one]) => sum + (kind === "device" ? 0 : one), 0);
      if (ms > mostMs) this.#fault(`n${node} was on the air for ${ms} ms, at most ${mostMs}`);
    }
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
    const { mailPerHour, lifetimeMs, pair } = this.#options;
    const pauseMs = (-Math.log(1 - this.#random.float()) * 3_600_000) / mailPerHour;
    this.time.after(pauseMs, () => {
      if (!this.#isTalking) return;
      this.#send(pair?.(this.#random) ?? this.#anyPair(), lifetimeMs);
      this.#offer();
    });
  }

  #practise(forMs: number): void {
    if (forMs === 0) return;
    const { peers, minutes, drainMinutes } = this.#options;
    const lifetimeMs = (minutes + drainMinutes / 2) * 60_000;
    for (const [a, b] of peers)
      for (const pair of [[a, b] as const, [b, a] as const])
        this.time.after(this.#random.float() * forMs, () => this.#send(pair, lifetimeMs));
    this.#advance(forMs);
  }

  #send([from, to]: readonly [number, number], lifetimeMs: number): void {
    const { bodyBytes, addresses } = this.#options;
    const source = this.nodes[from]!;
    const target = this.nodes[to]!;
    const priority: Priority = 2;
    const address = addresses === "callsigns" ? target.callsign : target.id;
    const order = { source, address, bytes: bodyBytes, priority, lifetimeMs };
    if (source.mesh !== undefined)
      void this.workload.send({ ...order, isRepeated: false, isWithdrawn: false }, [target]);
  }

  /** While mail is offered; whoever is down then comes back all the same. */
  #crash(): void {
    const { crashes } = this.#options;
    if (crashes === undefined) return;
    const random = this.#crashes;
    const draw = (meanMs: number) => -Math.log(1 - random.float()) * meanMs;
    this.time.after(draw(crashes.pauseMs), () => {
      if (!this.#isTalking) return;
      const node = this.nodes[random.below(this.nodes.length)]!;
      if (node.isUp) {
        this.crashed++;
        node.crash(random.float() < 0.5 ? "kill" : "power");
        this.time.after(draw(crashes.downMs), () => node.start());
      }
      this.#crash();
    });
  }

  #anyPair(): [number, number] {
    const { nodes } = this.#options;
    const from = this.#random.below(nodes);
    return [from, (from + 1 + this.#random.below(nodes - 1)) % nodes];
  }

  #makeNodes(random: Random): void {
    const { nodes: count, seed } = this.#options;
    for (let index = 0; index < count; index++) {
      const radio = this.radios[index];
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
                  transport: (life) => this.air.newLife(life, (seed * 10_007 + index) * 1_009 + lives++),
                }),
          },
          (other) => this.nodes[other]!,
          (node) => this.#eventsOf(node),
        ),
      );
    }
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
    const { peers, isConfigured, introduced } = this.#options;
    const mesh = node.mesh!;
    for (const [a, b] of isConfigured ? peers : [])
      if (a === node.index)
        mesh.hints.add("static", { endpoint: this.air.endpointOf(b), permanent: true }, "operator");
    if (!introduced) return;
    for (const other of this.nodes)
      if (other !== node && other.mesh !== undefined) {
        mesh.records.offer(other.mesh.ownRecord.bytes);
        other.mesh.records.offer(mesh.ownRecord.bytes);
      }
  }

  #result(): RadioResult {
    const { minutes } = this.#options;
    const { time, airtime } = this;
    const accepted = [...this.ledger.messages.values()].filter(
      ({ id, sentAtMs }) => id !== undefined && sentAtMs >= this.#talkFromMs,
    );
    const delays = accepted.flatMap(({ nonce, sentAtMs }) => {
      const atMs = this.#arrivedAtMs.get(nonce);
      return atMs === undefined ? [] : [atMs - sentAtMs];
    });
    const shares = sharesOf(airtime.heard, new Map(), time.nowMs);
    const talkShares = sharesOf(this.#talk, this.#talkFrom, minutes * 60_000);
    const radios = this.radios.filter((radio) => radio !== undefined);
    return {
      faults: this.faults,
      events: time.events,
      traceHash: time.digest(),
      outcomes: this.ledger.outcomes,
      ...delaysOf(delays, accepted.length),
      shares,
      talkShares,
      control: controlOf(shares),
      talkControl: controlOf(talkShares),
      ownMost: Math.max(0, ...radios.map(({ airtimeMs }) => airtimeMs)) / time.nowMs,
      early: airtime.early,
      misses: this.channel.misses,
      refused: radios.reduce((sum, { refused }) => sum + refused, 0),
      links: this.nodes.reduce((sum, { mesh }) => sum + [...(mesh?.peers.connected ?? [])].length, 0) / 2,
      frames: Object.fromEntries(airtime.frames),
    };
  }
}
