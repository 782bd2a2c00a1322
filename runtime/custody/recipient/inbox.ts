/**
 * Messages that reached this node, each exactly once, until they are read and removed or their retention ends. A full
 * inbox refuses, so that the previous hop keeps the message; it never pushes out what nobody has read. The messages are in the
 * store: here stand sums alone, and what one page costs does not depend on how many there are.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Timer } from "@godwit/sdk";
import { GodwitError, godwitError } from "../../kernel/errors.ts";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import {
  hasFields,
  isAbsentOr,
  isCount,
  isFlag,
  isMatch,
  isOneOf,
  isText,
  isTime,
  parseMeta,
} from "../../kernel/json.ts";
import type { Share } from "../../kernel/room.ts";
import type { TraceEntry } from "../../wire/bundle.ts";
import type { Priority } from "../../wire/constants.ts";
import { type CustodyContext, isTrace, type Page } from "../context.ts";
import { CONTENT_TYPE_BYTES_MAX, SUBJECT_BYTES_MAX } from "../../wire/message.ts";
import {
  PAGE_ROWS_MAX,
  type Damage,
  type SlottedRow,
  type StoreOp,
  type StoreRow,
  type StoreState,
} from "../../store/types.ts";
import { Edits } from "./edits.ts";
import { groupOf, InboxShares } from "./inbox-shares.ts";
import { isSealed, readStored, rowBytesOf, type StoredBody } from "./stored-body.ts";

/** JSON of the `meta` column; readers skip fields they do not know. */
export interface InboxEntry {
  readonly id: MessageId;
  readonly from: NodeId;
  readonly to: string;
  readonly subject: string;
  readonly contentType: string;
  readonly priority: Priority;
  readonly size: number;
  readonly createdAtMs: number;
  readonly deliveredAtMs: number;
  readonly forwardSecret: boolean;
  readonly isUnconfirmed: boolean;
  readonly trace: readonly TraceEntry[];
  /** Links before the first of it that nobody noted; absent: none. */
  readonly hopsUntraced?: number;
  /** Running time of this node at delivery: retention counts from here. Undefined: a release wrote it that counted none. */
  readonly atRunMs?: number;
  /** Whose share it counts to, of a stranger: the source address, or the known neighbour, that it came from. */
  readonly via?: string;
}

const isInboxEntry = hasFields({
  id: isMatch(/^[0-9a-f]{32}$/),
  from: isText(64),
  to: isText(64),
  subject: isText(SUBJECT_BYTES_MAX),
  contentType: isText(CONTENT_TYPE_BYTES_MAX),
  priority: isOneOf(0, 1, 2, 3),
  size: isCount,
  createdAtMs: isTime,
  deliveredAtMs: isTime,
  forwardSecret: isFlag,
  isUnconfirmed: isFlag,
  trace: isTrace,
  hopsUntraced: isAbsentOr(isCount),
  atRunMs: isAbsentOr(isTime),
  via: isAbsentOr(isText(256)),
});

/** Undefined for a damaged row. */
export function readInboxEntry({ key, meta }: Pick<StoreRow, "key" | "meta">): InboxEntry | undefined {
  const entry = parseMeta<InboxEntry>(meta, isInboxEntry);
  return entry?.id === key ? entry : undefined;
}

const RETENTION_CHECK_MS = 3_600_000;
/** Rows that are read and changed at once where all of them are gone through. */
const STEP_ROWS = 256;
/** The newest, which say how far running time had come. */
const DATED_ROWS = 64;
/** Last rows of pages whose places are remembered: the next page begins behind one that was removed meanwhile as well. */
export const PAGE_ENDS_MAX = 1_024;

/** Told when a message for this node was delivered. */
export interface InboxEvents {
  /** Durable and visible. `body` is valid until the call returns; of a large one it is the beginning. */
  delivered: { readonly entry: InboxEntry; readonly body: Uint8Array };
}

interface Found {
  readonly entry: InboxEntry;
  readonly row: SlottedRow;
}

