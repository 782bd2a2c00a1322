/**
 * What the database answered, as long as nothing is written to what it was asked of: each question to the worker costs both threads more than
 * its answer. Owns what every start asks, put as one question while the start does other things, and small
 * answers about mail that were asked for last.
 * Holds answers of the database alone: whoever takes one adds what is in the commit log by then. Must never answer with what was written
 * over, never keep what is large once it was taken, and never keep rows that have to be gone soon once they are deleted.
 */
import { godwitError } from "../kernel/errors.ts";
import type { WireEntry, WireValue } from "./sqlite-messages.ts";
import type { StoreThread } from "./sqlite-thread.ts";
import { PAGE_ROWS_MAX, isSlotted, slotted, type Collection } from "./types.ts";

/** What each start loads whole, however much it is: all of it is in memory afterwards. */
const WHOLE: readonly Collection[] = ["setting", "name", "peer", "record", "member", "token"];
/** What each start loads as well; read ahead up to so many rows. */
const SMALL: readonly Collection[] = ["seen", "receipt", "session", "chunk", "proof"];
const SMALL_ROWS_MAX = 1_024;
/** Asked for by many, or more than once. */
const ASKED_AGAIN: readonly Collection[] = ["setting", "member"];
/** Of a collection of mail: pages, single rows, totals. */
const KEPT_MAX = 8;
const KEPT_BYTES_MAX = 64 * 1024;

/** Questions of a start, beside the loads: as custody/recipient/inbox.ts, custody/source/entry-row.ts and custody/transit ask them. */
const PAGES: readonly WireEntry[] = [
  { kind: "page", in: "inbox", page: { order: "newest-first", limit: 64 } },
  { kind: "page", in: "outbox", page: { order: "oldest-first", limit: PAGE_ROWS_MAX } },
  { kind: "page", in: "transit", page: { order: "oldest-first", limit: PAGE_ROWS_MAX, after: 0 } },
];

type Answer = Promise<WireValue>;

interface Asked {
  readonly entry: WireEntry;
  resolve(value: WireValue): void;
  reject(error: unknown): void;
}

export class Answers {
  readonly #thread: Pick<StoreThread, "ask">;
  /** By collection, then by question; the oldest first. */
  readonly #kept = new Map<Collection, Map<string, Answer>>();
  #asked: Asked[] = [];

  constructor(thread: Pick<StoreThread, "ask">) {
    this.#thread = thread;
  }

