/**
 * Flows: pipes, streams and sockets that live at one end of a channel of frames and are used at the other. A pump (flow-pump.ts) stands
 * where the real one is, a `FlowPipe` (flow-pipe.ts) where it is used; each sends only what the other has room for. Both ends of a channel
 * use this file. Specified by docs/protocol/plugin-frames.md, "Flows".
 */
import type { Clock, GodwitError } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import {
  DATA_BYTES_MAX,
  DATA_COST_BYTES,
  decodeParts,
  decodeU32,
  encodeU32,
  errorOfWire,
  FLOW_WINDOW_BYTES,
  PluginFrame,
} from "./frames.ts";
import type { FramePort } from "./port.ts";

/** Of one plugin, all kinds together. */
export const FLOWS_MAX = 4_096;
/** Credit goes back in pieces of at least so much. */
const CREDIT_STEP_BYTES = FLOW_WINDOW_BYTES / 4;

export interface FlowHandlers {
  /** Borrowed. */
  data(bytes: Uint8Array): void;
  end?(): void;
  drain(): void;
  /** Of a datagram pipe with `answerMs`. */
  left?(): void;
  closed(error?: Error): void;
}

/** What a pump stands in front of: pipes have it, streams and sockets too. */
export interface FlowSource {
  open(handlers: FlowHandlers): void;
  write(bytes: Uint8Array): boolean;
  pause(paused: boolean): void;
  close(): void;
  end?(): void;
  reset?(): void;
  proven?(): void;
  /** What the far end must know when it changes: a remote address, an MTU. */
  properties?(): Readonly<Record<string, unknown>>;
}

export interface FlowEnd {
  onData(body: Uint8Array): void;
  onCredit(bytes: number): void;
  onProven(count: number): void;
  onLeft(count: number): void;
  onClose(isReset: boolean): void;
  onClosed(error: GodwitError | undefined): void;
  onEnd(): void;
  onChange(properties: unknown): void;
}

/** The flows of one channel. */
export class Flows {
  readonly port: FramePort;
  readonly clock: Clock;
  readonly #ends = new Map<number, FlowEnd>();
  #next: number;

  /** `first`: the node numbers from 2, a plugin from 1, each by twos. */
  constructor(port: FramePort, clock: Clock, first: 1 | 2) {
    this.port = port;
    this.clock = clock;
    this.#next = first;
  }

  get size(): number {
    return this.#ends.size;
  }

  /** Throws GODWIT_QUEUE_FULL. */
  newId(): number {
    this.#checkRoom();
    const id = this.#next;
    this.#next = id >= 0xffff_fff0 ? (id % 2 === 0 ? 2 : 1) : id + 2;
    return this.#ends.has(id) ? this.newId() : id;
  }

