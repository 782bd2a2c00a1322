/**
 * A session over datagrams. Record: flags and epoch (1 byte), counter (4 bytes, or 2 on slow links), ciphertext, tag
 * (16 bytes, or 8 on slow links). Records may be lost, repeated or reordered; what the session itself must get across
 * (confirm, rekey) is sent again until answered. A forged datagram is counted and changes nothing.
 * docs/protocol/link.md, "Datagram records"
 */
import { Backoff } from "../kernel/backoff.ts";
import type { Timer } from "../kernel/clock.ts";
import { type Departure, isWaiting, newDeparture, noteDropped } from "../kernel/departure.ts";
import { godwitError } from "../kernel/errors.ts";
import { FRAME_BYTES_MAX } from "../wire/constants.ts";
import {
  BARE_FLAG,
  ControlKind,
  DATAGRAM_BACKLOG_BYTES_MAX,
  DATAGRAM_BACKLOG_ITEMS_MAX,
  datagramFormat,
  EPOCH_MASK,
  RECORD_FLAG,
  type DatagramFormat,
} from "./constants.ts";
import {
  CollectedFragments,
  cutFrameBytesMax,
  cutRecord,
  decodeFragment,
  type Fragment,
  SentFragments,
} from "./fragments.ts";
import { ALARM } from "../wire/urgency.ts";
import { openRecord, recordKey, releaseBuffer, sealRecord, takeBuffer, type RecordKey } from "./records.ts";
import type { Epoch } from "./rekey.ts";
import { Repeating } from "./repeating.ts";
import { ReplayWindow } from "./replay.ts";
import { ANSWERS_AWAITED, LinkSession, type SessionParams } from "./session.ts";

/** Keys, counter and window of one epoch. */
interface EpochSlot {
  readonly number: number;
  readonly sendKey: RecordKey;
  readonly receiveKey: RecordKey;
  sendCounter: number;
  readonly window: ReplayWindow;
}

const NO_BYTES = new Uint8Array(0);
/** From this version of the protocol on both ends put records together. */
const CUT_VERSION = 2;

export class DatagramSession extends LinkSession {
  readonly isReliable = false;

  readonly #format: DatagramFormat;
  readonly #overhead: number;
  /** By the epoch's two low bits. At most three consecutive epochs live, so these never collide. */
  readonly #slots: (EpochSlot | undefined)[] = [undefined, undefined, undefined, undefined];
  #sending: EpochSlot;
  #dropPrevious: Timer | undefined;
  /** The last answers to a confirm and to a rekey request. */
  #confirmed: Departure | undefined;
  #replied: Departure | undefined;
  /** What must arrive: the confirm of an epoch, or the request of one. */
  readonly #repeating: Repeating;
  /** Slow links of version 2 carry records in pieces. */
  readonly #cut: { readonly sent: SentFragments; readonly collected: CollectedFragments } | undefined;
  /** The epoch of which the far end has not shown yet that it has our keys. */
  #unconfirmed: { readonly slot: EpochSlot; readonly message3: Uint8Array | undefined } | undefined;

  constructor(params: SessionParams) {
    super(params);
    const { pipe, timing, random } = params;
    this.#format = datagramFormat(pipe.linkClass);
    this.#overhead = 1 + this.#format.counterBytes + this.#format.tagBytes;
    const backoff = new Backoff({ firstMs: timing.resendFirstMs, capMs: timing.resendCapMs }, random);
    this.#repeating = new Repeating({ clock: params.clock, backoff, answerMs: () => this.answerMs });
    this.#cut = pipe.linkClass === "slow" && this.version >= CUT_VERSION ? this.#newCut() : undefined;
    this.#sending = this.#addSlot(this.rekeying.epoch);
  }

  /** What the path carries may change at any time. */
  get frameBytesMax(): number {
    const { counterBytes, tagBytes } = this.#format;
    const cutMax =
      this.#cut === undefined ? 0 : cutFrameBytesMax(this.params.pipe.mtu, counterBytes, tagBytes);
    return Math.max(this.batchBytesMax, cutMax);
  }

