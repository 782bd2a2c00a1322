/**
 * Mail as releases up to 0.2 wrote it, made of the rows of this one: they name all mail of a store under one epoch, count no running
 * time, and keep 64 sets of what one sender sent. What they could not name alike stays aside; what they would age or forget too soon is
 * written so that they do not. Must never let a message be named a second time, nor one that left this node get another name.
 */
import type { EarlierRow, Judged, JudgeRows } from "../store/earlier.ts";
import type { Collection, StoreRow } from "../store/types.ts";
import { hourOf } from "./recipient/runs.ts";
import type { Sealer } from "./context.ts";
import { readInboxEntry } from "./recipient/inbox.ts";
import { isSealed, readStored } from "./recipient/stored-body.ts";
import { readSeenRow, type SeenRow } from "./recipient/seen.ts";
import { finalStates, type OutboxEntry } from "./source/entry.ts";
import { decodeEntry, earlierRow } from "./source/entry-row.ts";
import { parseProof, type ReceiptProof } from "./source/proofs.ts";
import { readTransitMeta } from "./transit/row.ts";
import { parseBase32 } from "../kernel/ids.ts";
import { bundleIdOf, decodeBundleHeader } from "../wire/bundle.ts";

/** Sets of one sender that those releases keep; one more, and the first of them by its key is forgotten. */
const EARLIER_SETS_MAX = 64;
/** Room for sets that come while the earlier release runs. */
const EARLIER_SETS_SPARE = 8;
const COUNTER_PREFIX = "counter/";

const isHeld =
  "it waits for the other machines of its location, in a form that the earlier release cannot open: its sender has it still, and seals it anew";
const isDamaged = "it cannot be read: it is kept aside as it is";

type Opener = Pick<Sealer, "segmentsUnder">;
type NamedRow = Pick<StoreRow, "key" | "meta">;

/** One conversion. `settings` and `proofs` are those of the store; `wallMs` is what those releases reckon the age of gaps by. */
export class EarlierMail {
  readonly #storeEpoch: string;
  readonly #hour: number;
  /** By address: the next number under the store's epoch. Numbers of before are those of the earlier release itself. */
  readonly #next = new Map<string, number>();
  readonly #renamed = new Set<string>();
  readonly #opener: Opener;
  readonly #proofs: ReadonlyMap<string, ReceiptProof | undefined>;

  constructor(settings: readonly NamedRow[], proofs: readonly NamedRow[], opener: Opener, wallMs: number) {
    this.#opener = opener;
    this.#proofs = new Map(proofs.map(({ key, meta }) => [key, parseProof(meta)]));
    this.#hour = hourOf(wallMs);
    this.#storeEpoch = settings.find(({ key }) => key === "store-epoch")?.meta ?? "";
    for (const { key, meta } of settings)
      if (key.startsWith(COUNTER_PREFIX)) this.#next.set(key.slice(COUNTER_PREFIX.length), Number(meta) || 0);
  }

