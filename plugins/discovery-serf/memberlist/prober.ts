/**
 * Who still answers: pings of our own, indirect ones through others, a stream as the last resort, and the same for others who ask. Owns sequence
 * numbers and what is waited for. Concludes nothing but a suspicion.
 */
import { BoundedMap } from "@godwit/sdk";
import {
  decodeAck,
  decodeIndirectPing,
  decodeNack,
  decodePing,
  encodeAck,
  encodeIndirectPing,
  encodeNack,
  encodePing,
  encodeSuspect,
  type At,
  type Ping,
} from "../wire/messages.ts";
import { MessageType, NodeState, Since } from "../wire/types.ts";
import { isSameAt, type Member, type Members } from "./members.ts";
import type { Net } from "./net.ts";
import type { Timers } from "./timers.ts";
import type { Awareness, Timing } from "./timing.ts";

/** Pings of ours, and of others' through us, that are not answered yet. */
const WAITING_MAX = 512;
/** Probes in a row that only a stream answered, of members that are not all the same unless there is one alone. */
const BLOCKED_PROBES = 4;

interface Waiting {
  readonly answered: (payload: Uint8Array) => void;
  readonly refused: () => void;
}

export interface ProberDeps {
  readonly timers: Timers;
  readonly timing: Timing;
  readonly awareness: Awareness;
  readonly members: Members;
  readonly net: Net;
  /** Nothing is sent in datagrams. */
  readonly isStreamsOnly: boolean;
  /** Whether this node sends anything there. */
  mayReach(at: At): boolean;
  /** What goes with an answer: this node's coordinate. */
  payload(): Uint8Array;
  /** A ping was answered. */
  pinged(member: Member, roundTripMs: number, payload: Uint8Array): void;
  /** News that go along in what is left of a datagram. */
  piggyback(room: number): Uint8Array[];
  /** It is answered over streams and not in datagrams; undefined: datagrams pass again. */
  blocked(member: Member | undefined): void;
  /** Not sent because its place in a table was taken, or because it would have gone to no member. */
  dropped(reason: "busy" | "stranger"): void;
}

export class Prober {
  readonly #deps: ProberDeps;
  readonly #waiting: BoundedMap<number, Waiting>;
  /** Names of those that only a stream reached lately. */
  #byStreamOnly: string[] = [];
  #seq: number;

