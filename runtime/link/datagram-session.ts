/**
 * A session over datagrams. Record: flags and epoch (1 byte), counter (4 bytes, or 2 on slow links), ciphertext, tag
 * (16 bytes, or 8 on slow links). Records may be lost, repeated or reordered; what the session itself must get across
 * (confirm, rekey) is sent again until answered. A forged datagram is counted and changes nothing.
 * docs/protocol/link.md, "Datagram records"
 */
import type { Timer } from "../kernel/clock.ts";
import { Backoff } from "../kernel/backoff.ts";
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
import { openRecord, recordKey, releaseBuffer, sealRecord, takeBuffer, type RecordKey } from "./records.ts";
import type { Epoch } from "./rekey.ts";
import { ReplayWindow } from "./replay.ts";
import { LinkSession, type SessionParams } from "./session.ts";

/** Keys, counter and window of one epoch. */
interface EpochSlot {
  readonly number: number;
  readonly sendKey: RecordKey;
  readonly receiveKey: RecordKey;
  sendCounter: number;
  readonly window: ReplayWindow;
}

const NO_BYTES = new Uint8Array(0);

export class DatagramSession extends LinkSession {
  readonly isReliable = false;

  readonly #format: DatagramFormat;
  readonly #overhead: number;
  /** By the epoch's two low bits. At most three consecutive epochs live, so these never collide. */
  readonly #slots: (EpochSlot | undefined)[] = [undefined, undefined, undefined, undefined];
  #sending: EpochSlot;
  #dropPrevious: Timer | undefined;
  #resend: Timer | undefined;
  readonly #backoff: Backoff;
  /** The epoch of which the far end has not shown yet that it has our keys. */
  #unconfirmed: { readonly slot: EpochSlot; readonly message3: Uint8Array | undefined } | undefined;
  #confirmDeadlineMs = Infinity;

  constructor(params: SessionParams) {
    super(params);
    const { pipe, timing, random } = params;
    this.#format = datagramFormat(pipe.linkClass);
    this.#overhead = 1 + this.#format.counterBytes + this.#format.tagBytes;
    this.#backoff = new Backoff({ firstMs: timing.resendFirstMs, capMs: timing.resendCapMs }, random);
    this.#sending = this.#addSlot(this.rekeying.epoch);
  }

  /** What the path carries may change at any time. */
  get frameBytesMax(): number {
    return Math.min(FRAME_BYTES_MAX, this.params.pipe.mtu - this.#overhead);
  }

  protected get batchBytesMax(): number {
    return this.frameBytesMax;
  }

  protected get flushBytes(): number {
    return this.frameBytesMax;
  }

  /** Whether this datagram is a valid record of ours. Changes nothing. Borrowed. */
  proves(datagram: Uint8Array): boolean {
    return this.#open(datagram) !== undefined;
  }

  confirm(message3: Uint8Array | undefined): void {
    this.#confirmDeadlineMs = this.params.clock.monotonicMs() + this.params.timing.timeoutMs;
    this.#startConfirm(this.#sending, message3);
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
    this.write(out.subarray(0, end));
    releaseBuffer(out);
  }

  protected process(datagram: Uint8Array): void {
    const { counters } = this.params;
    const opened = this.#open(datagram);
    if (opened === undefined) {
      counters.recordsForged++;
      return;
    }
    const { slot, counter, plaintext, isBare } = opened;
    if (!slot.window.accepts(counter)) {
      counters.recordsReplayed++;
      return;
    }
    // One that comes late must not lead the pipe back to where its sender was.
    if (counter > slot.window.highest) this.params.pipe.proven?.();
    slot.window.mark(counter);
    this.#onEpochUsed(slot);
    this.takeItems(plaintext, isBare);
    if (!this.isOver) this.received();
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

  protected startRekey(): void {
    this.rekeying.request();
    this.#backoff.reset();
    this.#sendRequest();
  }

  protected onControl(kind: number, body: Uint8Array): void {
    switch (kind) {
      case ControlKind.confirm:
        if (this.mayControl(0, "mail")) this.sendEmpty();
        return;
      case ControlKind.rekeyRequest:
        return this.#onRekeyRequest(body);
      case ControlKind.rekeyReply:
        return this.#onRekeyReply(body);
      default:
        return;
    }
  }

  protected dispose(): void {
    this.#resend?.cancel();
    this.#dropPrevious?.cancel();
    this.#unconfirmed = undefined;
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
      this.#confirmDeadlineMs = Infinity;
      this.#resend?.cancel();
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
    this.#resend?.cancel();
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
      this.#resend?.cancel();
      this.#addSlot(epoch);
    }
    if (this.mayControl(reply.length)) this.sendControl(ControlKind.rekeyReply, reply);
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
    this.#confirmDeadlineMs = this.params.clock.monotonicMs() + this.params.limits.rekeyGraceMs;
    this.#startConfirm(slot, undefined);
  }

  #startConfirm(slot: EpochSlot, message3: Uint8Array | undefined): void {
    this.#unconfirmed = { slot, message3 };
    this.#backoff.reset();
    this.#sendConfirm();
  }

  #sendConfirm(): void {
    const unconfirmed = this.#unconfirmed;
    if (unconfirmed === undefined || this.isOver) return;
    if (this.params.clock.monotonicMs() >= this.#confirmDeadlineMs) {
      this.params.counters.sessionsUnconfirmed++;
      this.end(godwitError("GODWIT_HANDSHAKE_TIMEOUT", "the far end never confirmed the session"));
      return;
    }
    // Message 2 is answered already, and what is left of a link is little: it may be owed.
    if (this.mayControl(unconfirmed.message3?.length ?? 0, "mail")) {
      if (unconfirmed.message3 !== undefined) this.write(unconfirmed.message3);
      this.sendControl(ControlKind.confirm, NO_BYTES);
    }
    this.#sendAgain(() => this.#sendConfirm());
  }

  #sendRequest(): void {
    const request = this.rekeying.pendingRequest;
    if (request === undefined || this.isOver) return;
    if (this.mayControl(request.length)) this.sendControl(ControlKind.rekeyRequest, request);
    this.#sendAgain(() => this.#sendRequest());
  }

  #sendAgain(step: () => void): void {
    if (this.isOver) return;
    this.#resend?.cancel();
    this.#resend = this.params.clock.after(this.#backoff.nextMs(), step);
  }
}