  /** By collection; the others are the same in both releases. `counters` come last: ask for them when the outbox was judged. */
  get judges(): Partial<Record<Collection, JudgeRows>> {
    return {
      outbox: (rows) => rows.map((row) => this.#outbox(row)),
      transit: (rows) => rows.map((row) => transit(row)),
      inbox: (rows) => rows.map((row) => inbox(row, this.#opener)),
      receipt: (rows) => rows.map((row) => receipt(row)),
      seen: (rows) => this.#seen(rows),
      // They are in the rows of the messages that they prove.
      proof: (rows) => rows.map((row) => ({ row, rows: [], isAside: false })),
      // Who seals to that release seals without; what still comes in one is sealed anew.
      session: (rows) => rows.map((row) => ({ row, rows: [], isAside: false })),
    };
  }

  /** Settings that name what was renamed; they replace those of the store. */
  get counters(): EarlierRow[] {
    return [...this.#renamed].map((address) => ({
      in: "setting",
      key: `${COUNTER_PREFIX}${address}`,
      meta: String(this.#next.get(address)!),
      hasBody: false,
    }));
  }

  #outbox(row: StoreRow): Judged {
    const entry = decodeEntry(row.key, row.meta, (name) => this.#proofs.get(name));
    if (entry === undefined) return { row, rows: [], isAside: true, why: isDamaged };
    const { epoch } = entry;
    // What is over is history: nobody names it any more.
    if (finalStates.includes(entry.state)) return keep(row, "outbox", earlierRow(entry));
    if (entry.isRenamed !== true && (epoch === undefined || epoch === this.#storeEpoch))
      return keep(row, "outbox", earlierRow(entry));
    if (!hasLeft(entry)) {
      // Nobody has seen a name of it: it gets one that the earlier release gives next, and its receipt is found by its bundle.
      const counter = this.#next.get(entry.to) ?? 0;
      this.#next.set(entry.to, counter + 1);
      this.#renamed.add(entry.to);
      return keep(row, "outbox", earlierRow({ ...entry, counter, isRenamed: true }));
    }
    const why = `to ${entry.to}, ${entry.state}: sealed under a name that the earlier release cannot make again`;
    return { row, rows: [], isAside: true, why };
  }

  *#seen(rows: readonly StoreRow[]): Iterable<Judged> {
    for (let at = 0; at < rows.length;) {
      const sender = rows[at]!.key.slice(0, rows[at]!.key.indexOf("/"));
      let end = at;
      while (end < rows.length && rows[end]!.key.startsWith(`${sender}/`)) end++;
      // A key without a slash is nobody's.
      yield* this.#seenOf(rows.slice(at, Math.max(end, at + 1)));
      at = Math.max(end, at + 1);
    }
  }

  /** All rows of one sender. Its archive is unfolded: the sets that rested last, as many as the earlier release keeps. */
  *#seenOf(rows: readonly StoreRow[]): Iterable<Judged> {
    const read = rows.map((row) => ({ row, seen: readSeenRow(row) }));
    const live = new Set(read.flatMap(({ seen }) => (isSet(seen) ? [seen.name] : [])));
    for (const { row, seen } of read) {
      if (seen === undefined) yield { row, rows: [], isAside: true, why: isDamaged };
      else if (isSet(seen))
        yield { row, rows: [this.#setRow(seen.sender, seen.name, seen.runs)], isAside: false };
      else {
        const resting = [...seen.archive.sets].filter(([name]) => !live.has(name));
        resting.sort(([, a], [, b]) => b.hour - a.hour);
        const kept = resting.slice(0, Math.max(0, EARLIER_SETS_MAX - EARLIER_SETS_SPARE - live.size));
        const left = resting.length - kept.length;
        yield {
          row,
          rows: kept.map(([name, { runs }]) => this.#setRow(seen.sender, name, runs)),
          isAside: left > 0,
          ...(left > 0
            ? {
                why: `${left} sets of what ${seen.sender} sent long ago: the earlier release has no room for them`,
              }
            : {}),
        };
      }
    }
  }

  /** The earlier release reckons the age of a gap by the wall clock: all begin anew, and none is closed too soon. */
  #setRow(sender: string, name: string, runs: readonly (readonly [number, number, number?])[]): EarlierRow {
    const meta = JSON.stringify(runs.map(([first, last]) => [first, last, this.#hour]));
    return { in: "seen", key: `${sender}/${name}`, meta, hasBody: false };
  }
}

const isSet = (seen: SeenRow | undefined): seen is Extract<SeenRow, { name: string }> =>
  seen !== undefined && "name" in seen;

/** Somebody may have it, or have seen the name that it has: a row of one that was sealed is durable before it is offered. */
const hasLeft = ({ targets, formerBundles, isRenamed }: OutboxEntry): boolean =>
  targets.length > 0 || (formerBundles ?? []).length > 0 || isRenamed === true;

/**
 * Sealed bytes as they came, which those releases open and pass on as this one does. They look at no sum and no id: one that is not what was
 * acknowledged would be passed on as if it were.
 */
function transit(row: StoreRow): Judged {
  const meta = readTransitMeta(row.meta);
  const header = meta === undefined ? undefined : soundHeader(meta.header);
  if (meta === undefined || header === undefined || row.bodyBytes === 0)
    return { row, rows: [], isAside: true, why: isDamaged };
  if (meta.inSession === true) return { row, rows: [], isAside: true, why: isHeld };
  const { atRunMs: _, ...rest } = meta;
  const whole = (sealed: Uint8Array): Promise<Uint8Array | undefined> =>
    Promise.resolve(bundleIdOf(header, sealed) === row.key ? sealed : undefined);
  return { ...keep(row, "transit", rest), body: whole };
}

/** Undefined: nobody could say where the bundle goes. */
function soundHeader(text: string): Uint8Array | undefined {
  const bytes = parseBase32(text);
  try {
    if (bytes !== undefined) decodeBundleHeader(bytes);
    return bytes;
  } catch {
    return undefined;
  }
}

/** A body may lie as it was sealed, and those releases want what was written. */
function inbox(row: StoreRow, opener: Opener): Judged {
  const entry = readInboxEntry(row);
  if (entry === undefined) return { row, rows: [], isAside: true, why: isDamaged };
  const { atRunMs: _1, via: _2, ...rest } = entry;
  const plain = async (stored: Uint8Array): Promise<Uint8Array | undefined> => {
    if (!isSealed(entry.size, stored.length)) return stored.length === entry.size ? stored : undefined;
    const piece = async (at: number, length: number): Promise<Uint8Array> => stored.subarray(at, at + length);
    return await readStored(opener, entry.size, stored.length, piece);
  };
  return { ...keep(row, "inbox", rest), body: plain };
}

/** Those releases read the first two words. */
const receipt = (row: StoreRow): Judged => ({
  row,
  rows: [{ in: "receipt", key: row.key, meta: row.meta, hasBody: true }],
  isAside: false,
});

/** `atRunMs` is not among it: an earlier release ages mail by the wall clock, and a stale one would age it twice after the way back. */
const keep = (row: StoreRow, collection: Collection, meta: object): Judged => ({
  row,
  rows: [{ in: collection, key: row.key, meta: JSON.stringify(meta), hasBody: true }],
  isAside: false,
});
