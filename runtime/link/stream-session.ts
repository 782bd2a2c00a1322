/**
 * A session over a byte stream. Record: length of what follows (2 bytes), ciphertext, tag (16 bytes). Nonces are
 * implicit, so any loss, repetition, reordering or truncation ends the session. docs/protocol/link.md, "Stream records"
 */
import { FRAME_BYTES_MAX } from "../wire/constants.ts";
import { decodeError } from "../wire/bytes.ts";
import type { Departure } from "../kernel/departure.ts";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import { ControlKind, FLUSH_BYTES, RECORD_PLAINTEXT_MAX, STREAM_BACKLOG_BYTES_MAX } from "./constants.ts";
import { TAG_BYTES } from "../identity/noise.ts";
import { openRecord, recordKey, releaseBuffer, sealRecord, takeBuffer, type RecordKey } from "./records.ts";
import { LinkSession, type SessionParams } from "./session.ts";

const LENGTH_BYTES = 2;
const TARGET_BYTES = 4;

export class StreamSession extends LinkSession {
  readonly isReliable = true;
  readonly frameBytesMax = FRAME_BYTES_MAX;
  protected readonly batchBytesMax = RECORD_PLAINTEXT_MAX;
  protected readonly flushBytes = FLUSH_BYTES;

  #sendKey: RecordKey;
  #receiveKey: RecordKey;
  #sendCounter = 0;
  #receiveCounter = 0;
  /** A record of which only the beginning has arrived. */
  #partial: Uint8Array | undefined;
  #partialLength = 0;

  constructor(params: SessionParams) {
    super(params);
    const { keys } = params.established;
    this.#sendKey = recordKey(keys.send);
    this.#receiveKey = recordKey(keys.receive);
  }

  confirm(message3: Uint8Array | undefined): void {
    if (message3 !== undefined) this.write(message3);
    this.sendEmpty();
  }

