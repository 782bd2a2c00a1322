/**
 * The sockets of Serf: datagrams and streams on one port. Owns the envelopes around what goes over them, and the bounds of what strangers may
 * send: datagrams a second, streams at once, bytes that are held of them. Trusts no address that something comes from.
 */
import { type Clock, GodwitError, sourceGroup, type Timer, TokenBucket } from "@godwit/sdk";
import { claimDescriptor, type Place, Places } from "@godwit/sdk/places";
import { portHolder } from "@godwit/sdk/listening";
import type { Net, NetHandlers } from "./memberlist/net.ts";
import { Dropped, type Envelope, type StreamReader } from "./wire/envelope.ts";
import type { At } from "./wire/messages.ts";

/** Datagrams that are looked at; a member of a busy cluster sends a hundred a second. */
const DATAGRAMS = { perSecond: 2_000, burst: 4_000 } as const;
/** Messages in them. One of a name that is new takes a tenth of a millisecond, and 512 fit in three kilobytes; a cluster of thousands that falls apart is a thousand. */
const MESSAGES = { perSecond: 4_000, burst: 8_000 } as const;
/** Bytes of streams of others: a state of thousands of members takes a hundredth of a second to read. */
const STREAM_BYTES = { perSecond: 2_097_152, burst: 4_194_304 } as const;
const STREAMS_MAX = 64;
const STREAMS_A_SOURCE_MAX = 16;
/** Near the end of the node's descriptors. */
const STREAMS_LAST_MAX = 4;
/** Of all streams together. */
const HELD_BYTES_MAX = 4_194_304;
/** Of the answers that wait for others to read them: three of a state of thousands of members. */
const UNSENT_BYTES_MAX = 8_388_608;
/** From the first byte of a stream of somebody else to its last. */
const STREAM_TIMEOUT_MS = 10_000;
/** With `port_search`: ports that are tried. */
const PORTS_TRIED = 64;

export interface TransportOptions {
  readonly host: string;
  readonly port: number;
  readonly isPortSearched: boolean;
  readonly isStreamsOnly: boolean;
  readonly envelope: Envelope;
  readonly clock: Clock;
  dropped(reason: string): void;
  counted(direction: "in" | "out", kind: "datagram" | "stream"): void;
}

interface Connection {
  readonly reader: StreamReader | undefined;
  readonly from: At;
  readonly place: Place | undefined;
  readonly timer: Timer;
  held: number;
  unsent: Uint8Array;
  /** Of all answers that wait, what this one counts for. */
  waiting: number;
  isEnding: boolean;
  isAnswered: boolean;
}

type UdpSocket = Bun.udp.Socket<"buffer">;

