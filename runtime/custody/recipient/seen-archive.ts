/**
 * The resting sets of one sender in one row: what 1,000 starts of it sent, each under an epoch of its own, in some 16 KB. Owns the
 * bytes of that row; a value, never changed. Exact: a set goes only when no message of it can be alive any more.
 */
import { formatHex, parseHex } from "../../kernel/ids.ts";
import { COVERED_FROM_MS } from "../../time/node-time.ts";
import { LIFETIME_MAX_MS } from "../../wire/constants.ts";
import { STORE_EPOCH_BYTES } from "../../wire/peer-messages.ts";
import { Reader, Writer } from "../../wire/bytes.ts";
import { type Runs, SEEN_RUNS_MAX } from "./runs.ts";

/** Of the encoded sets, before a new set is refused: some 2,300 starts. */
export const ARCHIVE_BYTES_MAX = 36_000;
/** Hours at rest after which a set may make room: no message lives so long, wherever it lay and however wrong its clocks were. */
const SET_DEAD_HOURS = (12 * LIFETIME_MAX_MS) / 3_600_000;
const COVERED_FROM_HOUR = Math.floor(COVERED_FROM_MS / 3_600_000);
const VERSION = 1;
const NAME_BYTES_MAX = 256;

export interface Resting {
  readonly runs: Runs;
  /** When it was folded last, in hours of running time from 2026 on; earlier releases wrote those of the wall clock, and such a set rests longer. */
  readonly hour: number;
}

export class SeenArchive {
  static readonly empty = new SeenArchive(new Uint8Array());
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** As `text` wrote it; undefined when it is damaged. */
  static parse(text: string): SeenArchive | undefined {
    const archive = new SeenArchive(new Uint8Array(Buffer.from(text, "base64")));
    try {
      archive.#decode();
      return archive;
    } catch {
      return undefined;
    }
  }

  get text(): string {
    return Buffer.from(this.#bytes).toString("base64");
  }

  /** Every set, by name; those that were folded last come last. */
  get sets(): ReadonlyMap<string, Resting> {
    return this.#decode();
  }

  /** Whether one more set may rest here some day. */
  hasRoom(nowHour: number): boolean {
    return this.#bytes.length < ARCHIVE_BYTES_MAX || this.#isAnyDead(nowHour);
  }

  /** A copy, owned by the caller; undefined when the set does not rest here. */
  get(name: string): Runs | undefined {
    if (this.#bytes.length === 0) return undefined;
    const { epoch, address } = splitName(name);
    const wanted = parseHex(epoch, STORE_EPOCH_BYTES);
    const { reader, addresses } = this.#open();
    const index = addresses.indexOf(address);
    if (wanted === undefined || index < 0) return undefined;
    // Read through, not taken apart: a new set is looked for here with its first message.
    while (reader.remaining > 0) {
      const isIt = Buffer.compare(reader.bytes(STORE_EPOCH_BYTES), wanted) === 0;
      if (reader.varint() === index && isIt) return readRuns(reader, reader.varint());
      reader.varint();
      for (let left = 2 * reader.varint(); left > 0; left--) reader.varint();
    }
    return undefined;
  }

  /** With these as they are now, whether they rested here before or not. The dead ones go only where room is needed. */
  with(sets: Iterable<readonly [name: string, runs: Runs]>, nowHour: number): SeenArchive {
    const all = this.#decode();
    for (const [name, runs] of sets) {
      all.delete(name);
      all.set(name, { runs, hour: nowHour });
    }
    const whole = encode(all);
    if (whole.length < ARCHIVE_BYTES_MAX) return new SeenArchive(whole);
    for (const [name, { hour }] of all) if (isDead(hour, nowHour)) all.delete(name);
    return new SeenArchive(encode(all));
  }

  #isAnyDead(nowHour: number): boolean {
    for (const { hour } of this.#decode().values()) if (isDead(hour, nowHour)) return true;
    return false;
  }

  /** Throws GODWIT_DECODE. */
  #decode(): Map<string, Resting> {
    const all = new Map<string, Resting>();
    if (this.#bytes.length === 0) return all;
    const { reader, addresses } = this.#open();
    while (reader.remaining > 0) {
      const epoch = formatHex(reader.bytes(STORE_EPOCH_BYTES));
      const address = addresses[reader.varint()]!;
      const hour = reader.varint();
      all.set(`${epoch}/${address}`, { runs: readRuns(reader, hour), hour });
    }
    return all;
  }

  #open() {
    const reader = new Reader(this.#bytes);
    if (reader.u8() !== VERSION) throw new Error("another version");
    const addresses = Array.from({ length: reader.varint() }, () => reader.text(NAME_BYTES_MAX));
    return { reader, addresses };
  }
}

function readRuns(reader: Reader, hour: number): Runs {
  const runs: Runs = [];
  let at = 0;
  for (let left = reader.varint(); left > 0; left--) {
    if (runs.length >= SEEN_RUNS_MAX) throw new Error("too many runs");
    const first = at + reader.varint();
    at = first + reader.varint();
    runs.push([first, at, hour]);
  }
  return runs;
}

const splitName = (name: string): { epoch: string; address: string } => {
  const slash = name.indexOf("/");
  return { epoch: name.slice(0, slash), address: name.slice(slash + 1) };
};

/** A clock that was never right makes nothing dead. */
const isDead = (hour: number, nowHour: number): boolean =>
  hour >= COVERED_FROM_HOUR && nowHour - hour > SET_DEAD_HOURS;

/** Version, addresses, then each set: epoch, number of its address, hour, and its runs as distances. */
function encode(all: ReadonlyMap<string, Resting>): Uint8Array {
  const addresses = new Map<string, number>();
  const cut = [...all].map(([name, resting]) => {
    const { epoch, address } = splitName(name);
    if (!addresses.has(address)) addresses.set(address, addresses.size);
    return { epoch, address: addresses.get(address)!, ...resting };
  });
  const writer = new Writer().u8(VERSION).varint(addresses.size);
  for (const address of addresses.keys()) writer.text(address);
  for (const { epoch, address, hour, runs } of cut) {
    writer.bytes(parseHex(epoch, STORE_EPOCH_BYTES)!).varint(address).varint(hour).varint(runs.length);
    let at = 0;
    for (const [first, last] of runs) {
      writer.varint(first - at).varint(last - first);
      at = last;
    }
  }
  return writer.finish();
}