  protected seal(plaintext: Uint8Array): void {
    const out = takeBuffer();
    const length = plaintext.length + TAG_BYTES;
    out[0] = length >>> 8;
    out[1] = length & 255;
    const end = sealRecord(this.#sendKey, 0, this.#sendCounter++, plaintext, out, LENGTH_BYTES, TAG_BYTES);
    this.write(out.subarray(0, end));
    releaseBuffer(out);
  }

  protected process(chunk: Uint8Array): void {
    let at = this.#partial === undefined ? 0 : this.#fillPartial(this.#partial, chunk);
    while (this.#mayProcess) {
      const left = chunk.length - at;
      if (left < LENGTH_BYTES) break;
      const length = (chunk[at]! << 8) | chunk[at + 1]!;
      if (length < TAG_BYTES) return this.#corrupt("a record is shorter than its tag");
      if (left < LENGTH_BYTES + length) break;
      at += LENGTH_BYTES + length;
      this.#takeRecord(chunk.subarray(at - length, at));
    }
    if (this.isOver || at === chunk.length) return;
    const rest = chunk.subarray(at);
    if (this.#mayProcess) {
      this.#partial = takeBuffer();
      this.#partial.set(rest);
      this.#partialLength = rest.length;
    } else {
      // Paused, or not opened yet: what is left goes before anything that comes later.
      this.backlog.unshift(new Uint8Array(rest));
      this.backlogBytes += rest.length;
    }
  }

  protected keep(bytes: Uint8Array): void {
    this.backlog.push(bytes);
    this.backlogBytes += bytes.length;
    if (this.backlogBytes > STREAM_BACKLOG_BYTES_MAX)
      this.end(godwitError("GODWIT_QUEUE_FULL", "the pipe went on delivering after it was paused"));
  }

  protected override get mustKeep(): boolean {
    return this.onProof === undefined && super.mustKeep;
  }

  protected startRekey(departure: Departure): void {
    this.sendControl(ControlKind.rekeyRequest, this.rekeying.request(), departure);
  }

  protected onControl(kind: number, body: Uint8Array, isLast: boolean): void {
    switch (kind) {
      case ControlKind.rekeyRequest:
        return this.#onRekeyRequest(body);
      case ControlKind.rekeyReply:
        return this.#onRekeyReply(body, isLast);
      case ControlKind.rekeySwitch:
        return this.#onRekeySwitch(body, isLast);
      default:
        // A later version may say more; what it says without being asked must be ignorable.
        return;
    }
  }

  protected dispose(): void {
    if (this.#partial !== undefined) releaseBuffer(this.#partial);
    this.#partial = undefined;
    this.#partialLength = 0;
  }

  get #mayProcess(): boolean {
    return !this.isOver && (this.onProof !== undefined || (this.handlers !== undefined && !this.isPaused));
  }

  /** Completes the open record from the front of `chunk`; answers how much of it was used. */
  #fillPartial(partial: Uint8Array, chunk: Uint8Array): number {
    let at = 0;
    while (this.#partialLength < LENGTH_BYTES) {
      if (at === chunk.length) return at;
      partial[this.#partialLength++] = chunk[at++]!;
    }
    const length = (partial[0]! << 8) | partial[1]!;
    if (length < TAG_BYTES) {
      this.#corrupt("a record is shorter than its tag");
      return chunk.length;
    }
    const taken = Math.min(LENGTH_BYTES + length - this.#partialLength, chunk.length - at);
    partial.set(chunk.subarray(at, at + taken), this.#partialLength);
    this.#partialLength += taken;
    if (this.#partialLength < LENGTH_BYTES + length) return at + taken;
    this.#partial = undefined;
    this.#partialLength = 0;
    this.#takeRecord(partial.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
    releaseBuffer(partial);
    return at + taken;
  }

  #takeRecord(sealed: Uint8Array): void {
    const plaintext = openRecord(this.#receiveKey, 0, this.#receiveCounter++, sealed, TAG_BYTES);
    if (plaintext === undefined) return this.#corrupt("a record failed authentication");
    const { onProof } = this;
    if (onProof !== undefined) {
      if (plaintext.length > 0) return this.#corrupt("the first record is not empty");
      this.onProof = undefined;
      onProof();
      return;
    }
    this.takeItems(plaintext, false);
    if (!this.isOver) this.received();
  }

  #corrupt(message: string): void {
    this.params.counters.recordsCorrupt++;
    this.end(decodeError(message));
  }

  /** Our sending direction changes with the reply; the far end's with its switch. */
  #onRekeyRequest(body: Uint8Array): void {
    // A second answer would start the sending key's counter again.
    if (!this.rekeying.mayAnswerFirst)
      return this.#corrupt("a rekey request before the epoch switch of the last one");
    const reply = this.#verified(() => this.rekeying.answer(body));
    const epoch = this.rekeying.answeredEpoch;
    if (reply === undefined || epoch === undefined) return;
    this.sendControl(ControlKind.rekeyReply, reply);
    this.#sendUnder(epoch.keys.send);
  }

  #onRekeyReply(body: Uint8Array, isLast: boolean): void {
    const epoch = this.#verified(() => this.rekeying.finish(body));
    if (this.isOver) return;
    if (epoch === undefined || !isLast) return this.#corrupt("a rekey reply is out of place");
    this.#receiveUnder(epoch.keys.receive);
    this.sendControl(ControlKind.rekeySwitch, body.subarray(0, TARGET_BYTES));
    this.#sendUnder(epoch.keys.send);
  }

  #onRekeySwitch(body: Uint8Array, isLast: boolean): void {
    const epoch = this.rekeying.answeredEpoch;
    if (epoch === undefined || !isLast || body.length !== TARGET_BYTES)
      return this.#corrupt("an epoch switch is out of place");
    this.rekeying.confirmAnswered();
    this.#receiveUnder(epoch.keys.receive);
  }

  #verified<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.params.counters.recordsCorrupt++;
      this.end(asGodwitError(error));
      return undefined;
    }
  }

  #sendUnder(key: Uint8Array): void {
    if (this.isOver) return;
    this.#sendKey = recordKey(key);
    this.#sendCounter = 0;
    this.sendingKeyChanged();
  }

  #receiveUnder(key: Uint8Array): void {
    this.#receiveKey = recordKey(key);
    this.#receiveCounter = 0;
    this.rxRecords = -1;
  }
}
