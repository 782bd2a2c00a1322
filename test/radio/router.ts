/**
 * What a radio does with packets: sends its own, repeats those of others, acknowledges, and sends again what was not acknowledged. Flooding with
 * cancel, the next hop of 2.6 and later, and the three attempts of whoever wants an acknowledgement, as FloodingRouter, NextHopRouter and
 * ReliableRouter of the firmware. What a packet says belongs to the modules (modules.ts).
 */
import type { Random, Timer } from "@godwit/sdk";
import { create, toBinary } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import { frameMs, type Lora } from "../sim/radio/lora.ts";
import type { MediumTime } from "../sim/radio/medium.ts";
import type { AirtimeLog } from "./airtime-log.ts";
import type { Behaviour } from "./behaviour.ts";
import { History } from "./history.ts";
import { BROADCAST, HEADER_BYTES, HOPS_MAX, lastByte } from "./lora-frame.ts";
import type { NodeDb } from "./nodes.ts";
import {
  copyOf,
  dataOf,
  frameBytesOf,
  hopsTaken,
  isBroadcast,
  newData,
  newPacket,
  Port,
  Priority,
  RoutingError,
  type Packet,
} from "./packet.ts";
import { CW_MAX, CW_MIN, PROCESSING_MS, windowOfUtilisation } from "./plan.ts";
import type { Sealing } from "./sealing.ts";
import type { Transmitter } from "./transmitter.ts";

/** What a client is told of its packet: nothing wrong, a number of Routing.Error, or one of these. */
export const Refusal = { ok: 0, unknown: 32, disabled: 34 } as const;

const ATTEMPTS_OWN = 3;
const ATTEMPTS_CARRIED = 2;
/** Unacknowledged packets that it looks after. */
const PENDING_MAX = 64;

export type Role = "client" | "clientMute" | "router" | "routerLate";

export interface RouterOptions {
  readonly time: MediumTime;
  readonly random: Random;
  readonly lora: Lora;
  readonly slotMs: number;
  readonly number: () => number;
  readonly behaviour: () => Behaviour;
  readonly role: () => Role;
  readonly hopLimit: () => number;
  /** Of an hour, 0 to 1; above it nothing is sent. */
  readonly dutyCycle: () => number;
  /** No region, or switched off by its owner. */
  readonly isMute: () => boolean;
  readonly nodes: NodeDb;
  readonly sealing: Sealing;
  readonly airtime: AirtimeLog;
  readonly transmitter: Transmitter;
  readonly rxTime: () => number;
  /** What came for it, or for all; before it is acknowledged. Answers what it wants to be sent back, or that it keeps silent on a question. */
  readonly handle: (packet: Packet) => Packet | "silent" | undefined;
  /** Each packet that can be read and is about to be repeated or taken: a trace of the way is written into it. */
  readonly alter: (packet: Packet) => void;
  readonly toClient: (packet: Packet) => void;
  readonly notify: (text: string, replyId: number) => void;
}

interface Pending {
  readonly packet: Packet;
  left: number;
  dueMs: number;
  timer: Timer | undefined;
}

export class Router {
  readonly #options: RouterOptions;
  readonly #history: History;
  readonly #pending = new Map<string, Pending>();
  heard = 0;
  duplicates = 0;
  /** By what it was dropped for. */
  readonly drops = new Map<string, number>();

