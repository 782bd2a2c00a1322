/**
 * Sends the table: who is told what and when, acknowledgements, retransmission. The feasibility distance is lowered here,
 * before the bytes that make it necessary exist. docs/protocol/routing.md "Updates".
 */
import { assert } from "../kernel/errors.ts";
import {
  appendUpdateEntry,
  beginUpdate,
  decodeRouteAck,
  METRIC_INFINITE,
  UPDATE_ENTRY_BYTES_MAX,
  UPDATE_HEADER_BYTES,
} from "../wire/route-messages.ts";
import type { Writer } from "../wire/bytes.ts";
import type { RouteCore } from "./core.ts";
import {
  DECREASE_DELAY_MS,
  profileTimers,
  UPDATE_FRAME_BYTES,
  UPDATES_UNDER_WAY_BYTES_MAX,
} from "./limits.ts";
import type { FrameInFlight, Neighbour } from "./neighbour.ts";
import { retest } from "./select.ts";
import type { Destination, PlaneName } from "./table.ts";

/** A link must at least carry one whole entry. */
export const UPDATE_MTU_MIN = UPDATE_HEADER_BYTES + UPDATE_ENTRY_BYTES_MAX;

export class UpdateSender {
  readonly #core: RouteCore;
  /** One counter for all neighbours: it never repeats within a life. */
  #serial = 0;
  #underWayBytes = 0;

  constructor(core: RouteCore) {
    this.#core = core;
    core.scheduleFlush = (neighbour, delayMs) => this.schedule(neighbour, delayMs);
    core.scheduleLazy = (neighbour) => {
      neighbour.lazyTimer ??= core.after(DECREASE_DELAY_MS, () => {
        neighbour.lazyTimer = undefined;
        neighbour.promoteLazy();
        this.flush(neighbour);
      });
    };
  }