  /** For a store that was just opened. */
  askAhead(): void {
    const entries: WireEntry[] = [
      ...WHOLE.map((collection) => ({ kind: "load", in: collection }) as const),
      ...SMALL.map((collection) => ({ kind: "load", in: collection, rowsMax: SMALL_ROWS_MAX }) as const),
      ...slotted.map((collection) => ({ kind: "totals", in: collection, keys: [] }) as const),
      ...PAGES,
    ];
    // Whoever asks after a failure asks the database, and hears why.
    const values = this.#thread.ask(entries).then(
      (answer) => (answer.failures.length > 0 ? new Map<number, WireValue>() : answer.values),
      () => new Map<number, WireValue>(),
    );
    for (const [index, entry] of entries.entries()) {
      const question = questionOf(entry);
      if (question !== undefined)
        this.#keep(
          question,
          values.then((all) => all.get(index)),
        );
    }
  }

  /** Something is written to the database: what was answered of that collection is no more. */
  onWrite(entries: readonly WireEntry[]): void {
    for (const entry of entries) {
      if (entry.kind === "restate") this.#kept.delete(entry.in);
      if (entry.kind === "commit") for (const [collection] of entry.ops) this.#kept.delete(collection);
    }
  }

  /** The database is not what it was, without anybody's writing. */
  forget(): void {
    this.#kept.clear();
  }

  /** Whether `answer` needs no question, or one that is under way. */
  knows(entry: WireEntry): boolean {
    const question = questionOf(entry);
    return question !== undefined && this.#kept.get(question.in)?.has(question.key) === true;
  }

  /** Of the database, now or since when nothing was written there. Rejects with GODWIT_STORE_FAILED. */
  async answer(entry: WireEntry): Promise<WireValue> {
    const question = questionOf(entry);
    if (question === undefined) return await this.ask(entry);
    // In this very turn, so that who asks the same meanwhile waits for the same.
    const kept = this.#kept.get(question.in)?.get(question.key);
    const taken = kept === undefined ? undefined : await this.#take(question, kept);
    if (taken !== undefined) return taken;
    const asked = this.ask(entry);
    if (entry.kind === "load") return await asked;
    this.#keep(question, asked);
    const value = await asked.catch((error: unknown) => {
      this.#drop(question, asked);
      throw error;
    });
    if (bytesOf(value) > KEPT_BYTES_MAX) this.#drop(question, asked);
    return value;
  }

  /** Undefined: ask the database. */
  async #take(question: Question, answer: Answer): Promise<WireValue> {
    const value = await answer.catch(() => undefined);
    // Written over while it was on its way.
    if (this.#kept.get(question.in)?.get(question.key) !== answer) return undefined;
    const isKept =
      value !== undefined &&
      (question.isLoad ? ASKED_AGAIN.includes(question.in) : bytesOf(value) <= KEPT_BYTES_MAX);
    this.#drop(question, answer);
    // Behind those that were asked for longer ago.
    if (isKept) this.#keep(question, answer);
    return value;
  }

  #keep({ in: collection, key, isLoad }: Question, answer: Answer): void {
    const kept = this.#kept.get(collection) ?? new Map<string, Answer>();
    this.#kept.set(collection, kept);
    if (!isLoad && kept.size >= KEPT_MAX) kept.delete(kept.keys().next().value!);
    kept.set(key, answer);
  }

  #drop({ in: collection, key }: Question, answer: Answer): void {
    const kept = this.#kept.get(collection);
    if (kept?.get(key) === answer) kept.delete(key);
  }

  /** Of the database, as it is. What is asked in one turn goes as one question. Rejects with GODWIT_STORE_FAILED. */
  ask(entry: WireEntry): Promise<WireValue> {
    const asked = Promise.withResolvers<WireValue>();
    if (this.#asked.push({ entry, ...asked }) === 1) queueMicrotask(() => void this.#askAll());
    return asked.promise;
  }

  /** Never rejects. */
  async #askAll(): Promise<void> {
    const asked = this.#asked;
    this.#asked = [];
    try {
      const { failures, values } = await this.#thread.ask(asked.map(({ entry }) => entry));
      for (const { index, message } of failures)
        asked[index]!.reject(godwitError("GODWIT_STORE_FAILED", message));
      for (const [index, { resolve }] of asked.entries()) resolve(values.get(index));
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }
}

interface Question {
  readonly in: Collection;
  readonly key: string;
  readonly isLoad: boolean;
}

/** Undefined for one whose answer is not kept. */
function questionOf(entry: WireEntry): Question | undefined {
  switch (entry.kind) {
    case "load":
      return { in: entry.in, key: "load", isLoad: true };
    case "totals":
      return entry.keys.length > 0 ? undefined : { in: entry.in, key: "totals", isLoad: false };
    case "rows":
      return entry.keys.length !== 1 || !isSlotted(entry.in)
        ? undefined
        : { in: entry.in, key: `row ${entry.keys[0]}`, isLoad: false };
    case "page": {
      const { order, limit, after, group } = entry.page;
      return { in: entry.in, key: JSON.stringify([order, limit, after, group]), isLoad: false };
    }
    default:
      return undefined;
  }
}

function bytesOf(value: WireValue): number {
  if (value === undefined || typeof value === "number") return 0;
  if ("totals" in value)
    return value.totals.groups.reduce((bytes, { group }) => bytes + group.length + 16, 0);
  if (!("metas" in value)) return 0;
  const { keys, metas } = value;
  return keys.reduce((bytes, key, index) => bytes + key.length + metas[index]!.length, 0);
}
