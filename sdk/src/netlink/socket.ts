/**
 * A netlink socket by libc. Never blocks: the kernel answers within `send` and makes each part of a listing within `receive`,
 * so that a call costs microseconds; `request` gives the event loop its turn in between, and waits by the clock should an
 * answer be late. Needs Linux; what may be asked is up to the kernel (mostly CAP_NET_ADMIN to change anything).
 */
import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { constants } from "node:os";
import type { Clock } from "../clock.ts";
import { GodwitError } from "../errors.ts";
import { errnoName, lastErrno, openLibc } from "../libc.ts";
import {
  type NetlinkBuilder,
  NetlinkControl,
  NetlinkFlag,
  type NetlinkMessage,
  parseMessages,
  parseOutcome,
  viewOf,
} from "./message.ts";

const AF_NETLINK = 16;
/** SOCK_RAW, SOCK_CLOEXEC, SOCK_NONBLOCK. */
const SOCKET_TYPE = 3 | 0o2_000_000 | 0o4_000;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
/** Errors with the kernel's words, and without the whole request. */
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const ADDRESS_BYTES = 12;
/** The kernel makes parts of a listing no larger than 32 KiB. */
const RECEIVE_BYTES = 65_536;
/** Of one answer. */
const DATAGRAMS_MAX = 4_096;
/** Received in a row before others get their turn. */
const DATAGRAMS_PER_TURN = 16;
/** A listing that changed while it was made is made again. */
const DUMP_TRIES_MAX = 3;
const ANSWER_WAIT_MS = 2;
const ANSWER_TIMEOUT_MS = 5_000;

const protocols = { route: 0, generic: 16 } as const;
export type NetlinkProtocol = keyof typeof protocols;

/** GODWIT_NETLINK: the kernel said no. */
export class NetlinkError extends GodwitError {
  /** `EPERM`, `EEXIST`, `EOPNOTSUPP`, ... */
  readonly errno: string;

  constructor(what: string, errno: number, text?: string) {
    const name = errnoName(errno);
    super("GODWIT_NETLINK", `${what}: ${name}${text === undefined ? "" : ` (${text})`}`, {
      kind: name === "EPERM" || name === "EACCES" ? "permission" : "transport",
      retry: "later",
    });
    this.errno = name;
  }
}

export const hasErrno = (error: unknown, ...names: readonly string[]): boolean =>
  error instanceof NetlinkError && names.includes(error.errno);

const load = () =>
  openLibc({
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    send: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
    recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  });
type Libc = ReturnType<typeof load>;
let loaded: Libc | undefined;
const libc = (): Libc => (loaded ??= load());

export interface RequestOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

