/**
 * One UDP socket and the pipes over it, told apart by connection id. A stranger's datagram makes a pipe only if the
 * node finds that it begins a handshake with it; before that nothing is kept, and everything else costs a look into a map. Batches what leaves in
 * one turn of the event loop. docs/protocol/udp.md
 */
import type { udp } from "bun";
import { GodwitError, formatEndpoint, sourceGroup, type Clock, type Random } from "@godwit/sdk";
import { type Place, Places } from "@godwit/sdk/places";
import { MTU_MAX } from "./path-mtu.ts";
import { type Address, type PipeSocket, remoteOf, UdpPipe } from "./pipe.ts";
import { allowFragments, tuneSocket } from "./socket-options.ts";
import {
  CONNECTION_ID_BYTES,
  decodeUdp,
  encodeData,
  encodeUdp,
  SEQUENCE_BYTES,
  type UdpDatagram,
  UdpKind,
} from "./wire.ts";

export const PIPES_MAX = 4_096;
/** Inbound pipes whose far end has not proven itself, though its first datagram was genuine: in all, and of one source. */
const STRANGERS_MAX = 1_024;
const STRANGERS_PER_SOURCE_MAX = 256;
/** What waits while the kernel takes no more; the rest is dropped. */
const BATCH_MAX = 1_024;
/** Datagrams handed over at once within a turn. */
const BATCH_FLUSH = 64;
const RESETS_PER_SECOND = 50;
/** Without the system's help a larger probe would be cut into fragments, and its arrival prove nothing. */
const MTU_MAX_FRAGMENTING = 1_452;

export interface SocketEvents {
  /** As that of a transport's context. */
  screen(datagram: Uint8Array, remote: string): "open" | Uint8Array | undefined;
  accept(pipe: UdpPipe): void;
  /** A datagram was not taken or not sent. */
  dropped(reason: "stranger" | "malformed" | "full" | "refused"): void;
  moved(): void;
  /** What the path of a pipe carries is known, or known anew; also once a pipe has ended. */
  sized(pipe: UdpPipe): void;
}

export interface SocketOptions {
  readonly host: string;
  readonly port: number;
  readonly mtuMax: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: SocketEvents;
}

export class UdpSocket implements PipeSocket {
  readonly clock: Clock;
  readonly random: Random;
  readonly host: string;
  readonly mtuMax: number;
  readonly #socket: udp.Socket<"buffer">;
  readonly #descriptor: number;
  readonly #events: SocketEvents;
  /** By the far end's role and the connection id. */
  readonly #pipes = new Map<string, UdpPipe>();
  readonly #strangers = new Places({ max: STRANGERS_MAX, perSourceMax: STRANGERS_PER_SOURCE_MAX });
  readonly #placeOf = new Map<UdpPipe, Place>();
  #batch: (Uint8Array | number | string)[] = [];
  #isFlushScheduled = false;
  #isBlocked = false;
  #isClosed = false;
  #resetTokens = RESETS_PER_SECOND;
  #resetAtMs = 0;

  /** Rejects with the operating system's error. */
  static async open(options: SocketOptions): Promise<UdpSocket> {
    let owner: UdpSocket | undefined;
    const socket = await Bun.udpSocket({
      hostname: options.host,
      port: options.port,
      binaryType: "buffer",
      socket: {
        data: (_socket, bytes, port, host) => owner?.receive(bytes, { host, port }),
        drain: () => owner?.drained(),
        // An ICMP error of some peer: liveness decides, since anybody could forge it.
        error: () => options.events.dropped("refused"),
      },
    });
    owner = new UdpSocket(socket, options);
    return owner;
  }