  schedule(neighbour: Neighbour, delayMs: number): void {
    if (!neighbour.hasTable) return;
    neighbour.flushTimer ??= this.#core.after(delayMs, () => {
      neighbour.flushTimer = undefined;
      this.flush(neighbour);
    });
  }

  /** Everything, as to a stranger; leaves with the usual coalescing. */
  markAll(neighbour: Neighbour): void {
    if (!neighbour.hasTable) return;
    for (const destination of this.#core.table.values())
      if (destination === this.#core.self || destination.isReachable || destination.id === neighbour.id)
        neighbour.markSoon(destination.slot);
    this.schedule(neighbour, this.#core.coalesceMs(neighbour));
  }

  /** Everything of these buckets, with proofs. */
  markBuckets(neighbour: Neighbour, buckets: number): void {
    for (const destination of this.#core.table.values()) {
      if ((buckets & (1 << destination.bucket)) === 0) continue;
      neighbour.forgetProof(destination.slot);
      neighbour.markSoon(destination.slot);
    }
    this.schedule(neighbour, this.#core.coalesceMs(neighbour));
  }

  /** Sends what waits, as far as the window allows; acknowledgements and timeouts call again. */
  flush(neighbour: Neighbour): void {
    if (neighbour.peerTag === 0 || !neighbour.hasTable) return;
    const { framesInFlightMax } = profileTimers[neighbour.link.profile];
    const framesMax = Math.min(neighbour.window.frames, framesInFlightMax);
    while (neighbour.soonCount > 0 && neighbour.inFlight.length < framesMax && this.#mayHaveMore(neighbour))
      this.#sendFrame(neighbour);
    this.#armAckTimer(neighbour);
  }

  /** Updates to all neighbours that are not acknowledged, bytes. */
  get underWayBytes(): number {
    return this.#underWayBytes;
  }

  /** Whoever has nothing under way would not be called again by an acknowledgement. */
  #mayHaveMore({ inFlight }: Neighbour): boolean {
    return inFlight.length === 0 || this.#underWayBytes < UPDATES_UNDER_WAY_BYTES_MAX;
  }

  /** What was under way is no longer waited for: the neighbour is gone, or has forgotten all. */
  forget(neighbour: Neighbour): void {
    for (const { bytes } of neighbour.inFlight.splice(0)) this.#underWayBytes -= bytes;
  }

  #sendFrame(neighbour: Neighbour): void {
    const core = this.#core;
    const bytesMax = Math.max(UPDATE_MTU_MIN, Math.min(neighbour.link.mtu, UPDATE_FRAME_BYTES));
    const serial = this.#nextSerial();
    const frame = neighbour.beginFrame(serial, core.now());
    const capacity = Math.min(bytesMax, UPDATE_HEADER_BYTES + neighbour.soonCount * UPDATE_ENTRY_BYTES_MAX);
    let writer: Writer | undefined;
    neighbour.drainSoon((slot, hint) => {
      if (writer !== undefined && writer.length + UPDATE_ENTRY_BYTES_MAX > bytesMax) return false;
      const destination = core.table.at(slot);
      if (destination === undefined) return true;
      writer = this.#appendEntry(writer, neighbour, destination, hint, frame, capacity);
      return true;
    });
    if (writer === undefined) return;
    const bytes = writer.finish();
    frame.bytes = bytes.length;
    this.#underWayBytes += bytes.length;
    neighbour.inFlight.push(frame);
    neighbour.lastSentSerial = serial;
    core.deps.send(neighbour.id, bytes);
    core.deps.spend?.(bytes.length);
  }

  #appendEntry(
    writer: Writer | undefined,
    neighbour: Neighbour,
    destination: Destination,
    hint: boolean,
    frame: FrameInFlight,
    frameBytes: number,
  ): Writer | undefined {
    const core = this.#core;
    const any = core.exported(destination, "any", neighbour);
    const bulk = core.exported(destination, "bulk", neighbour);
    const isReachable = any.metric < METRIC_INFINITE || bulk.metric < METRIC_INFINITE;
    const { slot } = destination;
    const mayTeach = isReachable || hint || destination.id === neighbour.id;
    const proof = mayTeach && !neighbour.holdsProof(slot) ? destination.proof : undefined;
    if (!isReachable && proof === undefined && !neighbour.wasTold(slot)) return writer;
    if (any.metric < METRIC_INFINITE) this.lowerDistances(destination, "any");
    if (bulk.metric < METRIC_INFINITE) this.lowerDistances(destination, "bulk");
    const out = writer ?? beginUpdate(neighbour.peerTag, frame.serial, frameBytes);
    appendUpdateEntry(out, destination.id, any, bulk, proof);
    neighbour.noteSent(slot, frame, isReachable);
    frame.slots.push(slot);
    const keepsProof = proof !== undefined && (isReachable || destination.id === neighbour.id);
    frame.proofs.push(keepsProof ? proof.seqno : -1);
    return out;
  }

  /** Before the advertisement of what is selected exists: the distance covers it, and hops that no longer qualify are gone. */
  lowerDistances(destination: Destination, plane: PlaneName): void {
    if (destination === this.#core.self) return;
    const state = destination[plane];
    if (state.advertise(state.selected) && retest(this.#core.table.candidates, destination, plane))
      this.#core.touched.add(destination);
  }

  handleAck(neighbour: Neighbour, bytes: Uint8Array): void {
    const { tag, serial } = decodeRouteAck(bytes);
    if (tag !== neighbour.ownTag) return this.#core.drop("wrong-tag");
    const frame = neighbour.acknowledge(serial, (slot) => this.#core.table.at(slot)?.proof?.seqno);
    if (frame === undefined) return this.#core.drop("stale");
    this.#underWayBytes -= frame.bytes;
    const rttMs = this.#core.now() - frame.sentAtMs;
    neighbour.srttMs = neighbour.srttMs === undefined ? rttMs : neighbour.srttMs * 0.875 + rttMs * 0.125;
    neighbour.timeouts = 0;
    neighbour.window.acknowledged();
    neighbour.ackTimer?.cancel();
    neighbour.ackTimer = undefined;
    this.flush(neighbour);
  }

  /** What is under way may have died with a link: it goes out again, now. */
  resend(neighbour: Neighbour): void {
    neighbour.ackTimer?.cancel();
    neighbour.ackTimer = undefined;
    for (const frame of neighbour.inFlight.splice(0)) this.#revive(neighbour, frame);
    this.flush(neighbour);
  }

  #timeoutMs(neighbour: Neighbour): number {
    const { ackFirstMs, ackMinMs, ackMaxMs } = profileTimers[neighbour.link.profile];
    const baseMs =
      neighbour.srttMs === undefined
        ? ackFirstMs
        : Math.min(Math.max(neighbour.srttMs * 3 + ackMinMs / 2, ackMinMs), ackMaxMs);
    return Math.min(baseMs * 2 ** Math.min(neighbour.timeouts, 10), ackMaxMs);
  }

  #armAckTimer(neighbour: Neighbour): void {
    const oldest = neighbour.inFlight[0];
    if (oldest === undefined || neighbour.ackTimer !== undefined) return;
    const timeoutMs = this.#timeoutMs(neighbour);
    const waitMs = Math.max(oldest.sentAtMs + timeoutMs - this.#core.now(), 1);
    neighbour.ackTimer = this.#core.after(waitMs, () => {
      neighbour.ackTimer = undefined;
      const sentBeforeMs = this.#core.now() - timeoutMs;
      // The oldest may have been acknowledged since; only a frame that really waited counts as a timeout.
      if (neighbour.inFlight[0] !== undefined && neighbour.inFlight[0].sentAtMs <= sentBeforeMs + 1)
        this.#noteLate(neighbour);
      while (neighbour.inFlight.length > 0 && neighbour.inFlight[0]!.sentAtMs <= sentBeforeMs + 1)
        this.#revive(neighbour, neighbour.inFlight.shift()!);
      this.flush(neighbour);
    });
  }

  #noteLate(neighbour: Neighbour): void {
    neighbour.timeouts++;
    neighbour.window.late();
  }

  #revive(neighbour: Neighbour, frame: FrameInFlight): void {
    this.#underWayBytes -= frame.bytes;
    neighbour.revive(frame);
  }

  #nextSerial(): number {
    this.#serial++;
    // The columns keep 32 bits and use 0 for "nothing under way".
    if (this.#serial % 2 ** 32 === 0) this.#serial++;
    assert(this.#serial < 2 ** 48, "route serials are used up");
    return this.#serial;
  }
}
