/**
 * A source that is only heard: packets that radios in the LAN multicast, or that gateways publish through a broker. Owns when it is opened again, what of it is taken, and
 * how packets are marked with the way that they came; must never send anything. Nothing here is believed: anybody in the LAN, and whoever may publish at the broker,
 * can say anything in anybody's name.
 */
import { type Clock, type Log, type Random, TokenBucket } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { MECHANISM, type MeshPacket } from "./protocol.ts";
import { pause } from "./session.ts";

const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** A packet is at most 255 bytes on the air; what stands around them is small. */
const PACKET_BYTES_MAX = 512;
/** In a second on the average, and at once; a mesh of hundreds of nodes says a few a second. */
const PACKETS_PER_SECOND = 100;
const PACKETS_BURST = 1_000;
/** How long the same packet by the same way is one. */
const COPY_MS = 30_000;
const COPIES_MAX = 1_024;
const HOPS_MAX = 7;
const BROADCAST = 0xffff_ffff;

/** Why what came was passed over; labels. */
export type TapIgnored =
  | "malformed"
  | "too_long"
  | "too_fast"
  | "copy"
  | "packet"
  | "in_clear"
  | "topic"
  | "gateway"
  | "retained"
  | "envelope";

/** Of a packet by a broker: who published it, and what its channel is called there. */
export interface Published {
  readonly gateway: string;
  readonly channelName: string;
}

/** Of what a source hands over; a word: nothing that is to be taken. */
export type DecodePacket = (bytes: Uint8Array) => MeshPacket | TapIgnored;

export interface TapHandlers {
  /** Borrowed. `decode` is asked for what passed the bounds alone. */
  packet(bytes: Uint8Array, decode: DecodePacket, published?: Published): void;
  ignored(reason: TapIgnored): void;
  /** Once, last; not after an own `close`. */
  closed(why: string): void;
}

export interface Tapped {
  /** Resolves when nothing of it is left. Idempotent. */
  close(): Promise<void>;
}

/** Rejects with a GodwitError of kind `transport`, or the signal's reason. */
export type OpenTap = (handlers: TapHandlers, signal: AbortSignal) => Promise<Tapped>;

export interface TapDeps {
  readonly kind: "udp" | "mqtt";
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly open: OpenTap;
  /** Whether it listens, and why not, has changed. */
  changed(): void;
  /** The caller's own. */
  packet(packet: MeshPacket, published?: Published): void;
  ignored(reason: TapIgnored): void;
}

export class Tap {
  readonly #deps: TapDeps;
  readonly #pace: TokenBucket;
  readonly #copies: BoundedMap<string, number> = new BoundedMap({
    name: "packets of a tap",
    max: COPIES_MAX,
  });
  #trouble: string | undefined = "it is not open yet";
  #heardAtMs: number | undefined;

  constructor(deps: TapDeps) {
    this.#deps = deps;
    this.#pace = new TokenBucket(deps.clock, PACKETS_PER_SECOND, PACKETS_BURST);
  }

  /** Why nothing can be heard, in words; undefined: it listens. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Since the last packet that was taken, ms; undefined: there was none. */
  get silentMs(): number | undefined {
    return this.#heardAtMs === undefined ? undefined : this.#deps.clock.monotonicMs() - this.#heardAtMs;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#deps;
    let failures = 0;
    while (!signal.aborted) {
      const ended = Promise.withResolvers<string>();
      const onAbort = () => ended.resolve("");
      signal.addEventListener("abort", onAbort, { once: true });
      let tapped: Tapped | undefined;
      try {
        tapped = await this.#deps.open(
          {
            packet: (bytes, decode, published) => this.#hear(bytes, decode, published),
            ignored: (reason) => this.#deps.ignored(reason),
            closed: (why) => ended.resolve(why),
          },
          signal,
        );
        this.#turn(undefined);
        log.info("radio tap open", {});
        const heardBefore = this.#heardAtMs;
        const why = await ended.promise;
        // Whoever accepts and hangs up at once is not asked again at once.
        if (this.#heardAtMs !== heardBefore) failures = 0;
        if (!signal.aborted) this.#turn(why);
      } catch (error) {
        if (!signal.aborted) this.#turn(error instanceof Error ? error.message : String(error));
      } finally {
        signal.removeEventListener("abort", onAbort);
        await tapped?.close();
      }
      if (signal.aborted) return;
      log.info("radio tap lost", { reason: this.#trouble ?? "" });
      const delayMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** failures++);
      await pause(clock, delayMs * (0.75 + random.float() / 2), signal);
    }
  }

  #turn(trouble: string | undefined): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    this.#deps.changed();
  }

  #hear(bytes: Uint8Array, decode: DecodePacket, published?: Published): void {
    const { kind, ignored } = this.#deps;
    if (bytes.length > PACKET_BYTES_MAX) return ignored("too_long");
    if (!this.#pace.take()) return ignored("too_fast");
    const packet = decode(bytes);
    if (typeof packet === "string") return ignored(packet);
    const { from, id, hopLimit, hopStart, relayNode, payloadVariant } = packet;
    const isSane = from !== 0 && from !== BROADCAST && hopLimit <= HOPS_MAX && hopStart <= HOPS_MAX;
    if (payloadVariant.case === undefined || !isSane) return ignored("packet");
    // Radios multicast what was on the air; a gateway may be told to publish in the clear.
    if (payloadVariant.case === "decoded" && kind === "udp") return ignored("in_clear");
    if (this.#isCopy(`${from} ${id} ${hopLimit} ${relayNode} ${published?.gateway ?? ""}`))
      return ignored("copy");
    this.#heardAtMs = this.#deps.clock.monotonicMs();
    this.#deps.packet(marked(packet, kind), published);
  }

  #isCopy(key: string): boolean {
    const nowMs = this.#deps.clock.monotonicMs();
    const atMs = this.#copies.get(key);
    if (atMs !== undefined && nowMs - atMs < COPY_MS) return true;
    this.#copies.renew(key, nowMs);
    return false;
  }
}

/** With the way that it came, and without what only one's own radio can say: that a seal was opened, and how well it was heard here. */
function marked(packet: MeshPacket, kind: TapDeps["kind"]): MeshPacket {
  packet.transportMechanism = MECHANISM[kind];
  packet.pkiEncrypted = false;
  packet.publicKey = new Uint8Array(0);
  if (kind === "mqtt") packet.viaMqtt = true;
  else {
    // Of whoever multicast it.
    packet.rxSnr = 0;
    packet.rxRssi = 0;
  }
  return packet;
}