export class Inbox {
  readonly #ctx: CustodyContext;
  readonly #shares: InboxShares;
  readonly #edits = new Edits();
  readonly #leaving = new Map<MessageId, Promise<void>>();
  readonly #pageEnds = new BoundedMap<string, number>({ name: "ends of pages", max: PAGE_ENDS_MAX });
  /** Place of the newest, or of one that was. */
  #last = 0;
  #hasOlder = false;
  /** How often the store had found something damaged when the sums were read. */
  #countsChanged = 0;
  /** Counted while the sums are read anew. */
  #added: { readonly order: number; readonly entry: InboxEntry; readonly bytes: number }[] | undefined;
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(ctx: CustodyContext) {
    this.#ctx = ctx;
    this.#shares = new InboxShares(ctx);
  }

  async load(): Promise<void> {
    const { store, time } = this.#ctx;
    const { groups, last } = await store.totals("inbox");
    this.#shares.load(groups);
    this.#countsChanged = countsChanged(store.state);
    this.#last = last;
    this.#hasOlder = groups.some(({ group }) => group === "");
    const newest = this.#read(await store.page("inbox", { order: "newest-first", limit: DATED_ROWS }));
    for (const { entry } of newest.toReversed()) time.catchUp(entry.atRunMs ?? 0);
    if (this.#hasOlder) void this.#adopt();
    this.#watch();
  }

  get count(): number {
    return this.#shares.count;
  }

  get bytes(): number {
    return this.#shares.bytes;
  }

  /** What is durable. */
  async get(id: MessageId): Promise<InboxEntry | undefined> {
    return (await this.#find(id))?.entry;
  }

  /** Which of these are here, at most `PAGE_ROWS_MAX`. */
  async present(ids: readonly MessageId[]): Promise<ReadonlySet<MessageId>> {
    return new Set((await this.#ctx.store.rows("inbox", ids)).map(({ key }) => key as MessageId));
  }

  /** In the order of arrival. Empty after one that is not there and ended no page of late. */
  async page({ order, limit, after }: Page): Promise<InboxEntry[]> {
    const found: Found[] = [];
    let from = after === undefined ? undefined : await this.#placeOf(after as MessageId);
    if (after !== undefined && from === undefined) return [];
    while (found.length < limit) {
      const wanted = Math.min(limit - found.length, PAGE_ROWS_MAX);
      const rows = await this.#ctx.store.page("inbox", { order, limit: wanted, after: from });
      found.push(...this.#read(rows));
      from = rows.at(-1)?.order;
      if (rows.length < wanted) break;
    }
    // Whoever asks for one more than it shows goes on behind the one before.
    for (const { entry, row } of found.slice(-2)) this.#pageEnds.set(entry.id, row.order);
    return found.map(({ entry }) => entry);
  }

  /** What came behind a place, oldest first, each with its own. 0: all of it. */
  async since(order: number, limit: number): Promise<{ order: number; entry: InboxEntry }[]> {
    const rows = await this.#ctx.store.page("inbox", { order: "oldest-first", limit, after: order });
    return this.#read(rows).map(({ entry, row }) => ({ order: row.order, entry }));
  }

  /** Undefined when there is room for a body of `bytes` from this sender, else why not. */
  refusal(from: NodeId, share: Share, bytes: number): "full" | "quota" | undefined {
    return this.#shares.refusal(from, share, bytes);
  }

  /** Counts the entry now (so that concurrent deliveries respect the bounds) and answers the op to commit, in the same turn: its place is the next. */
  add(entry: InboxEntry, body: Uint8Array | StoredBody): StoreOp {
    const group = groupOf(entry);
    const bytes = rowBytesOf(body);
    this.#shares.add(group, 1, bytes);
    const slot = { order: ++this.#last, group };
    this.#added?.push({ order: slot.order, entry, bytes });
    const put = { op: "put", in: "inbox", key: entry.id, meta: JSON.stringify(entry), slot } as const;
    return body instanceof Uint8Array ? { ...put, body } : { ...put, head: body.head, body: body.rest };
  }

  /** The commit failed: it is not there. */
  undo(entry: InboxEntry, body: Uint8Array | StoredBody): void {
    this.#shares.add(groupOf(entry), -1, -rowBytesOf(body));
    this.#added = this.#added?.filter((added) => added.entry !== entry);
  }

  /** What the sender wrote, or an error: GODWIT_MESSAGE_UNKNOWN, GODWIT_MESSAGE_DAMAGED, and then it is in the inbox no more. */
  async body(id: MessageId): Promise<Uint8Array> {
    const { store } = this.#ctx;
    const before = store.state.damageCount;
    const { entry, row } = await this.#known(id);
    const body = await this.#stored(entry, row);
    if (body !== undefined) return body;
    // Removed while it was read: that is counted already.
    const isThere = (await this.present([id])).has(id) && !this.#leaving.has(id);
    if (!isThere && store.state.damageCount === before) throw unknown(id);
    // The store has set it aside, unless only its size tells.
    await this.#discard(row);
    throw damaged(`${id} from ${entry.from}`);
  }

  /** Undefined when what lies there is not the message. */
  async #stored({ id, size }: InboxEntry, { bodyBytes }: SlottedRow): Promise<Uint8Array | undefined> {
    const { store, sealer } = this.#ctx;
    if (isSealed(size, bodyBytes))
      return readStored(sealer, size, bodyBytes, (at, length) => store.piece("inbox", id, at, length));
    const body = (await store.body("inbox", id)) ?? new Uint8Array(0);
    return body.length === size ? body : undefined;
  }

  async remove(id: MessageId): Promise<void> {
    await this.#edits.run(async () => {
      const { row } = await this.#known(id);
      await this.#leave(row, "delete");
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #find(id: MessageId): Promise<Found | undefined> {
    return this.#read(await this.#ctx.store.rows("inbox", [id]))[0];
  }

  async #known(id: MessageId): Promise<Found> {
    const { store } = this.#ctx;
    const before = store.state.damageCount;
    const found = await this.#find(id);
    if (found !== undefined) return found;
    const isFound = ({ in: box, key }: Damage): boolean => box === "inbox" && key === id;
    throw store.state.damageCount > before && store.state.damage.some(isFound) ? damaged(id) : unknown(id);
  }

  async #placeOf(id: MessageId): Promise<number | undefined> {
    const [row] = await this.#ctx.store.rows("inbox", [id]);
    return row?.order ?? this.#pageEnds.get(id);
  }

  /** Rows as entries; what cannot be read is set aside, which costs that row and nothing else. */
  #read(rows: readonly SlottedRow[]): Found[] {
    const found: Found[] = [];
    for (const row of rows) {
      const entry = parseMeta<InboxEntry>(row.meta, isInboxEntry);
      if (entry?.id === row.key) found.push({ entry, row });
      // Nobody waits for it: without room it stays where it is, and is found again.
      else void this.#discard(row);
    }
    if (countsChanged(this.#ctx.store.state) !== this.#countsChanged) void this.#recount();
    return found;
  }

  /** Never rejects. */
  #discard(row: SlottedRow): Promise<void> {
    return this.#edits.run(() => this.#leave(row, "set-aside")).catch(() => {});
  }

  /** The store set rows aside by itself, and counts them no more. Never rejects. */
  async #recount(): Promise<void> {
    const { store, log } = this.#ctx;
    this.#countsChanged = countsChanged(store.state);
    await this.#edits.alone(async () => {
      this.#added = [];
      try {
        const { groups, last } = await store.totals("inbox");
        this.#shares.load(groups);
        this.#hasOlder ||= groups.some(({ group }) => group === "");
        for (const { order, entry, bytes } of this.#added)
          if (order > last) this.#shares.add(groupOf(entry), 1, bytes);
      } catch (error) {
        if (error instanceof GodwitError) log.warn("inbox not counted", { error });
      } finally {
        this.#added = undefined;
      }
    });
  }

  /** Once for each row, however many want it gone. */
  #leave(row: SlottedRow, op: "delete" | "set-aside"): Promise<void> {
    const id = row.key as MessageId;
    let leaving = this.#leaving.get(id);
    if (leaving === undefined) {
      leaving = this.#ctx.store
        .commit([{ op, in: "inbox", key: id }])
        .then(() => this.#shares.add(row.group, -1, -row.bodyBytes))
        .finally(() => this.#leaving.delete(id));
      this.#leaving.set(id, leaving);
    }
    return leaving;
  }

  /**
   * Rows of a release that counted no shares and no running time get both, and those whose group the disk damaged have it again: a few at a time,
   * oldest first, and what a crash cut off goes on at the next start. Never rejects.
   */
  async #adopt(): Promise<void> {
    try {
      let after: number | undefined = 0;
      while (after !== undefined && !this.#isStopped) {
        const from: number = after;
        const startMs = this.#ctx.clock.monotonicMs();
        after = await this.#edits.alone(() => this.#adoptSome(from));
        await this.#pause(this.#ctx.clock.monotonicMs() - startMs);
      }
      this.#hasOlder = after !== undefined;
    } catch (error) {
      if (error instanceof GodwitError) this.#ctx.log.warn("older messages not taken over yet", { error });
    }
  }

  /** Half of the time the store is for others. */
  async #pause(ms: number): Promise<void> {
    if (ms === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ctx.clock.after(ms, resolve);
    await promise;
  }

  /** Those behind a place. Answers that of the last one; undefined: there are no more. */
  async #adoptSome(after: number): Promise<number | undefined> {
    const { store, time } = this.#ctx;
    const page = { order: "oldest-first", limit: STEP_ROWS, after, group: "" } as const;
    const rows = await store.page("inbox", page);
    const found = this.#read(rows);
    const ops = found.map(({ entry, row }): StoreOp => {
      const meta = entry.atRunMs === undefined ? JSON.stringify({ ...entry, atRunMs: time.runMs }) : row.meta;
      return {
        op: "put",
        in: "inbox",
        key: row.key,
        meta,
        slot: { order: row.order, group: groupOf(entry) },
      };
    });
    if (ops.length > 0) await store.commit(ops);
    for (const { entry, row } of found) {
      this.#shares.add("", -1, -row.bodyBytes);
      this.#shares.add(groupOf(entry), 1, row.bodyBytes);
    }
    return rows.length < STEP_ROWS ? undefined : rows.at(-1)!.order;
  }

