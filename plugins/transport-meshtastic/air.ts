/**
 * One channel of one radio as it is now: its medium, its pipes, and what of the packets on our port belongs to which. It ends when the radio becomes another one, or
 * its channel does, and all of its pipes with it. What comes is from anybody: nothing is kept for a stranger before the node says so.
 */
import type { Clock, Medium, MediumHeard, Pipe, PluginContext, Random, Urgency } from "@godwit/sdk";
import { GodwitError } from "@godwit/sdk";
import { BoundedSet } from "@godwit/sdk/bounded";
import { formatMeshtasticEndpoint, parseMeshtasticEndpoint } from "./endpoint.ts";
import { MeshtasticPipe, type PipeAir } from "./pipe.ts";
import type { Radio, RadioPacket, RadioSend } from "./radio.ts";
import { Scheduler } from "./scheduler.ts";
import {
  DATAGRAM_BYTES_MAX,
  decodeHead,
  decodePacket,
  encodePacket,
  type Head,
  headByte,
  NUMBERS,
  packetBytesOf,
} from "./wire.ts";

const BROADCAST = 0xffff_ffff;
const PIPES_MAX = 256;
/** Packets of which copies are known: the radio's own memory of them is short. */
const SEEN_MAX = 512;
/** One answer to records of connections that are not known in this time, ms. */
const RESET_PACE_MS = 60_000;
const SILENCE_CHECK_MS = 3_600_000;
/** From this utilisation on neither presence nor digests leave, and from the second one on alarms alone. */
const QUIET_FROM = 0.25;
const ALARMS_FROM = 0.4;
const [ALARM, TEXT, RECEIPTS, PRESENCE, DIGESTS] = [0, 1, 2, 3, 4] as const satisfies Urgency[];
/** Of a datagram of a link, and of what is said to all, in the queue of the radio's owner: it is worth nothing later. */
const LIFETIME_MS = { pipe: 3_600_000, all: 600_000 } as const;

/** Why a packet on our port was dropped; labels. */
export type Dropped =
  "foreign" | "channel" | "copy" | "mqtt" | "own" | "not_ours" | "refused" | "reset" | "full";

export interface AirDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly instance: string;
  readonly transport: Pick<PluginContext["transport"], "accept" | "screen">;
  readonly radio: Radio;
  readonly channel: Radio["channels"][number];
  readonly port: number;
  readonly hops: number;
  /** Of all time, 0 to 1. */
  readonly share: number;
  utilisation(): number;
  send(send: RadioSend, payload: Uint8Array, done: () => void): boolean;
  dropped(reason: Dropped): void;
}

export class Air implements PipeAir {
  readonly medium: Medium;
  readonly tag: string;
  readonly endpoint: string;
  readonly slotMs: number;
  readonly #deps: AirDeps;
  readonly #scheduler: Scheduler;
  readonly #pipes = new Map<string, MeshtasticPipe>();
  readonly #seen = new BoundedSet<string>({ name: "packets of a radio", max: SEEN_MAX });
  #heardAll: MediumHeard = () => {};
  /** What is said to all and has not left yet: one of each urgency, so that what waits for a quieter channel keeps out nothing that mail needs. */
  readonly #broadcasting = new Set<Urgency>();
  #resetAtMs = Number.NEGATIVE_INFINITY;
  #silenceAtMs: number;
  #connection: number;
  #isOver = false;

  constructor(deps: AirDeps) {
    this.#deps = deps;
    const { radio, channel, clock, share } = deps;
    this.tag = channel.tag;
    this.endpoint = formatMeshtasticEndpoint(radio.number, channel.tag);
    this.slotMs = radio.slotMs;
    this.#connection = deps.random.below(NUMBERS);
    this.#silenceAtMs = clock.monotonicMs();
    this.medium = this.#newMedium();
    this.#scheduler = new Scheduler(clock, share, this.medium.airtimeMs(DATAGRAM_BYTES_MAX, "one"));
  }

  get nowMs(): number {
    return this.#deps.clock.monotonicMs();
  }

  get isFull(): boolean {
    return this.#scheduler.isFull;
  }

  get waiting(): number {
    return this.#scheduler.waiting;
  }