  constructor(deps: ProberDeps, firstSeq: number) {
    this.#deps = deps;
    this.#seq = firstSeq;
    this.#waiting = new BoundedMap({
      name: "serf pings",
      max: WAITING_MAX,
      evicted: () => deps.dropped("busy"),
    });
  }

  get isBlocked(): boolean {
    return this.#byStreamOnly.length >= BLOCKED_PROBES;
  }

  /** One round after another until the end. */
  async run(): Promise<void> {
    const { timers, timing, members } = this.#deps;
    while (!timers.isClosed) {
      const startMs = timers.nowMs();
      const member = members.nextToProbe((one) => this.#deps.mayReach(one.at));
      if (member !== undefined && !members.hasLeft) await this.#probe(member);
      const restMs = timing.probeIntervalMs - (timers.nowMs() - startMs);
      // A round that took longer than its time is followed by the next at once, in a turn of its own.
      await timers.sleep(Math.max(1, restMs));
    }
  }

  handle(type: number, body: Uint8Array, from: At): boolean {
    switch (type) {
      case MessageType.ping:
        this.#onPing(decodePing(body), from);
        return true;
      case MessageType.indirectPing:
        this.#onIndirectPing(body, from);
        return true;
      case MessageType.ack: {
        const { seq, payload } = decodeAck(body);
        const waiting = this.#waiting.get(seq);
        this.#waiting.delete(seq);
        waiting?.answered(payload.slice());
        return true;
      }
      case MessageType.nack:
        this.#waiting.get(decodeNack(body))?.refused();
        return true;
      default:
        return false;
    }
  }

  /** The answer to a ping over a stream; undefined: it is not meant for this node. */
  answerStream(ping: Ping): Uint8Array | undefined {
    const { members } = this.#deps;
    return ping.node === "" || ping.node === members.self.name ? encodeAck(ping.seq, undefined) : undefined;
  }

  async #probe(member: Member): Promise<void> {
    const { timers, timing, awareness, members } = this.#deps;
    const intervalMs = awareness.scale(timing.probeIntervalMs);
    const startMs = timers.nowMs();
    const leftMs = () => Math.max(0, intervalMs - (timers.nowMs() - startMs));
    const seq = this.#nextSeq();
    const answer = Promise.withResolvers<Uint8Array | undefined>();
    let nacks = 0;
    if (!this.#deps.isStreamsOnly)
      this.#waiting.set(seq, { answered: answer.resolve, refused: () => nacks++ });
    try {
      const ping = { seq, node: member.name, source: members.self.at, sourceNode: members.self.name };
      if (!this.#deps.isStreamsOnly) {
        this.#sendPing(member, ping);
        const payload = await timers.within(answer.promise, timing.probeTimeoutMs);
        if (payload !== undefined) return this.#onAnswered(member, timers.nowMs() - startMs, payload);
      }
      if (timers.isClosed) return;
      const asked = this.#deps.isStreamsOnly ? 0 : this.#askOthers(member, ping);
      const byStream =
        member.vsn[1]! >= Since.tcpPing
          ? this.#deps.net.ask(member.at, encodePing(ping), leftMs()).then(
              (reply) => reply[0] === MessageType.ack && decodeAck(reply.subarray(1)).seq === seq,
              () => false,
            )
          : Promise.resolve(false);
      if (this.#deps.isStreamsOnly) {
        if (await byStream) return awareness.apply(-1);
      } else {
        const late = await timers.within(answer.promise, leftMs());
        if (late !== undefined) {
          awareness.apply(-1);
          return this.#noteDatagrams();
        }
        if (await byStream) return this.#noteStreamOnly(member);
      }
      if (timers.isClosed || members.hasLeft) return;
      // Those that were asked and said nothing at all may be as deaf as this node.
      awareness.apply(asked > 0 ? Math.max(0, asked - nacks) : 1);
      const now = members.get(member.name);
      if (now === undefined) return;
      members.suspect({ incarnation: member.incarnation, node: member.name, from: members.self.name });
    } finally {
      this.#waiting.delete(seq);
    }
  }

  #sendPing(member: Member, ping: Ping): void {
    const { net, members } = this.#deps;
    const messages = [encodePing(ping)];
    // A suspect is told so, and can object at once.
    if (member.state === NodeState.suspect)
      messages.push(
        encodeSuspect({ incarnation: member.incarnation, node: member.name, from: members.self.name }),
      );
    this.#send(member.at, messages, member.vsn[1]! >= Since.checksum, net);
  }

  #send(to: At, messages: Uint8Array[], hasChecksum: boolean, net: Net): void {
    const used = messages.reduce((total, { length }) => total + length + 2, 0);
    net.packet(to, [...messages, ...this.#deps.piggyback(net.room - used)], hasChecksum);
  }

  #onAnswered(member: Member, roundTripMs: number, payload: Uint8Array): void {
    this.#deps.awareness.apply(-1);
    this.#noteDatagrams();
    this.#deps.pinged(member, roundTripMs, payload);
  }

  /** How many of them say so when they get no answer either. */
  #askOthers(member: Member, ping: Ping): number {
    const { timing, members, net } = this.#deps;
    const helpers = members.pick(
      timing.indirectChecks,
      (one) => one.state === NodeState.alive && one.name !== member.name && this.#deps.mayReach(one.at),
    );
    let expected = 0;
    for (const helper of helpers) {
      const wantsNack = helper.vsn[1]! >= Since.nack;
      if (wantsNack) expected++;
      const message = encodeIndirectPing({ ...ping, target: member.at, wantsNack });
      this.#send(helper.at, [message], helper.vsn[1]! >= Since.checksum, net);
    }
    return expected;
  }

  #onPing(ping: Ping, from: At): void {
    const { members, net } = this.#deps;
    if (ping.node !== "" && ping.node !== members.self.name) return;
    this.#send(this.#answerTo(ping, from), [encodeAck(ping.seq, this.#deps.payload())], false, net);
  }

  /** Where it asks to be answered, if a member is there; else where it came from: nobody is sent what they did not ask for. */
  #answerTo({ source, sourceNode }: Ping, from: At): At {
    const member = this.#deps.members.get(sourceNode);
    return source !== undefined && member !== undefined && isSameAt(member.at, source) ? source : from;
  }

  #onIndirectPing(body: Uint8Array, from: At): void {
    const { members, net, timers, timing } = this.#deps;
    const asked = decodeIndirectPing(body);
    const target = members.get(asked.node);
    if (target === undefined || !isSameAt(target.at, asked.target) || !this.#deps.mayReach(target.at))
      return this.#deps.dropped("stranger");
    const answerTo = this.#answerTo(asked, from);
    const seq = this.#nextSeq();
    const late = timers.after(timing.probeTimeoutMs, () => {
      if (asked.wantsNack) net.packet(answerTo, [encodeNack(asked.seq)], false);
    });
    // Beyond the time of the nack an answer may still come, as long as the asker waits.
    const end = timers.after(timing.probeIntervalMs, () => this.#waiting.delete(seq));
    this.#waiting.set(seq, {
      answered: () => {
        late.cancel();
        end.cancel();
        net.packet(answerTo, [encodeAck(asked.seq, undefined)], false);
      },
      refused() {},
    });
    const { self } = members;
    const ping = encodePing({ seq, node: target.name, source: self.at, sourceNode: self.name });
    net.packet(target.at, [ping], target.vsn[1]! >= Since.checksum);
  }

  #noteDatagrams(): void {
    const was = this.isBlocked;
    this.#byStreamOnly = [];
    if (was) this.#deps.blocked(undefined);
  }

  #noteStreamOnly(member: Member): void {
    const was = this.isBlocked;
    this.#byStreamOnly = [...this.#byStreamOnly, member.name].slice(-BLOCKED_PROBES);
    if (this.isBlocked && !was) this.#deps.blocked(member);
  }

  #nextSeq(): number {
    this.#seq = (this.#seq + 1) >>> 0;
    return this.#seq;
  }
}