  /** Takes the number that the far end chose. Throws GODWIT_DECODE when it may not. */
  checkForeignId(id: number): void {
    this.#checkRoom();
    if (id === 0 || id % 2 === this.#next % 2 || this.#ends.has(id))
      throw godwitError("GODWIT_DECODE", `plugin frame: flow ${id} cannot be opened`);
  }

  #checkRoom(): void {
    if (this.#ends.size >= FLOWS_MAX)
      throw godwitError("GODWIT_QUEUE_FULL", `a plugin has at most ${FLOWS_MAX} pipes, streams and sockets`);
  }

  has(id: number): boolean {
    return this.#ends.has(id);
  }

  add(id: number, end: FlowEnd): void {
    this.#ends.set(id, end);
  }

  delete(id: number): void {
    this.#ends.delete(id);
  }

  /** False when the frame is none of a flow. Frames of flows that are over are ignored: they crossed. Throws GODWIT_DECODE. */
  handle(type: number, id: number, body: Uint8Array): boolean {
    const end = this.#ends.get(id);
    switch (type) {
      case PluginFrame.data:
        if (body.length > DATA_BYTES_MAX) throw tooMuch();
        end?.onData(body);
        return true;
      case PluginFrame.credit:
        end?.onCredit(decodeU32(body));
        return true;
      case PluginFrame.proven:
        end?.onProven(decodeU32(body));
        return true;
      case PluginFrame.left:
        end?.onLeft(decodeU32(body));
        return true;
      case PluginFrame.close:
        end?.onClose(body[0] === 1);
        return true;
      case PluginFrame.closed:
        end?.onClosed(
          body.length === 0 ? undefined : errorOfWire((decodeParts(body).json as { error?: unknown }).error),
        );
        return true;
      case PluginFrame.end:
        end?.onEnd();
        return true;
      case PluginFrame.change:
        end?.onChange(decodeParts(body).json);
        return true;
      default:
        return false;
    }
  }

  /** The channel is gone. */
  close(error: GodwitError): void {
    for (const end of [...this.#ends.values()]) end.onClosed(error);
    for (const end of [...this.#ends.values()]) end.onClose(true);
    this.#ends.clear();
  }
}

const tooMuch = (): GodwitError =>
  godwitError("GODWIT_DECODE", "plugin frame: more data than there was room for");

/** What may be sent, and what waits because it may not. */
export class Outgoing {
  readonly #flows: Flows;
  readonly #id: number;
  #credit = FLOW_WINDOW_BYTES;
  #waiting: Uint8Array[] = [];
  waitingBytes = 0;

  constructor(flows: Flows, id: number) {
    this.#flows = flows;
    this.#id = id;
  }

  hasRoom(bytes: number): boolean {
    return this.#waiting.length === 0 && this.#credit >= bytes + DATA_COST_BYTES;
  }

  /** A datagram that has no room is lost, as the contract of pipes allows. */
  datagram(bytes: Uint8Array): boolean {
    if (!this.hasRoom(bytes.length)) return false;
    this.#send(bytes);
    return true;
  }

  /** Sends of these bytes what there is room for, and answers how many went; the rest stays the caller's. */
  take(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length) {
      const piece = bytes.subarray(at, at + DATA_BYTES_MAX);
      if (!this.hasRoom(piece.length)) break;
      this.#send(piece);
      at += piece.length;
    }
    return at;
  }

  /** Sends all of it, as room comes. */
  stream(bytes: Uint8Array): void {
    for (let at = this.take(bytes); at < bytes.length; at += DATA_BYTES_MAX) {
      const piece = new Uint8Array(bytes.subarray(at, at + DATA_BYTES_MAX));
      this.#waiting.push(piece);
      this.waitingBytes += piece.length;
    }
  }

  addCredit(bytes: number): void {
    this.#credit += bytes;
    if (bytes === 0 || this.#credit > FLOW_WINDOW_BYTES)
      throw godwitError("GODWIT_DECODE", "plugin frame: credit for what was not sent");
    let sent = 0;
    for (const piece of this.#waiting) {
      if (this.#credit < piece.length + DATA_COST_BYTES) break;
      this.#send(piece);
      this.waitingBytes -= piece.length;
      sent++;
    }
    if (sent > 0) this.#waiting = this.#waiting.slice(sent);
  }

  drop(): void {
    this.#waiting = [];
    this.waitingBytes = 0;
  }

  #send(bytes: Uint8Array): void {
    this.#credit -= bytes.length + DATA_COST_BYTES;
    this.#flows.port.send(PluginFrame.data, this.#id, bytes);
  }
}

/** Gives room back to the far end as what it sent is taken. */
export class Incoming {
  readonly #flows: Flows;
  readonly #id: number;
  #room = FLOW_WINDOW_BYTES;
  #taken = 0;
  #isHeld = false;

  constructor(flows: Flows, id: number) {
    this.#flows = flows;
    this.#id = id;
  }

  /** Throws GODWIT_DECODE when the far end sends what there is no room for. */
  arrive(bytes: number): void {
    this.#room -= bytes + DATA_COST_BYTES;
    if (this.#room < 0) throw tooMuch();
  }

  take(bytes: number): void {
    this.#taken += bytes + DATA_COST_BYTES;
    if (this.#taken >= CREDIT_STEP_BYTES && !this.#isHeld) this.#give();
  }

  /** No room is given back while the real end is full. */
  hold(isHeld: boolean): void {
    this.#isHeld = isHeld;
    if (!isHeld && this.#taken > 0) this.#give();
  }

  #give(): void {
    const bytes = this.#taken;
    this.#taken = 0;
    this.#room += bytes;
    this.#flows.port.send(PluginFrame.credit, this.#id, encodeU32(bytes));
  }
}