  /** What is batched stays within one datagram: nothing small is lost with a piece of something else. */
  protected get batchBytesMax(): number {
    return Math.min(FRAME_BYTES_MAX, this.params.pipe.mtu - this.#overhead);
  }

  protected get flushBytes(): number {
    return this.batchBytesMax;
  }

  /** Whether this datagram is a valid record of ours. Changes nothing. Borrowed. */
  proves(datagram: Uint8Array): boolean {
    return this.#open(datagram) !== undefined;
  }

  confirm(message3: Uint8Array | undefined): void {
    this.#startConfirm(this.#sending, message3, this.params.timing.timeoutMs);
  }

  protected seal(plaintext: Uint8Array, isBare: boolean): void {
    const slot = this.#sending;
    const { counterBytes, tagBytes } = this.#format;
    const out = takeBuffer();
    const header = RECORD_FLAG | (isBare ? BARE_FLAG : 0) | (slot.number & EPOCH_MASK);
    const counter = slot.sendCounter++;
    out[0] = header;
    for (let i = 0; i < counterBytes; i++) out[1 + i] = (counter >>> (8 * (counterBytes - 1 - i))) & 255;
    const end = sealRecord(slot.sendKey, header, counter, plaintext, out, 1 + counterBytes, tagBytes);
    this.#writeRecord(out.subarray(0, end));
    releaseBuffer(out);
  }

  #writeRecord(record: Uint8Array): void {
    const { mtu } = this.params.pipe;
    if (this.#cut === undefined || record.length <= mtu) return this.write(record);
    const pieces = cutRecord(record, this.#format.counterBytes, mtu);
    const departures = this.#cut.sent.keep(pieces, this.urgency);
    for (const [index, piece] of pieces.entries())
      this.write(piece, index === pieces.length - 1, departures[index]);
  }

  protected process(datagram: Uint8Array): void {
    const fragment = this.#cut && decodeFragment(datagram, this.#format.counterBytes);
    if (fragment === undefined) this.#processRecord(datagram);
    else this.#collect(fragment);
  }

  #collect(fragment: Fragment): void {
    const { counters } = this.params;
    const slot = this.#slots[fragment.flags & EPOCH_MASK];
    if (slot === undefined) counters.recordsForged++;
    else if (!slot.window.accepts(fragment.counter)) counters.recordsReplayed++;
    else {
      const whole = this.#cut!.collected.take(fragment);
      if (whole !== undefined && this.#processRecord(whole.record)) this.#cut!.collected.forgive(whole.asks);
    }
  }

  /** Whether it was genuine and new. */
  #processRecord(record: Uint8Array): boolean {
    const { counters } = this.params;
    const opened = this.#open(record);
    if (opened === undefined) {
      counters.recordsForged++;
      return false;
    }
    const { slot, counter, plaintext, isBare } = opened;
    if (!slot.window.accepts(counter)) {
      counters.recordsReplayed++;
      return false;
    }
    // One that comes late must not lead the pipe back to where its sender was.
    if (counter > slot.window.highest) this.params.pipe.proven?.();
    slot.window.mark(counter);
    this.#onEpochUsed(slot);
    this.takeItems(plaintext, isBare);
    if (this.isOver) return true;
    this.#cut?.collected.later(record[0]!, counter);
    this.received();
    return true;
  }

  #newCut() {
    const { clock, timing, counters } = this.params;
    const { counterBytes } = this.#format;
    return {
      sent: new SentFragments(clock, counterBytes),
      collected: new CollectedFragments({
        clock,
        counterBytes,
        counters,
        silenceMs: () => Math.max(this.answerMs, timing.resendFirstMs),
        ask: (came, departure) => this.sendControl(ControlKind.fragments, came, departure),
      }),
    };
  }

  #sendMissing(came: Uint8Array): void {
    const { mtu, answerMs = 0 } = this.params.pipe;
    for (const { datagram, departure, urgency } of this.#cut?.sent.missing(came, answerMs) ?? [])
      if (datagram.length <= mtu) this.write(datagram, false, departure, urgency);
  }

  protected keep(datagram: Uint8Array): void {
    if (
      this.backlog.length >= DATAGRAM_BACKLOG_ITEMS_MAX ||
      this.backlogBytes + datagram.length > DATAGRAM_BACKLOG_BYTES_MAX
    ) {
      this.params.counters.recordsUnread++;
      return;
    }
    this.backlog.push(datagram);
    this.backlogBytes += datagram.length;
  }

  /** Until the far end has shown that it has the last keys, their confirm is what gets sent again. */
  protected override get mayRekey(): boolean {
    return super.mayRekey && this.#unconfirmed === undefined;
  }

