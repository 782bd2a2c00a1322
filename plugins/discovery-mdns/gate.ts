/**
 * What of the datagrams that arrive is decoded at all. Anybody on the LAN can send them, in any number and with any source address: each
 * source has a pace, all together have one, and what is too long, or says that it holds more records than are looked at, costs no decoding.
 */
import { BoundedMap, type Clock, TokenBucket } from "@godwit/sdk";

/** RFC 6762 section 17. */
export const DATAGRAM_BYTES_MAX = 9_000;
const HEADER_BYTES = 12;
/** Of one datagram, all sections. */
export const RECORDS_MAX = 128;
/**
 * What decoding costs are its records: a name of two bytes may point at 127 labels, and a datagram of 2 kB took 3 ms. So a datagram costs one for
 * each so many of them, and what says little gets in where what says much does not. An announcement of ours has eight with one transport.
 */
const RECORDS_A_TOKEN = 8;
/** Tokens of one source: in a second, and at once. */
const SOURCE_PER_SECOND = 4;
const SOURCE_BURST = 32;
/** Of all sources of a socket: at worst a twentieth of a core. */
const ALL_PER_SECOND = 256;
const ALL_BURST = 512;
/** Sources that a pace is kept for; one that is forgotten has a fresh one. */
const SOURCES_MAX = 1_024;
const PORT = 5_353;

export type Refusal = "too_big" | "too_many_records" | "malformed" | "port" | "off_link" | "rate";

export interface GateOptions {
  readonly clock: Clock;
  /** Where multicast DNS is spoken: what comes from elsewhere is no answer of it (RFC 6762 section 11). */
  readonly port?: number;
  isOnLink(address: string): boolean;
}

export class Gate {
  readonly #options: GateOptions;
  readonly #sources = new BoundedMap<string, TokenBucket>({
    name: "paces of multicast DNS",
    max: SOURCES_MAX,
  });
  readonly #all: TokenBucket;

  constructor(options: GateOptions) {
    this.#options = options;
    this.#all = new TokenBucket(options.clock, ALL_PER_SECOND, ALL_BURST);
  }

  /** Undefined: it is to be decoded. `address` without its zone. Bytes are borrowed. */
  refusalOf(datagram: Uint8Array, address: string, port: number): Refusal | undefined {
    if (port !== (this.#options.port ?? PORT)) return "port";
    if (!this.#options.isOnLink(address)) return "off_link";
    if (datagram.length > DATAGRAM_BYTES_MAX) return "too_big";
    if (datagram.length < HEADER_BYTES) return "malformed";
    const view = new DataView(datagram.buffer, datagram.byteOffset);
    const records = [4, 6, 8, 10].reduce((sum, at) => sum + view.getUint16(at), 0);
    if (records > RECORDS_MAX) return "too_many_records";
    const cost = Math.max(1, Math.ceil(records / RECORDS_A_TOKEN));
    const own =
      this.#sources.get(address) ?? new TokenBucket(this.#options.clock, SOURCE_PER_SECOND, SOURCE_BURST);
    this.#sources.renew(address, own);
    // Its own first: a source that is too fast must not use up what all have.
    return own.take(cost) && this.#all.take(cost) ? undefined : "rate";
  }
}