  /** By the time that this node ran, and that it was off as far as that is confirmed: a wrong clock keeps messages longer. */
  #watch(): void {
    this.#timer = this.#ctx.clock.after(RETENTION_CHECK_MS, () => {
      void this.#expire().catch((error: unknown) => {
        if (error instanceof GodwitError) this.#ctx.log.warn("inbox retention failed", { error });
      });
      if (this.#hasOlder) void this.#adopt();
      this.#watch();
    });
  }

  async #expire(): Promise<void> {
    while (!this.#isStopped && (await this.#edits.run(() => this.#expireSome())));
  }

  /** From the oldest end, up to the first that is to stay. True: there may be more. */
  async #expireSome(): Promise<boolean> {
    const { limits, time, store } = this.#ctx;
    const rows = await store.page("inbox", { order: "oldest-first", limit: STEP_ROWS });
    const found = this.#read(rows);
    const kept = found.findIndex(({ entry }) => time.ageMs(entry.atRunMs) < limits.inboxRetentionMs);
    const old = kept < 0 ? found : found.slice(0, kept);
    await Promise.all(old.map(({ row }) => this.#leave(row, "delete")));
    return kept < 0 && rows.length === STEP_ROWS;
  }
}

/** Another number when rows went, or are counted otherwise, without anybody here. */
const countsChanged = ({ damageCount, recounts }: StoreState): number => damageCount + recounts;

const damaged = (what: string): GodwitError =>
  godwitError(
    "GODWIT_MESSAGE_DAMAGED",
    `message ${what} was damaged on this disk and is set aside; ask its sender to send it again`,
  );

const unknown = (id: MessageId): GodwitError =>
  godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id} in the inbox`);