  constructor(options: RouterOptions) {
    this.#options = options;
    this.#history = new History(options.number);
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** It is switched off. */
  clear(): void {
    for (const { timer } of this.#pending.values()) timer?.cancel();
    this.#pending.clear();
  }

  newId(): number {
    return 1 + this.#options.random.below(2 ** 32 - 1);
  }

  /** Its own, to all unless it is changed. */
  newOwn(portnum: Mesh.Data["portnum"], payload: Uint8Array, changes: Partial<Packet> = {}): Packet {
    const { number, hopLimit, rxTime } = this.#options;
    return newPacket({
      from: number(),
      to: BROADCAST,
      id: this.newId(),
      hopLimit: hopLimit(),
      rxTime: rxTime(),
      payloadVariant: { case: "decoded", value: newData({ portnum, payload }) },
      ...changes,
    });
  }

  /** Of its own, by a module or its client. Answers 0, or why not. Its own from now on. */
  sendOwn(packet: Packet, isOfClient: boolean): number {
    const { number, nodes, hopLimit } = this.#options;
    if (packet.to === number()) {
      this.#take(packet, isOfClient ? "client" : "own");
      return Refusal.ok;
    }
    if (!isBroadcast(packet) && packet.channel === 0 && !packet.pkiEncrypted)
      packet.channel = nodes.get(packet.to)?.channel ?? 0;
    if (isOfClient && packet.wantAck && packet.hopLimit === 0) packet.hopLimit = hopLimit();
    if (packet.wantAck) this.#await(copyOf(packet), ATTEMPTS_OWN);
    const airtimeMs = frameMs(this.#options.lora, frameBytesOf(packet));
    for (const pending of this.#pending.values())
      if (pending.packet.id !== packet.id) this.#postpone(pending, airtimeMs);
    return this.#forward(packet);
  }

  /** A frame was heard. */
  receive(packet: Packet): void {
    const { number, behaviour } = this.#options;
    this.heard++;
    if (packet.from === BROADCAST) return this.#drop("broadcast sender");
    const isOurs = packet.from === number();
    if (!isOurs && behaviour().dropsPreHop && packet.hopStart < packet.hopLimit) return this.#drop("pre-hop");
    const airtimeMs = frameMs(this.#options.lora, frameBytesOf(packet));
    const opened = this.#options.sealing.open(packet);
    if (opened === "refused") return this.#drop("refused");
    if (opened === "opaque" && behaviour().repeatsOpaqueAlways) return this.#repeatOpaque(packet);
    const known = opened === "opaque" ? packet : opened;
    if (isOurs) this.#hearOwn(known);
    for (const pending of this.#pending.values()) this.#postpone(pending, airtimeMs);
    if (this.#isOld(known)) return;
    if (isOurs) return this.#drop("own");
    const data = dataOf(known);
    if (data !== undefined && behaviour().dropsPreHop && known.hopStart === 0 && data.bitfield === undefined)
      return this.#drop("pre-hop");
    this.#take(known, "air");
  }

  /** Tells somebody, itself included, that his packet arrived or why not. */
  acknowledge(
    error: Mesh.Routing_Error,
    to: number,
    requestId: number,
    channel: number,
    hops: number,
    wantAck = false,
  ): void {
    const routing = create(Mesh.RoutingSchema, { variant: { case: "errorReason", value: error } });
    const packet = this.newOwn(Port.ROUTING_APP, toBinary(Mesh.RoutingSchema, routing), {
      to,
      channel,
      hopLimit: hops,
      priority: Priority.ACK,
      wantAck,
    });
    dataOf(packet)!.requestId = requestId;
    this.sendOwn(packet, false);
  }

  /** As many hops as the question needed, and two more. */
  hopsBack(packet: Packet): number {
    const { hopLimit } = this.#options;
    const taken = hopsTaken(packet);
    if (taken === undefined) return packet.hopStart === 0 ? 0 : hopLimit();
    if (taken > hopLimit()) return Math.min(HOPS_MAX, taken);
    return taken + 2 < hopLimit() ? taken + 2 : hopLimit();
  }

  /** The last byte of whom a packet to that node goes by; 0: flooding. */
  nextHopTo(node: number, relay: number): number {
    const { nodes, behaviour } = this.#options;
    const known = nodes.get(node);
    if (known === undefined || known.nextHop === 0 || known.nextHop === relay) return 0;
    return behaviour().checksNextHop && !nodes.isUnique(known.nextHop, true) ? 0 : known.nextHop;
  }

  /** Seals, and puts into the queue. */
  #transmit(packet: Packet): number {
    const { number, airtime, dutyCycle, isMute, sealing, transmitter, notify } = this.#options;
    const isOwn = packet.from === number();
    if (dutyCycle() < 1 && airtime.ownPercent > 100 * dutyCycle()) {
      if (!isOwn) {
        this.#drop("duty cycle");
        return RoutingError.DUTY_CYCLE_LIMIT;
      }
      notify(
        `Duty cycle limit exceeded. You can send again in ${airtime.silentMinutes(dutyCycle())} mins`,
        packet.id,
      );
      return this.#abort(RoutingError.DUTY_CYCLE_LIMIT, packet);
    }
    if (isBroadcast(packet)) packet.wantAck = false;
    packet.relayNode = lastByte(number());
    if (isOwn) packet.hopStart = packet.hopLimit;
    fixPriority(packet);
    const error = sealing.seal(packet);
    if (error !== RoutingError.NONE) {
      packet.channel = 0;
      return this.#abort(error, packet);
    }
    if (isMute()) return Refusal.disabled;
    return transmitter.enqueue(packet) ? Refusal.ok : Refusal.unknown;
  }

  #abort(error: Mesh.Routing_Error, packet: Packet): number {
    this.#forget(packet.from, packet.id);
    this.acknowledge(error, packet.from, packet.id, packet.channel, 0);
    return error;
  }

  /** By its next hop, or to all in earshot. */
  #forward(packet: Packet): number {
    const { number } = this.#options;
    packet.relayNode = lastByte(number());
    packet.nextHop = isBroadcast(packet) ? 0 : this.nextHopTo(packet.to, packet.relayNode);
    this.#history.note(packet);
    const isOursToAwait = packet.from === number() && packet.wantAck;
    if (!isOursToAwait && packet.nextHop !== 0 && (packet.hopLimit > 0 || packet.wantAck))
      this.#await(copyOf(packet), ATTEMPTS_CARRIED);
    return this.#transmit(packet);
  }

  #flood(packet: Packet): number {
    packet.relayNode = lastByte(this.#options.number());
    packet.nextHop = 0;
    this.#history.note(packet);
    return this.#transmit(packet);
  }

  /** Of a channel that it cannot read. */
  #repeatOpaque(packet: Packet): void {
    const { number } = this.#options;
    const isAsked = packet.nextHop === 0 || packet.nextHop === lastByte(number());
    if (packet.to === number() || packet.id === 0 || packet.hopLimit === 0 || !this.#repeats || !isAsked)
      return;
    this.#transmit(copyOf(packet, { hopLimit: packet.hopLimit - 1 }));
  }

  get #repeats(): boolean {
    return this.#options.role() !== "clientMute";
  }

  /** Somebody repeats a packet of ours: that is an acknowledgement, of a kind. */
  #hearOwn(packet: Packet): void {
    const pending = this.#pending.get(keyOf(packet.from, packet.id));
    if (pending === undefined) return;
    const { number } = this.#options;
    this.acknowledge(RoutingError.NONE, number(), packet.id, pending.packet.channel, 0);
    this.#forget(packet.from, packet.id);
  }

  /** Seen before: what follows from hearing it again. */
  #isOld(packet: Packet): boolean {
    const verdict = this.#history.note(packet);
    const { transmitter, number } = this.#options;
    const { from, id } = packet;
    if (verdict.isUpgraded && this.#repeats && packet.hopLimit > 0) {
      if (transmitter.cancel(from, id, packet.hopLimit)) {
        this.#perhapsRepeat(packet);
        this.duplicates++;
        return true;
      }
      // As firmware: more hops, and it had gone already, is new again for the rest.
    }
    if (!verdict.isSeen) return false;
    this.duplicates++;
    if (isBroadcast(packet)) {
      const isAgain = packet.hopStart > 0 && packet.hopStart === packet.hopLimit;
      if (!isAgain) this.#cancel(packet);
      else if (!transmitter.has(from, id)) this.#perhapsRepeat(packet);
      return true;
    }
    this.#forget(from, id);
    const isAgain = hopsTaken(packet) === 0;
    if (verdict.isFallback || isAgain) {
      if (transmitter.has(from, id)) return true;
      const isRepeated = this.#perhapsRepeat(packet);
      if (!verdict.isFallback && !isRepeated && packet.to === number() && packet.wantAck)
        this.acknowledge(RoutingError.NONE, from, id, dataOf(packet) === undefined ? 0 : packet.channel, 0);
    } else if (!verdict.wasNextHop) this.#cancel(packet);
    return true;
  }

  /** Another one repeated it. */
  #cancel({ from, id }: Packet): void {
    const { transmitter, role } = this.#options;
    if (role() === "routerLate") transmitter.makeLate(from, id);
    else if (role() !== "router") transmitter.cancel(from, id);
  }

