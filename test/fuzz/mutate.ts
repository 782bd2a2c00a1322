/** From valid bytes to nearly valid ones: one to four changes each, of the kinds that break parsers. Repeats from a seed. */
import type { Random } from "@godwit/sdk";

/** Longer results are cut: a link's frame or an API's small body has no more. */
const INPUT_BYTES_MAX = 64 * 1024;
const CHANGES_MAX = 4;
/** Repetition stops doubling here, so that most inputs stay small and runs many. */
const REPEATED_BYTES_MAX = 4_096;
const EDGES = [0x00, 0x01, 0x0f, 0x10, 0x20, 0x21, 0x3f, 0x7f, 0x80, 0xc0, 0xfe, 0xff] as const;

type Change = (bytes: Uint8Array, random: Random, pool: Pool) => Uint8Array;

export interface Pool {
  readonly seeds: readonly Uint8Array[];
  /** Words of the format, put in anywhere. */
  readonly tokens: readonly Uint8Array[];
}

const cut = (bytes: Uint8Array, from: number, to: number, insert: Uint8Array): Uint8Array => {
  const out = new Uint8Array(from + insert.length + bytes.length - to);
  out.set(bytes.subarray(0, from));
  out.set(insert, from);
  out.set(bytes.subarray(to), from + insert.length);
  return out;
};

const pick = <T>(random: Random, items: readonly T[]): T => items[random.below(items.length)]!;

const changes: readonly Change[] = [
  function flipBit(bytes, random) {
    const out = bytes.slice();
    if (out.length > 0) out[random.below(out.length)]! ^= 1 << random.below(8);
    return out;
  },
  function setByte(bytes, random) {
    const out = bytes.slice();
    if (out.length > 0) out[random.below(out.length)] = pick(random, EDGES);
    return out;
  },
  function truncate(bytes, random) {
    return bytes.slice(0, random.below(bytes.length + 1));
  },
  function loseHead(bytes, random) {
    return bytes.slice(random.below(bytes.length + 1));
  },
  /** A length field, seen from outside, is a small integer of 1, 2, 4 or up to 8 bytes (varint) that is suddenly large. */
  function editLength(bytes, random) {
    const at = random.below(bytes.length + 1);
    const width = pick(random, [1, 2, 4]);
    const long = Uint8Array.from({ length: 1 + random.below(9) }, () => 0xff);
    long[long.length - 1] = 0x7f;
    const value = random.below(2) === 0 ? long : new Uint8Array(width).fill(pick(random, EDGES));
    return cut(bytes, at, Math.min(bytes.length, at + width), value);
  },
  function splice(bytes, random, { seeds }) {
    const other = pick(random, seeds);
    const at = random.below(bytes.length + 1);
    return cut(bytes, at, bytes.length, other.subarray(random.below(other.length + 1)));
  },
  function insertPart(bytes, random, { seeds }) {
    const other = pick(random, seeds);
    const from = random.below(other.length + 1);
    const at = random.below(bytes.length + 1);
    return cut(bytes, at, at, other.subarray(from, from + 1 + random.below(64)));
  },
  function repeat(bytes, random) {
    const from = random.below(bytes.length + 1);
    const part = bytes.subarray(from, from + 1 + random.below(64));
    const wanted = 1 << random.below(Math.log2(REPEATED_BYTES_MAX) + 1);
    const copies = part.length === 0 ? 0 : Math.ceil(wanted / part.length);
    const run = new Uint8Array(copies * part.length);
    for (let i = 0; i < copies; i++) run.set(part, i * part.length);
    return cut(bytes, from, from, run);
  },
  function noise(bytes, random) {
    const at = random.below(bytes.length + 1);
    return cut(bytes, at, Math.min(bytes.length, at + random.below(9)), random.bytes(random.below(17)));
  },
  function token(bytes, random, { tokens }) {
    if (tokens.length === 0) return noiseByte(bytes, random);
    const at = random.below(bytes.length + 1);
    return cut(bytes, at, Math.min(bytes.length, at + random.below(4)), pick(random, tokens));
  },
];

function noiseByte(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  return cut(bytes, at, at, random.bytes(1));
}

/** A new input, owned by the caller. */
export function mutate(random: Random, pool: Pool): Uint8Array {
  let bytes = pick(random, pool.seeds);
  const times = 1 + random.below(CHANGES_MAX);
  for (let i = 0; i < times; i++) bytes = pick(random, changes)(bytes, random, pool);
  return bytes.length > INPUT_BYTES_MAX ? bytes.slice(0, INPUT_BYTES_MAX) : bytes.slice();
}