  protected startRekey(asked: Departure): void {
    this.rekeying.request();
    let first: Departure | undefined = asked;
    this.#repeating.start((departure) => {
      const request = this.rekeying.pendingRequest;
      if (request === undefined || this.isOver) return this.#repeating.stop();
      if (!this.mayControl(request.length)) return noteDropped(departure);
      this.sendControl(ControlKind.rekeyRequest, request, departure, first);
      first = undefined;
    });
  }

  protected onControl(kind: number, body: Uint8Array): void {
    switch (kind) {
      case ControlKind.confirm:
        // The one that waits here still will do.
        if (!isWaiting(this.#confirmed) && this.mayControl(0, "mail"))
          this.sendEmpty((this.#confirmed = newDeparture()));
        return;
      case ControlKind.rekeyRequest:
        return this.#onRekeyRequest(body);
      case ControlKind.rekeyReply:
        return this.#onRekeyReply(body);
      case ControlKind.fragments:
        return this.#sendMissing(body);
      default:
        return;
    }
  }

  protected dispose(): void {
    this.#repeating.stop();
    this.#dropPrevious?.cancel();
    this.#unconfirmed = undefined;
    this.#cut?.sent.clear();
    this.#cut?.collected.clear();
  }

  #open(
    datagram: Uint8Array,
  ): { slot: EpochSlot; counter: number; plaintext: Uint8Array; isBare: boolean } | undefined {
    const { counterBytes, tagBytes } = this.#format;
    if (datagram.length < 1 + counterBytes + tagBytes) return undefined;
    const header = datagram[0]!;
    if ((header & ~(BARE_FLAG | EPOCH_MASK)) !== RECORD_FLAG) return undefined;
    const slot = this.#slots[header & EPOCH_MASK];
    if (slot === undefined) return undefined;
    let counter = 0;
    for (let i = 0; i < counterBytes; i++) counter = counter * 256 + datagram[1 + i]!;
    const sealed = datagram.subarray(1 + counterBytes);
    // The header byte is part of the nonce, so a changed flag shows in the tag.
    const plaintext = openRecord(slot.receiveKey, header, counter, sealed, tagBytes);
    if (plaintext === undefined) return undefined;
    return { slot, counter, plaintext, isBare: (header & BARE_FLAG) !== 0 };
  }

  #addSlot(epoch: Epoch): EpochSlot {
    const slot: EpochSlot = {
      number: epoch.number,
      sendKey: recordKey(epoch.keys.send),
      receiveKey: recordKey(epoch.keys.receive),
      sendCounter: 0,
      window: new ReplayWindow(this.#format.windowRecords),
    };
    this.#slots[epoch.number & EPOCH_MASK] = slot;
    return slot;
  }

  /** A valid record under `slot` has come: the far end has that epoch's keys. */
  #onEpochUsed(slot: EpochSlot): void {
    if (this.#unconfirmed?.slot === slot) {
      this.#unconfirmed = undefined;
      this.#repeating.stop();
    }
    if (this.rekeying.answeredEpoch?.number === slot.number) {
      this.rekeying.confirmAnswered();
      this.#sendUnder(slot);
    }
  }

  #sendUnder(slot: EpochSlot): void {
    const previous = this.#sending;
    this.#sending = slot;
    this.rxRecords = 0;
    this.#repeating.stop();
    this.#slots[(previous.number - 1) & EPOCH_MASK] = undefined;
    this.#dropPrevious?.cancel();
    this.#dropPrevious = this.params.clock.after(this.params.limits.previousEpochMs, () => {
      if (this.#slots[previous.number & EPOCH_MASK] === previous)
        this.#slots[previous.number & EPOCH_MASK] = undefined;
    });
    this.sendingKeyChanged();
  }

  #onRekeyRequest(body: Uint8Array): void {
    let reply: Uint8Array | undefined;
    const answeredBefore = this.rekeying.answeredEpoch;
    try {
      reply = this.rekeying.answer(body);
    } catch {
      this.params.counters.recordsForged++;
      return;
    }
    if (reply === undefined) return;
    const epoch = this.rekeying.answeredEpoch!;
    if (epoch !== answeredBefore) {
      // Our own request, if any, has lost.
      this.#repeating.stop();
      this.#addSlot(epoch);
    }
    if (epoch === answeredBefore && isWaiting(this.#replied)) return;
    if (!this.mayControl(reply.length)) return;
    this.#replied = newDeparture();
    this.sendControl(ControlKind.rekeyReply, reply, this.#replied);
  }

  #onRekeyReply(body: Uint8Array): void {
    let epoch: Epoch | undefined;
    try {
      epoch = this.rekeying.finish(body);
    } catch {
      this.params.counters.recordsForged++;
      return;
    }
    if (epoch === undefined) return;
    // What was batched for the old epoch leaves before the switch.
    this.flush();
    const slot = this.#addSlot(epoch);
    this.#sendUnder(slot);
    this.#startConfirm(slot, undefined, this.params.limits.rekeyGraceMs);
  }

  /** Its time counts from when it first left. */
  #startConfirm(slot: EpochSlot, message3: Uint8Array | undefined, timeoutMs: number): void {
    this.#unconfirmed = { slot, message3 };
    let first: Departure | undefined;
    this.#repeating.start((departure) => {
      if (this.#unconfirmed?.slot !== slot || this.isOver) return this.#repeating.stop();
      const nowMs = this.params.clock.monotonicMs();
      // Message 2 is answered already, and what is left of a link is little: it may be owed.
      if (!this.mayControl(0, "mail", message3)) return noteDropped(departure);
      first ??= departure;
      if (nowMs - (first.leftAtMs ?? nowMs) >= Math.max(timeoutMs, ANSWERS_AWAITED * this.answerMs)) {
        this.params.counters.sessionsUnconfirmed++;
        return this.end(godwitError("GODWIT_HANDSHAKE_TIMEOUT", "the far end never confirmed the session"));
      }
      if (message3 !== undefined) this.write(message3, true, undefined, ALARM);
      this.sendControl(ControlKind.confirm, NO_BYTES, departure);
    });
  }
}