  /** For the modules, the client, and whoever is further away. */
  #take(packet: Packet, from: "air" | "own" | "client"): void {
    const { number, handle, alter } = this.#options;
    const data = dataOf(packet);
    const isForUs = packet.to === number() || isBroadcast(packet);
    if (from === "air" && data !== undefined) alter(packet);
    const answer = data !== undefined && isForUs && from !== "own" ? handle(packet) : undefined;
    const wantsAnswer = data?.wantResponse === true && isForUs;
    const reply = wantsAnswer && typeof answer === "object" ? answer : undefined;
    this.#sniff(packet, reply !== undefined);
    // What a client sent is not handed back to it.
    if (isForUs && from !== "client") this.#options.toClient(packet);
    if (!wantsAnswer) return;
    if (reply !== undefined) {
      reply.to = from === "air" ? packet.from : number();
      reply.channel = packet.channel;
      reply.hopLimit = this.hopsBack(packet);
      reply.wantAck = from === "air" && packet.wantAck;
      if (reply.priority === Priority.UNSET) reply.priority = Priority.RELIABLE;
      dataOf(reply)!.requestId = packet.id;
      this.sendOwn(reply, false);
    } else if (from === "air" && answer !== "silent")
      this.acknowledge(
        RoutingError.NO_RESPONSE,
        packet.from,
        packet.id,
        packet.channel,
        this.hopsBack(packet),
      );
  }

  #sniff(packet: Packet, isAnswered: boolean): void {
    const { number, nodes, transmitter } = this.#options;
    const own = number();
    const data = dataOf(packet);
    const isToUs = packet.to === own;
    if (isToUs && packet.from !== own && !isAnswered) this.#acknowledgeTaken(packet);
    if (isToUs && data !== undefined && data.requestId !== 0) this.#forget(own, data.requestId);
    if (packet.from === own) return;
    const answered = data === undefined ? 0 : data.requestId || data.replyId;
    if (data !== undefined && answered !== 0 && !isBroadcast(packet)) {
      this.#learn(packet, data.requestId);
      if (!isToUs) {
        // The two ends have met: nobody needs the question any more.
        transmitter.cancel(packet.to, data.requestId);
        this.#forget(packet.to, data.requestId);
      }
    }
    nodes.update(packet);
    this.#perhapsRepeat(packet);
  }

  #acknowledgeTaken(packet: Packet): void {
    const { nodes, number } = this.#options;
    const data = dataOf(packet);
    const hops = this.hopsBack(packet);
    const say = (error: Mesh.Routing_Error, channel: number, hopLimit: number, wantAck = false) =>
      this.acknowledge(error, packet.from, packet.id, channel, hopLimit, wantAck);
    if (!packet.wantAck) {
      if (packet.nextHop === lastByte(number()) && packet.hopLimit > 0)
        say(RoutingError.NONE, data === undefined ? 0 : packet.channel, 0);
      return;
    }
    if (data === undefined) {
      const isOfKeys = packet.channel === 0 && nodes.keyOf(packet.from) === undefined;
      return say(isOfKeys ? RoutingError.PKI_UNKNOWN_PUBKEY : RoutingError.NO_CHANNEL, 0, hops);
    }
    // An acknowledgement of text is worth one of its own.
    if (data.portnum === Port.TEXT_MESSAGE_APP) return say(RoutingError.NONE, packet.channel, hops, true);
    if (data.requestId === 0 && data.replyId === 0) return say(RoutingError.NONE, packet.channel, hops);
    if (hopsTaken(packet) === 0 || packet.nextHop !== 0) say(RoutingError.NONE, packet.channel, 0);
  }

  /** Whoever carried the answer, and the question as well, is the way to who answered. */
  #learn(packet: Packet, requestId: number): void {
    const { nodes, number, behaviour } = this.#options;
    const own = lastByte(number());
    const relayers = this.#history.relayersOf(packet.to, requestId);
    const isOurs = relayers.includes(own);
    const isWay = isOurs && relayers.includes(packet.relayNode);
    const isDirect = relayers.length === 1 && isOurs && hopsTaken(packet) === 0;
    if (!isWay && !isDirect) return;
    if (behaviour().checksNextHop && !nodes.isUnique(packet.relayNode, false)) return;
    const node = nodes.get(packet.from);
    if (node !== undefined) node.nextHop = packet.relayNode;
  }

  /** True: it is repeated, now or in a moment. */
  #perhapsRepeat(packet: Packet): boolean {
    const { number } = this.#options;
    const own = number();
    if (packet.to === own || packet.from === own || packet.hopLimit === 0 || packet.id === 0) return false;
    if (!this.#repeats) return false;
    const isAsked = packet.nextHop === lastByte(own);
    if (packet.nextHop !== 0 && !isAsked) return false;
    const copy = copyOf(packet, { hopLimit: packet.hopLimit - 1 });
    if (isAsked) this.#forward(copy);
    else this.#flood(copy);
    return true;
  }

  #await(packet: Packet, attempts: number): void {
    this.#forget(packet.from, packet.id, false);
    if (this.#pending.size >= PENDING_MAX) return;
    const pending: Pending = { packet, left: attempts - 1, dueMs: 0, timer: undefined };
    this.#pending.set(keyOf(packet.from, packet.id), pending);
    this.#setDue(pending);
  }

  #setDue(pending: Pending): void {
    const { time } = this.#options;
    pending.dueMs = time.nowMs + this.repeatMs(pending.packet);
    this.#arm(pending);
  }

  #arm(pending: Pending): void {
    const { time } = this.#options;
    pending.timer?.cancel();
    pending.timer = time.after(Math.max(1, pending.dueMs - time.nowMs), () => this.#again(pending));
  }

  /** How long it waits for an acknowledgement, ms. */
  repeatMs(packet: Packet): number {
    const { lora, airtime, slotMs } = this.#options;
    const bytes = frameBytesOf(packet) + HEADER_BYTES;
    const window = windowOfUtilisation(airtime.channelPercent);
    const slots = 2 ** window + 2 * CW_MAX + 2 ** Math.trunc((CW_MAX + CW_MIN) / 2);
    return 2 * frameMs(lora, bytes) + slots * slotMs + PROCESSING_MS;
  }

  /** Meanwhile no acknowledgement could have been heard. */
  #postpone(pending: Pending, ms: number): void {
    pending.dueMs += ms;
    this.#arm(pending);
  }

  #again(pending: Pending): void {
    const { number } = this.#options;
    const { packet } = pending;
    if (pending.left === 0) {
      this.#forget(packet.from, packet.id, false);
      if (packet.from === number())
        this.acknowledge(RoutingError.MAX_RETRANSMIT, number(), packet.id, packet.channel, 0);
      return;
    }
    const isLast = pending.left === 1;
    pending.left--;
    this.#setDue(pending);
    const copy = copyOf(packet);
    if (isBroadcast(packet) || isLast) {
      if (!isBroadcast(packet)) this.#failedTo(packet.to);
      this.#flood(copyOf(copy, { nextHop: 0 }));
    } else {
      copy.nextHop = this.nextHopTo(packet.to, lastByte(number()));
      copy.relayNode = lastByte(number());
      this.#history.note(copy);
      this.#transmit(copy);
    }
  }

  #failedTo(to: number): void {
    const node = this.#options.nodes.get(to);
    if (node !== undefined) node.nextHop = 0;
  }

  /** No more attempts, and none that waits in the queue. */
  #forget(from: number, id: number, isCancelled = true): void {
    const key = keyOf(from, id);
    const pending = this.#pending.get(key);
    if (pending === undefined) return;
    pending.timer?.cancel();
    this.#pending.delete(key);
    const hasLeft = pending.left < ATTEMPTS_OWN - 1;
    const { number, transmitter, role } = this.#options;
    const mayCancel = from === number() || role() === "client";
    if (isCancelled && hasLeft && mayCancel) transmitter.cancel(from, id);
  }

  #drop(reason: string): void {
    this.drops.set(reason, (this.drops.get(reason) ?? 0) + 1);
  }
}

const keyOf = (from: number, id: number): string => `${from} ${id}`;

/** Who does not say how urgent it is. */
function fixPriority(packet: Packet): void {
  if (packet.priority !== Priority.UNSET) return;
  const data = dataOf(packet);
  packet.priority = packet.wantAck ? Priority.RELIABLE : Priority.DEFAULT;
  if (data === undefined) return;
  if (data.portnum === Port.ROUTING_APP) packet.priority = Priority.ACK;
  else if (data.portnum === Port.TEXT_MESSAGE_APP || data.portnum === Port.ADMIN_APP)
    packet.priority = Priority.HIGH;
  else if (data.requestId !== 0) packet.priority = Priority.RESPONSE;
  else if (data.wantResponse) packet.priority = Priority.RELIABLE;
}