export class Transport implements Net {
  readonly port: number;
  readonly #options: TransportOptions;
  readonly #listener: Bun.TCPSocketListener<Connection>;
  readonly #udp: UdpSocket | undefined;
  readonly #streams = new Set<Bun.Socket<Connection>>();
  readonly #places = new Places({
    max: STREAMS_MAX,
    perSourceMax: STREAMS_A_SOURCE_MAX,
    lastMax: STREAMS_LAST_MAX,
  });
  readonly #asking = new Set<() => void>();
  #handlers: NetHandlers | undefined;
  readonly #datagrams: TokenBucket;
  readonly #messages: TokenBucket;
  readonly #streamBytes: TokenBucket;
  #held = 0;
  #unsent = 0;
  #isClosed = false;

  private constructor(
    options: TransportOptions,
    listener: Bun.TCPSocketListener<Connection>,
    udp: UdpSocket | undefined,
  ) {
    this.#options = options;
    this.#listener = listener;
    this.#udp = udp;
    this.port = listener.port;
    this.#datagrams = new TokenBucket(options.clock, DATAGRAMS.perSecond, DATAGRAMS.burst);
    this.#messages = new TokenBucket(options.clock, MESSAGES.perSecond, MESSAGES.burst);
    this.#streamBytes = new TokenBucket(options.clock, STREAM_BYTES.perSecond, STREAM_BYTES.burst);
  }

  /** Rejects with GODWIT_LISTEN_FAILED that names who has the port. */
  static async open(options: TransportOptions): Promise<Transport> {
    const { host, port, isPortSearched } = options;
    const last = isPortSearched && port !== 0 ? Math.min(65_535, port + PORTS_TRIED - 1) : port;
    for (let at = port; ; at++)
      try {
        return await Transport.#openAt(options, at);
      } catch (error) {
        if (at < last) continue;
        throw listenFailed(host, port, last, isPortSearched, error);
      }
  }

  static async #openAt(options: TransportOptions, port: number): Promise<Transport> {
    const { host, isStreamsOnly } = options;
    let transport: Transport | undefined;
    const listener = Bun.listen<Connection>({
      hostname: host,
      port,
      socket: {
        open: (socket) => (transport === undefined ? void socket.terminate() : transport.onOpen(socket)),
        data: (socket, bytes) => transport?.onData(socket, bytes),
        drain: (socket) => flush(socket),
        close: (socket) => transport?.onClose(socket),
        error: (socket) => void socket.terminate(),
      },
    });
    try {
      const udp = isStreamsOnly
        ? undefined
        : await Bun.udpSocket({
            hostname: host,
            port: listener.port,
            binaryType: "buffer",
            socket: {
              data: (_socket, bytes, fromPort, from) => transport?.onDatagram(bytes, from, fromPort),
              // What ICMP says of datagrams sent earlier: the probes find out by themselves.
              error() {},
            },
          });
      transport = new Transport(options, listener, udp);
      return transport;
    } catch (error) {
      listener.stop(true);
      throw error;
    }
  }

  /** From now on something comes in. */
  open(handlers: NetHandlers): void {
    this.#handlers = handlers;
  }

  /** Bytes of answers that wait for others to read them. */
  get unsent(): number {
    return this.#unsent;
  }

  get room(): number {
    return this.#options.envelope.room;
  }

  packet(to: At, messages: readonly Uint8Array[], hasChecksum: boolean): void {
    if (this.#isClosed || this.#udp === undefined) return;
    const bytes = this.#options.envelope.sealPacket(messages, hasChecksum);
    try {
      const isSent = this.#udp.send(bytes, to.port, this.#reachable(to.address));
      if (isSent) this.#options.counted("out", "datagram");
      else this.#options.dropped("full");
    } catch {
      // No way there now: a datagram may be lost.
      this.#options.dropped("unreachable");
    }
  }

  async ask(to: At, message: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const reply = await this.#call(to, message, timeoutMs, true);
    if (reply === undefined) throw dialFailed(to, "it closed without an answer");
    return reply;
  }

  async tell(to: At, message: Uint8Array, timeoutMs: number): Promise<void> {
    await this.#call(to, message, timeoutMs, false);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const end of [...this.#asking]) end();
    for (const socket of [...this.#streams]) socket.terminate();
    this.#listener.stop(true);
    this.#udp?.close();
  }

  onOpen(socket: Bun.Socket<Connection>): void {
    const { clock, envelope, dropped } = this.#options;
    const from = { address: plainAddress(socket.remoteAddress), port: socket.remotePort };
    const place = this.#places.accept(socket, sourceGroup(from.address), () => {
      dropped("streams");
      socket.terminate();
    });
    socket.data = {
      reader: place === undefined ? undefined : envelope.streamReader(true),
      from,
      place,
      timer: clock.after(STREAM_TIMEOUT_MS, () => void socket.terminate()),
      held: 0,
      unsent: new Uint8Array(0),
      waiting: 0,
      isEnding: false,
      isAnswered: false,
    };
    this.#streams.add(socket);
    if (place !== undefined) return;
    dropped("streams");
    socket.terminate();
  }

  onData(socket: Bun.Socket<Connection>, bytes: Uint8Array): void {
    const connection = socket.data;
    const { reader } = connection;
    if (reader === undefined || connection.isAnswered) return;
    if (!this.#streamBytes.take(bytes.length)) {
      this.#options.dropped("rate");
      return void socket.terminate();
    }
    const message = this.#push(reader, connection, bytes, () => void socket.terminate());
    if (message === undefined) return;
    connection.isAnswered = true;
    this.#options.counted("in", "stream");
    let answer: Uint8Array | undefined;
    try {
      answer = this.#handlers?.stream(message, connection.from);
    } catch {
      this.#options.dropped("malformed");
    }
    const sealed = answer === undefined ? undefined : this.#options.envelope.sealStream(answer, false);
    if (sealed !== undefined) connection.unsent = sealed;
    connection.isEnding = true;
    flush(socket);
    if (sealed === undefined || connection.unsent.length === 0) return;
    // Whoever asks and does not read has it held here, all of it until the end.
    connection.waiting = sealed.length;
    this.#unsent += sealed.length;
    if (this.#unsent <= UNSENT_BYTES_MAX) return;
    this.#options.dropped("held");
    socket.terminate();
  }

  onClose(socket: Bun.Socket<Connection>): void {
    const connection = socket.data as Connection | undefined;
    if (connection === undefined || !this.#streams.delete(socket)) return;
    connection.timer.cancel();
    this.#held -= connection.held;
    this.#unsent -= connection.waiting;
    connection.place?.release();
  }

  onDatagram(bytes: Buffer, address: string, port: number): void {
    if (!this.#datagrams.take(1)) return this.#options.dropped("rate");
    this.#options.counted("in", "datagram");
    const from = { address: plainAddress(address), port };
    let messages: Uint8Array[];
    try {
      messages = this.#options.envelope.openPacket(bytes);
    } catch (error) {
      return this.#options.dropped(error instanceof Dropped ? error.reason : "malformed");
    }
    for (const message of messages) {
      if (!this.#messages.take()) return this.#options.dropped("rate");
      try {
        this.#handlers?.packet(message, from);
      } catch {
        this.#options.dropped("malformed");
      }
    }
  }

  /** The message once it is whole. What is none ends the stream. */
  #push(
    reader: StreamReader,
    holder: { held: number },
    bytes: Uint8Array,
    end: () => void,
  ): Uint8Array | undefined {
    try {
      const message = reader.push(bytes);
      this.#held += reader.held - holder.held;
      holder.held = reader.held;
      if (message !== undefined || this.#held <= HELD_BYTES_MAX) return message;
      this.#options.dropped("held");
    } catch (error) {
      this.#options.dropped(error instanceof Dropped ? error.reason : "malformed");
    }
    end();
    return undefined;
  }

  #call(
    to: At,
    message: Uint8Array,
    timeoutMs: number,
    wantsReply: boolean,
  ): Promise<Uint8Array | undefined> {
    const { clock, envelope } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
    if (this.#isClosed) return Promise.reject(dialFailed(to, "the plugin has stopped"));
    const holder = { held: 0 };
    let socket: Bun.Socket<Connection> | undefined;
    let isOver = false;
    const finish = (settle: () => void) => {
      if (isOver) return;
      isOver = true;
      timer.cancel();
      this.#asking.delete(giveUp);
      this.#held -= holder.held;
      socket?.terminate();
      settle();
    };
    const fail = (why: string) => finish(() => reject(dialFailed(to, why)));
    const giveUp = () => fail("the plugin has stopped");
    const timer = clock.after(timeoutMs, () => fail(`no answer within ${Math.round(timeoutMs)} ms`));
    const reader = envelope.streamReader(false);
    try {
      claimDescriptor("guest");
    } catch (error) {
      timer.cancel();
      return Promise.reject(error);
    }
    this.#asking.add(giveUp);
    Bun.connect<Connection>({
      hostname: to.address,
      port: to.port,
      socket: {
        open: (opened) => {
          socket = opened;
          if (isOver) return void opened.terminate();
          opened.data = {
            reader: undefined,
            from: to,
            place: undefined,
            timer,
            held: 0,
            unsent: envelope.sealStream(message),
            waiting: 0,
            isEnding: !wantsReply,
            isAnswered: false,
          };
          this.#options.counted("out", "stream");
          flush(opened);
        },
        data: (_opened, bytes) => {
          if (isOver || !wantsReply) return;
          const reply = this.#push(reader, holder, bytes, () => fail("its answer is none"));
          // A copy: the reader's memory goes with the stream.
          if (reply !== undefined) finish(() => resolve(reply.slice()));
        },
        drain: (opened) => flush(opened),
        close: () => (wantsReply ? fail("it closed without an answer") : finish(() => resolve(undefined))),
        error: (_opened, error) => fail(error.message),
        connectError: (_opened, error) => fail(error.message),
      },
    }).catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
    return promise;
  }

  #reachable(address: string): string {
    return this.#options.host === "::" && !address.includes(":") ? `::ffff:${address}` : address;
  }
}

/** Writes what the kernel takes; the rest follows when it takes more, and then the end if it was asked for. */
function flush(socket: Bun.Socket<Connection>): void {
  const connection = socket.data;
  if (connection.unsent.length > 0)
    connection.unsent = connection.unsent.subarray(Math.max(0, socket.write(connection.unsent)));
  if (connection.unsent.length === 0 && connection.isEnding) socket.end();
}

/** As members write it: an IPv4 address that came over an IPv6 socket is IPv4. */
const plainAddress = (address: string): string =>
  address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");

const dialFailed = ({ address, port }: At, why: string): GodwitError =>
  new GodwitError("GODWIT_DIAL_FAILED", `${address} port ${port}: ${why}`, {
    kind: "transport",
    retry: "later",
  });

function listenFailed(
  host: string,
  port: number,
  last: number,
  isPortSearched: boolean,
  cause: unknown,
): GodwitError {
  const holder = portHolder("tcp", port) ?? portHolder("udp", port);
  const why = cause instanceof Error ? cause.message : String(cause);
  const ports = last > port ? `any of the ports ${port} to ${last}` : `port ${port}`;
  const by = holder === undefined ? why : `${holder} has ${last > port ? "the first" : "it"}`;
  const advice = isPortSearched ? "" : "; choose another in listen, or set port_search = true";
  return new GodwitError("GODWIT_LISTEN_FAILED", `cannot listen on ${host} ${ports}: ${by}${advice}`, {
    kind: "transport",
    retry: "later",
    cause,
  });
}