  /** Airtime that is not used yet, ms; below 0: owed. */
  get savedMs(): number {
    return this.#scheduler.savedMs;
  }

  later(fn: () => void): void {
    this.#deps.clock.after(0, fn);
  }

  /** No round trip: whether anybody is there the handshake shows. Throws GODWIT_DIAL_FAILED. */
  dial(endpoint: string): Pipe {
    const { number, tag } = parseMeshtasticEndpoint(endpoint);
    if (number === this.#deps.radio.number) throw failed(endpoint, "it is the radio of this node");
    if (tag !== undefined && tag !== this.tag)
      throw failed(endpoint, `the radio of this node hears the channel ${this.tag}`);
    if (this.#pipes.size >= PIPES_MAX) throw failed(endpoint, "there are too many links on this radio");
    do this.#connection = (this.#connection + 1) % NUMBERS;
    while (this.#pipes.has(keyOf(number, true, this.#connection)));
    return this.#add("outbound", number, this.#connection);
  }

  forget(pipe: MeshtasticPipe): void {
    this.#pipes.delete(keyOf(pipe.number, pipe.direction === "outbound", pipe.connection));
  }

  /** The radio takes packets again. */
  again(): void {
    this.#scheduler.again();
  }

  /** Borrowed. False: there is no room. `done`: it is on its way, or dropped; not within. */
  send(head: Head, to: number, bytes: Uint8Array, urgency: Urgency | undefined, done: () => void): boolean {
    const { port, hops, channel } = this.#deps;
    const kind = to === BROADCAST ? "all" : "pipe";
    const packet = encodePacket(head, bytes);
    const finish = () => {
      done();
      for (const pipe of this.#pipes.values()) pipe.drainIfRoom();
    };
    return this.#scheduler.offer({
      rank: urgency ?? TEXT,
      // Who is not told what it is for has been held back by who knew.
      isAdmitted: () => urgency === undefined || urgency <= this.#admits,
      costMs: this.medium.airtimeMs(bytes.length, kind === "all" ? "all" : "one"),
      send: () => {
        const send = {
          to,
          port,
          channel: channel.index,
          hopLimit: hops,
          rank: urgency ?? TEXT,
          lifetimeMs: LIFETIME_MS[kind],
        };
        return this.#deps.send(send, packet, finish);
      },
      drop: finish,
    });
  }

  hear({ from, to, id, channel, isPki, viaMqtt, payload }: RadioPacket): void {
    const { radio, dropped } = this.#deps;
    if (this.#isOver) return;
    if (from === radio.number) return dropped("own");
    // What came by the internet says nothing of who is in earshot, and its way back is no radio.
    if (viaMqtt) return dropped("mqtt");
    // Sealed for this radio by its key a packet is of no channel.
    if (!isPki && channel !== this.#deps.channel.index) return dropped("channel");
    const decoded = decodePacket(payload);
    if (decoded === undefined) return dropped("foreign");
    const name = `${from} ${id}`;
    if (this.#seen.has(name)) return dropped("copy");
    this.#seen.add(name);
    this.#checkSilence();
    for (const pipe of this.#pipes.values()) if (pipe.number === from) pipe.heard();
    const { head, body } = decoded;
    if (to === BROADCAST) {
      if (head.kind === "all") this.#heardAll(formatMeshtasticEndpoint(from, this.tag), body);
      else dropped("not_ours");
    } else if (to !== radio.number || head.kind === "all" || body.length === 0) dropped("not_ours");
    else if (head.kind === "reset") this.#onReset(from, body);
    else this.#onDatagram(from, head, body.slice());
  }

  /** All pipes end. */
  close(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#scheduler.close();
    for (const pipe of [...this.#pipes.values()]) pipe.break(why);
  }

  #newMedium(): Medium {
    const { radio, instance, utilisation, hops } = this.#deps;
    const admits = () => this.#admits;
    return {
      name: instance,
      rateBitsPerSecond: Math.max(1, radio.rateBitsPerSecond),
      // Whoever repeats it keeps the channel busy as long again.
      airtimeMs: (bytes, to) => {
        const costs = radio.costs[to];
        return (costs[Math.min(packetBytesOf(bytes), costs.length - 1)] ?? 0) * (1 + hops);
      },
      get utilisation() {
        return utilisation();
      },
      get admits() {
        return admits();
      },
      broadcastBytesMax: DATAGRAM_BYTES_MAX,
      broadcast: (bytes, urgency = PRESENCE) => {
        if (bytes.length > DATAGRAM_BYTES_MAX || this.#broadcasting.has(urgency) || this.#isOver)
          return false;
        if (this.#admits < urgency) return false;
        const done = () => void this.#broadcasting.delete(urgency);
        const isTaken = this.send({ kind: "all" }, BROADCAST, bytes, urgency, done);
        if (isTaken) this.#broadcasting.add(urgency);
        return isTaken;
      },
      listen: (heard) => void (this.#heardAll = heard),
      reaches: (endpoint) => {
        const { tag } = parseMeshtasticEndpoint(endpoint);
        return tag === undefined || tag === this.tag;
      },
    };
  }

  /** So busy is the channel that mail waits, 0 to 1; undefined: it does not. */
  get busy(): number | undefined {
    return this.#admits === ALARM ? this.#deps.utilisation() : undefined;
  }

  get #admits(): Urgency {
    const utilisation = this.#deps.utilisation();
    return utilisation >= ALARMS_FROM ? ALARM : utilisation >= QUIET_FROM ? RECEIPTS : DIGESTS;
  }

  #add(direction: "inbound" | "outbound", number: number, connection: number): MeshtasticPipe {
    const pipe = new MeshtasticPipe(this, direction, number, connection);
    this.#pipes.set(keyOf(number, direction === "outbound", connection), pipe);
    return pipe;
  }

  #onDatagram(from: number, head: Extract<Head, { kind: "pipe" }>, body: Uint8Array): void {
    // Its own numbers are those of the pipes that the far end answers on.
    const pipe = this.#pipes.get(keyOf(from, !head.isFromDialler, head.number));
    if (pipe !== undefined) return pipe.receive(body);
    if ((body[0]! & 0x80) !== 0) return this.#reset(from, head);
    if (!head.isFromDialler) return this.#deps.dropped("not_ours");
    const remote = formatMeshtasticEndpoint(from, this.tag);
    const verdict = this.#deps.transport.screen(body, remote);
    if (verdict === undefined) return this.#deps.dropped("refused");
    if (verdict !== "open") {
      const isTaken = this.send({ ...head, isFromDialler: false }, from, verdict, ALARM, () => {});
      if (!isTaken) this.#deps.dropped("full");
      return;
    }
    if (this.#pipes.size >= PIPES_MAX) return this.#deps.dropped("full");
    const accepted = this.#add("inbound", from, head.number);
    accepted.receive(body);
    this.#deps.transport.accept(accepted);
  }

  /** A record of a connection that is not here any more. Shorter than its cause. */
  #reset(from: number, head: Head): void {
    this.#deps.dropped("reset");
    if (this.nowMs - this.#resetAtMs < RESET_PACE_MS) return;
    this.#resetAtMs = this.nowMs;
    this.send({ kind: "reset" }, from, Uint8Array.of(headByte(head)), ALARM, () => {});
  }

  /** Anybody may have said so in its name: the link over it comes again by itself. */
  #onReset(from: number, body: Uint8Array): void {
    const head = decodeHead(body[0]!);
    if (head.kind !== "pipe") return this.#deps.dropped("not_ours");
    this.#pipes
      .get(keyOf(from, head.isFromDialler, head.number))
      ?.break("the far end has forgotten this connection");
  }

  #checkSilence(): void {
    if (this.nowMs - this.#silenceAtMs < SILENCE_CHECK_MS) return;
    this.#silenceAtMs = this.nowMs;
    for (const pipe of [...this.#pipes.values()]) pipe.checkSilence();
  }
}

const keyOf = (number: number, isOwn: boolean, connection: number): string =>
  `${number} ${isOwn ? "out" : "in"} ${connection}`;

export const failed = (endpoint: string, why: string) =>
  new GodwitError("GODWIT_DIAL_FAILED", `${endpoint} cannot be reached: ${why}`, {
    kind: "transport",
    retry: "later",
  });