  private constructor(socket: udp.Socket<"buffer">, { host, mtuMax, clock, random, events }: SocketOptions) {
    this.#socket = socket;
    this.host = host;
    this.clock = clock;
    this.random = random;
    this.#events = events;
    this.#descriptor = (socket as unknown as { readonly fd: number }).fd;
    const isOurs = tuneSocket(this.#descriptor, host.includes(":") ? 6 : 4);
    this.mtuMax = Math.min(mtuMax, isOurs ? MTU_MAX : MTU_MAX_FRAGMENTING);
    this.#resetAtMs = clock.monotonicMs();
  }

  get port(): number {
    return this.#socket.port;
  }

  get local(): string {
    return formatEndpoint("udp", this.host, this.port);
  }

  get isWritable(): boolean {
    return !this.#isBlocked && this.#batch.length < 3 * BATCH_MAX;
  }

  get pipes(): number {
    return this.#pipes.size;
  }

  /** A pipe to whichever of `addresses` answers. Throws GODWIT_DIAL_FAILED when there is no room. */
  dial(addresses: readonly Address[]): UdpPipe {
    if (this.#isClosed || this.#pipes.size >= PIPES_MAX)
      throw new GodwitError("GODWIT_DIAL_FAILED", "no more connections on this UDP socket", {
        kind: "transport",
        retry: "later",
      });
    const id = this.random.bytes(CONNECTION_ID_BYTES);
    const pipe = new UdpPipe(
      this,
      "outbound",
      id,
      addresses.map((address) => this.#reachable(address)),
    );
    this.#pipes.set(keyOf(false, String.fromCharCode(...id)), pipe);
    return pipe;
  }

  send(bytes: Uint8Array, to: Address): void {
    if (this.#isClosed) return;
    if (this.#batch.length >= 3 * BATCH_MAX) return this.#events.dropped("full");
    this.#batch.push(bytes, to.port, to.host);
    if (this.#isBlocked) return;
    if (this.#batch.length >= 3 * BATCH_FLUSH) return this.#flush();
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    queueMicrotask(() => {
      this.#isFlushScheduled = false;
      if (!this.#isBlocked) this.#flush();
    });
  }

  sendWhole(bytes: Uint8Array, to: Address): boolean {
    // What waits is sent first, or was refused anyhow; this one takes its chance.
    this.#flush();
    if (this.#isClosed) return true;
    const family = to.host.includes(":") && !/^::ffff:\d+\./i.test(to.host) ? 6 : 4;
    allowFragments(this.#descriptor, family, false);
    try {
      this.#socket.send(bytes, to.port, to.host);
      return true;
    } catch (error) {
      return (error as { code?: string }).code !== "EMSGSIZE";
    } finally {
      allowFragments(this.#descriptor, family, true);
    }
  }

  proven(pipe: UdpPipe): void {
    this.#forgetStranger(pipe);
  }

  sized(pipe: UdpPipe): void {
    this.#events.sized(pipe);
  }

  closed(pipe: UdpPipe): void {
    this.#forgetStranger(pipe);
    this.#pipes.delete(keyOf(pipe.direction === "inbound", String.fromCharCode(...pipe.id)));
    this.#events.sized(pipe);
  }

  moved(): void {
    this.#events.moved();
  }

  /** Ends all pipes. Idempotent. What they wrote before still leaves. */
  close(): void {
    if (this.#isClosed) return;
    for (const pipe of [...this.#pipes.values()]) pipe.end(undefined);
    this.#flush();
    this.#isClosed = true;
    this.#socket.close();
  }

  receive(bytes: Uint8Array, from: Address): void {
    if (this.#isClosed) return;
    const datagram = decodeUdp(bytes);
    if (datagram === undefined) return this.#events.dropped("malformed");
    const pipe = this.#pipes.get(keyOf(datagram.isFromDialler, datagram.id));
    if (pipe !== undefined) return pipe.receive(datagram, from);
    if (datagram.kind !== UdpKind.data) return;
    const isRecord = (datagram.body[4]! & 0x80) !== 0;
    if (isRecord) this.#reset(datagram, from);
    else if (datagram.isFromDialler) this.#accept(datagram, from);
  }

  drained(): void {
    this.#isBlocked = false;
    this.#flush();
    for (const pipe of this.#pipes.values()) {
      if (this.#isBlocked) return;
      pipe.pump();
    }
  }

  #accept(datagram: UdpDatagram, from: Address): void {
    const verdict = this.#events.screen(datagram.body.subarray(SEQUENCE_BYTES), remoteOf(from));
    if (verdict === undefined) return this.#events.dropped("stranger");
    const id = Uint8Array.from(datagram.id, (char) => char.charCodeAt(0));
    if (verdict !== "open") return this.send(encodeData(false, id, 0, verdict), from);
    if (this.#pipes.size >= PIPES_MAX) return this.#events.dropped("stranger");
    const pipe = new UdpPipe(this, "inbound", id, [from]);
    const place = this.#strangers.enter(sourceGroup(from.host), () => {
      this.#events.dropped("stranger");
      pipe.end(new Error("made room for others"));
    });
    if (place === undefined) return this.#events.dropped("stranger");
    this.#pipes.set(keyOf(true, datagram.id), pipe);
    this.#placeOf.set(pipe, place);
    pipe.receive(datagram, from);
    this.#events.accept(pipe);
  }

  #forgetStranger(pipe: UdpPipe): void {
    this.#placeOf.get(pipe)?.release();
    this.#placeOf.delete(pipe);
  }

  /** A record of a connection that is not here any more, after a restart for instance. Never longer than its cause. */
  #reset(datagram: UdpDatagram, to: Address): void {
    const nowMs = this.clock.monotonicMs();
    const earned = ((nowMs - this.#resetAtMs) * RESETS_PER_SECOND) / 1_000;
    this.#resetTokens = Math.min(RESETS_PER_SECOND, this.#resetTokens + earned);
    this.#resetAtMs = nowMs;
    if (this.#resetTokens < 1) return;
    this.#resetTokens--;
    const id = Uint8Array.from(datagram.id, (char) => char.charCodeAt(0));
    this.send(encodeUdp(UdpKind.reset, !datagram.isFromDialler, id, 0), to);
  }

  #flush(): void {
    while (this.#batch.length > 0 && !this.#isBlocked) {
      const batch = this.#batch.splice(0, 3 * BATCH_FLUSH);
      let sent: number;
      try {
        sent = this.#socket.sendMany(batch);
      } catch {
        this.#sendEach(batch);
        continue;
      }
      if (sent * 3 >= batch.length) continue;
      this.#isBlocked = true;
      this.#batch = [...batch.slice(sent * 3), ...this.#batch];
    }
  }

  /** One of a batch was refused, which stops the rest: each goes alone, and the refused one is dropped. */
  #sendEach(batch: readonly (Uint8Array | number | string)[]): void {
    for (let at = 0; at < batch.length; at += 3) {
      try {
        if (!this.#socket.send(batch[at] as Uint8Array, batch[at + 1] as number, batch[at + 2] as string))
          this.#events.dropped("full");
      } catch {
        this.#events.dropped("refused");
      }
    }
  }

  /** As the kernel will show it: on a socket of both families IPv4 as IPv6, and IPv6 in its one short form. */
  #reachable({ host, port }: Address): Address {
    if (!host.includes(":")) return { host: this.host === "::" ? `::ffff:${host}` : host, port };
    // A zone, or an IPv4 address inside, is left as it stands.
    if (!/^[0-9a-f:]+$/i.test(host) || !URL.canParse(`udp://[${host}]`)) return { host, port };
    return { host: new URL(`udp://[${host}]`).hostname.slice(1, -1), port };
  }
}

const keyOf = (isFromDialler: boolean, id: string): string => (isFromDialler ? "d" : "a") + id;
