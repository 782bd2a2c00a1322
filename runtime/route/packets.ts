/**
 * Best-effort packets through the mesh: forwards what is for others, hands up what is for this node, and traces.
 * No custody here: what cannot go is dropped and counted once, with its reason. docs/protocol/frames.md "Packet".
 */
import type { Clock, Random, Timer } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import { asGodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { Reader, Writer } from "../wire/bytes.ts";
import { HOP_LIMIT, type Priority } from "../wire/constants.ts";
import {
  decodePacketHeader,
  encodePacket,
  PacketKind,
  packetPayload,
  spendHop,
  type PacketHeader,
  type Plane,
} from "../wire/packet.ts";
import { decideForward, type NextHop } from "./decide.ts";

/** Traces answered per second, so that a trace flood costs its sender more than us. */
const TRACE_REPLIES_PER_SECOND = 200;
const TRACE_WAIT_MS = 2_000;
const TRACE_PRIORITY: Priority = 0;
const TraceStage = { reached: 1, hopLimit: 2 } as const;
/** Hops asked at once; paths are short, and an answer ends the trace. */
const TRACE_BATCH = 4;
const TRACES_MAX = 256;

/** Why nobody here took a packet that has arrived. */
export type UndeliveredReason = "refused" | "unknown_kind";

export interface PacketDeps {
  readonly self: NodeId;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  /** A packet for this node; `payload` is borrowed. Answers why it was not taken. Throws GODWIT_DECODE. */
  deliver(header: PacketHeader, payload: Uint8Array): UndeliveredReason | undefined;
  nextHops(destination: NodeId, plane: Plane): readonly NextHop[];
  /** Wait before a frame to this neighbour would leave, 0.1 ms units. */
  queueDelay(neighbour: NodeId): number;
  /** False: no room or no link; the packet is dropped here. Borrowed. */
  send(to: NodeId, priority: Priority, frame: Uint8Array): boolean;
}

export interface TraceHop {
  readonly node: NodeId;
  readonly rttMs: number;
  readonly stage: "reached" | "hop";
}

export class Packets {
  readonly #deps: PacketDeps;
  readonly #dropped;
  readonly #forwarded;
  readonly #traces = new Map<number, (from: NodeId, stage: number) => void>();
  readonly #traceReplies: TokenBucket;
  readonly #queueDelay: (neighbour: NodeId) => number;

  constructor(deps: PacketDeps) {
    this.#deps = deps;
    this.#traceReplies = new TokenBucket(deps.clock, TRACE_REPLIES_PER_SECOND, TRACE_REPLIES_PER_SECOND);
    this.#queueDelay = (neighbour) => deps.queueDelay(neighbour);
    this.#dropped = deps.metrics.counter("godwit_packets_dropped_total");
    this.#forwarded = deps.metrics.counter("godwit_packets_forwarded_total");
  }

  /** Sends a packet of this node. False: nothing leads there now, or there is no room. */
  send(
    destination: NodeId,
    kind: number,
    payload: Uint8Array,
    options: { priority: Priority; hops?: number },
  ): boolean {
    const { self } = this.#deps;
    const hopsLeft = options.hops ?? HOP_LIMIT;
    const header: PacketHeader = {
      priority: options.priority,
      plane: "any",
      hopsLeft,
      kind,
      destination,
      source: self,
    };
    if (destination === self) {
      this.#handOver(header, payload);
      return true;
    }
    return this.#forward(header, encodePacket(header, payload), undefined);
  }

  /** As `send`, of a packet that is a whole frame already. Borrowed. */
  sendFrame(frame: Uint8Array): boolean {
    return this.#forward(decodePacketHeader(frame), frame, undefined);
  }

  /** A packet from a neighbour. Borrowed; one byte of it is changed in place. Throws GODWIT_DECODE. */
  onFrame(from: NodeId, frame: Uint8Array): void {
    const header = decodePacketHeader(frame);
    if (header.destination === this.#deps.self)
      return this.#arrive(() => this.#deliver(header, packetPayload(frame)));
    if (header.hopsLeft <= 1) {
      if (header.kind === PacketKind.traceRequest)
        return this.#arrive(() => this.#replyTrace(header, packetPayload(frame), TraceStage.hopLimit));
      return this.#dropped.add(1, { reason: "hop_limit" });
    }
    spendHop(frame);
    if (this.#forward({ ...header, hopsLeft: header.hopsLeft - 1 }, frame, from)) this.#forwarded.add();
  }

  /** Asks every hop on the way to say so. Answers hops in order; the last is the destination if `reached`. */
  async trace(destination: NodeId, signal: AbortSignal): Promise<{ reached: boolean; hops: TraceHop[] }> {
    const hops: TraceHop[] = [];
    if (destination === this.#deps.self)
      return { reached: true, hops: [{ node: destination, rttMs: 0, stage: "reached" }] };
    for (let first = 1; first <= HOP_LIMIT && !signal.aborted; first += TRACE_BATCH) {
      const batch = await Promise.all(
        Array.from({ length: TRACE_BATCH }, (_, i) => this.#traceHop(destination, first + i, signal)),
      );
      for (const hop of batch) {
        if (hop === undefined) continue;
        hops.push(hop);
        if (hop.stage === "reached") return { reached: true, hops };
      }
      if (batch.every((hop) => hop === undefined)) break;
    }
    return { reached: false, hops };
  }

  #traceHop(destination: NodeId, hopsLeft: number, signal: AbortSignal): Promise<TraceHop | undefined> {
    const { clock, random } = this.#deps;
    if (this.#traces.size >= TRACES_MAX) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const nonce = random.below(2 ** 32);
      const startMs = clock.monotonicMs();
      const end = (hop: TraceHop | undefined) => {
        timer.cancel();
        signal.removeEventListener("abort", onAbort);
        this.#traces.delete(nonce);
        resolve(hop);
      };
      const onAbort = () => end(undefined);
      const timer: Timer = clock.after(TRACE_WAIT_MS, onAbort);
      signal.addEventListener("abort", onAbort, { once: true });
      this.#traces.set(nonce, (node, stage) =>
        end({
          node,
          rttMs: clock.monotonicMs() - startMs,
          stage: stage === TraceStage.reached ? "reached" : "hop",
        }),
      );
      const payload = new Writer(4).u32(nonce).finish();
      const options = { priority: TRACE_PRIORITY, hops: hopsLeft };
      if (!this.send(destination, PacketKind.traceRequest, payload, options)) end(undefined);
    });
  }

  /** What a payload holds is its source's doing: a bad one must not cost the neighbour that only passed it on its link. */
  #arrive(handle: () => void): void {
    try {
      handle();
    } catch (error) {
      if (asGodwitError(error).kind !== "protocol") throw error;
      this.#dropped.add(1, { reason: "malformed" });
    }
  }

  #deliver(header: PacketHeader, payload: Uint8Array): void {
    switch (header.kind) {
      case PacketKind.traceRequest:
        return this.#replyTrace(header, payload, TraceStage.reached);
      case PacketKind.traceReply: {
        const reader = new Reader(payload);
        return this.#traces.get(reader.u32())?.(header.source, reader.u8());
      }
      default:
        return this.#handOver(header, payload);
    }
  }

  #handOver(header: PacketHeader, payload: Uint8Array): void {
    const reason = this.#deps.deliver(header, payload);
    if (reason !== undefined) this.#dropped.add(1, { reason });
  }

  #replyTrace(header: PacketHeader, payload: Uint8Array, stage: number): void {
    if (!this.#traceReplies.take()) return this.#dropped.add(1, { reason: "trace_rate" });
    const reply = new Writer(5).u32(new Reader(payload).u32()).u8(stage).finish();
    this.send(header.source, PacketKind.traceReply, reply, { priority: TRACE_PRIORITY });
  }

  #forward(header: PacketHeader, frame: Uint8Array, arrivedFrom: NodeId | undefined): boolean {
    const { self, nextHops, send } = this.#deps;
    const decision = decideForward(
      {
        destination: header.destination,
        self,
        hopsLeft: header.hopsLeft,
        arrivedFrom,
        size: frame.length,
        plane: header.plane,
        isCustody: false,
      },
      nextHops(header.destination, header.plane),
      this.#queueDelay,
    );
    if (decision.kind !== "forward") {
      this.#dropped.add(1, {
        reason: decision.kind === "deliver" ? "none" : decision.reason.replace("-", "_"),
      });
      return false;
    }
    if (send(decision.to, header.priority, frame)) return true;
    this.#dropped.add(1, { reason: "lane_full" });
    return false;
  }
}