export class NetlinkSocket {
  readonly #libc: Libc;
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);
  /** Requests go one after the other: their answers share the socket. */
  #turn: Promise<unknown> = Promise.resolve();
  #sequence = 0;
  #descriptor: number;

  private constructor(symbols: Libc, descriptor: number) {
    this.#libc = symbols;
    this.#descriptor = descriptor;
  }

  /** Throws GODWIT_NETLINK, or the loader's error where there is no libc. `groups`: the first 32 multicast groups, as bits. */
  static open(protocol: NetlinkProtocol, groups = 0): NetlinkSocket {
    const symbols = libc();
    const descriptor = symbols.socket(AF_NETLINK, SOCKET_TYPE, protocols[protocol]);
    if (descriptor < 0) throw new NetlinkError(`no ${protocol} netlink socket`, lastErrno(symbols));
    const address = new Uint8Array(ADDRESS_BYTES);
    viewOf(address).setUint16(0, AF_NETLINK, true);
    viewOf(address).setUint32(8, groups, true);
    if (symbols.bind(descriptor, ptr(address), address.length) !== 0) {
      const errno = lastErrno(symbols);
      closeSync(descriptor);
      throw new NetlinkError("netlink bind", errno);
    }
    const on = Int32Array.of(1);
    // Older kernels have neither, and say less.
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK])
      symbols.setsockopt(descriptor, SOL_NETLINK, option, ptr(on), 4);
    return new NetlinkSocket(symbols, descriptor);
  }

  /** A multicast group by number, as generic netlink has them. Throws GODWIT_NETLINK. */
  join(group: number): void {
    const value = Int32Array.of(group);
    if (this.#libc.setsockopt(this.#open(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, ptr(value), 4) !== 0)
      throw new NetlinkError(`netlink group ${group}`, lastErrno(this.#libc));
  }

  /** One datagram. Throws GODWIT_NETLINK. */
  send(datagram: Uint8Array): void {
    if (this.#libc.send(this.#open(), ptr(datagram), datagram.length, 0) !== datagram.length)
      throw new NetlinkError("netlink send", lastErrno(this.#libc));
  }

  /** The next datagram, the caller's; undefined: none is there. Throws GODWIT_NETLINK; of ENOBUFS: some were lost. */
  receive(): Uint8Array | undefined {
    const length = this.#libc.recv(this.#open(), ptr(this.#buffer), this.#buffer.length, 0);
    if (length >= 0) return this.#buffer.slice(0, length);
    const errno = lastErrno(this.#libc);
    const name = errnoName(errno);
    if (name === "EAGAIN" || name === "EINTR") return undefined;
    throw new NetlinkError("netlink receive", errno);
  }

  /** What comes, from now on, for whoever asks for nothing: without a look at the socket in between. Errors when some were lost. */
  arrivals(): ReadableStream<Uint8Array> {
    return Bun.file(this.#open()).stream();
  }

  /**
   * Sends a request and waits for all of its answer, the acknowledgement left out. `what` is named by errors. Rejects with
   * GODWIT_NETLINK, GODWIT_DECODE, or the signal's reason.
   */
  request(what: string, build: () => NetlinkBuilder, options: RequestOptions): Promise<NetlinkMessage[]> {
    const result = this.#turn.then(() => this.#request(what, build, options));
    this.#turn = result.catch(() => {});
    return result;
  }

  /** The same at once, for those who cannot wait and ask for little: the answer must be there when `send` returns. */
  requestNow(what: string, build: () => NetlinkBuilder): NetlinkMessage[] {
    for (let tries = 1; ; tries++) {
      const exchange = this.#begin(what, build());
      for (let i = 0; i < DATAGRAMS_MAX && !exchange.isOver; i++) {
        const datagram = this.receive();
        if (datagram === undefined) break;
        exchange.take(datagram);
      }
      if (!exchange.isOver) throw exchange.unanswered();
      if (!exchange.isInterrupted || tries === DUMP_TRIES_MAX) return exchange.messages;
    }
  }

  /** Idempotent. */
  close(): void {
    if (this.#descriptor < 0) return;
    closeSync(this.#descriptor);
    this.#descriptor = -1;
  }

  #open(): number {
    if (this.#descriptor < 0)
      throw new GodwitError("GODWIT_STOPPED", "the netlink socket is closed", { kind: "plugin" });
    return this.#descriptor;
  }

  #begin(what: string, builder: NetlinkBuilder): Exchange {
    this.#sequence = (this.#sequence + 1) >>> 0;
    const datagram = builder.finish(this.#sequence);
    this.send(datagram);
    return new Exchange(what, this.#sequence, (viewOf(datagram).getUint16(6, true) & NetlinkFlag.ack) !== 0);
  }

  async #request(
    what: string,
    build: () => NetlinkBuilder,
    { clock, signal }: RequestOptions,
  ): Promise<NetlinkMessage[]> {
    for (let tries = 1; ; tries++) {
      signal?.throwIfAborted();
      const exchange = this.#begin(what, build());
      const deadlineMs = clock.monotonicMs() + ANSWER_TIMEOUT_MS;
      for (let i = 0; i < DATAGRAMS_MAX && !exchange.isOver;) {
        const datagram = this.receive();
        if (datagram === undefined && clock.monotonicMs() >= deadlineMs) break;
        if (datagram !== undefined) exchange.take(datagram);
        if (datagram !== undefined && ++i % DATAGRAMS_PER_TURN !== 0) continue;
        if (exchange.isOver) break;
        await new Promise<void>((resolve) =>
          clock.after(datagram === undefined ? ANSWER_WAIT_MS : 0, resolve),
        );
        signal?.throwIfAborted();
      }
      if (!exchange.isOver) throw exchange.unanswered();
      if (!exchange.isInterrupted || tries === DUMP_TRIES_MAX) return exchange.messages;
    }
  }
}

/** One request on its way to the end of its answer. */
class Exchange {
  readonly messages: NetlinkMessage[] = [];
  isOver = false;
  isInterrupted = false;
  readonly #what: string;
  readonly #sequence: number;
  readonly #wantsAck: boolean;

  constructor(what: string, sequence: number, wantsAck: boolean) {
    this.#what = what;
    this.#sequence = sequence;
    this.#wantsAck = wantsAck;
  }

  /** Throws GODWIT_NETLINK when the kernel refused, GODWIT_DECODE when it spoke nonsense. */
  take(datagram: Uint8Array): void {
    for (const message of parseMessages(datagram)) {
      // Of an exchange before, which was given up.
      if (message.sequence !== this.#sequence) continue;
      if ((message.flags & NetlinkFlag.dumpInterrupted) !== 0) this.isInterrupted = true;
      if (message.type === NetlinkControl.error || message.type === NetlinkControl.done) {
        const { errno, text } = parseOutcome(message);
        if (errno !== 0) throw new NetlinkError(this.#what, errno, text);
        this.isOver = true;
      } else if (message.type !== NetlinkControl.noop) {
        this.messages.push(message);
        if ((message.flags & NetlinkFlag.multi) === 0 && !this.#wantsAck) this.isOver = true;
      }
    }
  }

  unanswered(): NetlinkError {
    return new NetlinkError(`${this.#what}: no whole answer`, constants.errno.ETIMEDOUT);
  }
}
