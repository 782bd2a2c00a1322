/**
 * Messages that reached this node, each exactly once, until they are read and removed or their retention ends. A full
 * inbox refuses, so that the previous hop keeps the message; it never pushes out what nobody has read.
 */
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
import { Quota } from "../../kernel/quota.ts";
import { EARLIER_RUN, type Share } from "../../kernel/room.ts";
import type { TraceEntry } from "../../wire/bundle.ts";
import type { Priority } from "../../wire/constants.ts";
import { type CustodyContext, isTrace } from "../context.ts";
import { PagedMap, type Page } from "../paged-map.ts";
import { CONTENT_TYPE_BYTES_MAX, SUBJECT_BYTES_MAX } from "../../wire/message.ts";
import { isLarge, readStored, SEAL_BYTES_MAX, type StoredBody } from "./stored-body.ts";
import { loadSound } from "../../store/sound.ts";
import type { StoreOp } from "../../store/types.ts";

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
  atRunMs: isAbsentOr(isTime),
  via: isAbsentOr(isText(256)),
});

const RETENTION_CHECK_MS = 3_600_000;

/** Told when a message for this node was delivered. */
export interface InboxEvents {
  /** Durable and visible. `body` is valid until the call returns; of a large one it is the beginning. */
  delivered: { readonly entry: InboxEntry; readonly body: Uint8Array };
}

export class Inbox {
  readonly #ctx: CustodyContext;
  readonly #entries = new PagedMap<MessageId, InboxEntry>();
  readonly #quota: Quota<MessageId>;
  #timer: Timer | undefined;

  constructor(ctx: CustodyContext) {
    this.#ctx = ctx;
    const { inboxMessagesMax, inboxBytesMax, senderShare } = ctx.limits;
    this.#quota = new Quota({ countMax: inboxMessagesMax, bytesMax: inboxBytesMax, oneShare: senderShare });
  }

  async load(): Promise<void> {
    const { store, time } = this.#ctx;
    const undated: StoreOp[] = [];
    const entries = await loadSound(store, "inbox", ({ key, meta }) => {
      const entry = parseMeta<InboxEntry>(meta, isInboxEntry);
      if (entry?.id !== key) return undefined;
      if (entry.atRunMs !== undefined) return entry;
      const dated = { ...entry, atRunMs: time.runMs };
      undated.push({ op: "put", in: "inbox", key, meta: JSON.stringify(dated) });
      return dated;
    });
    if (undated.length > 0) await store.commit(undated).catch(() => {});
    for (const { atRunMs } of entries) time.catchUp(atRunMs!);
    // In the order in which they came, whatever the clock showed then.
    entries.sort((a, b) => a.atRunMs! - b.atRunMs! || a.deliveredAtMs - b.deliveredAtMs);
    for (const entry of entries) this.#count(entry);
    this.#watch();
  }

  get count(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#quota.bytes;
  }

  get(id: MessageId): InboxEntry | undefined {
    return this.#entries.get(id);
  }

  page(page: Page): InboxEntry[] {
    return this.#entries.page(page);
  }

  /** Undefined when there is room for a body of `bytes` from this sender, else why not. */
  refusal(from: NodeId, share: Share, bytes: number): "full" | "quota" | undefined {
    return this.#quota.refusal(from, share, bytes);
  }

  /** Counts the entry now (so that concurrent deliveries respect the bounds) and answers the op to commit. */
  add(entry: InboxEntry, body: Uint8Array | StoredBody): StoreOp {
    this.#count(entry);
    const put = { op: "put", in: "inbox", key: entry.id, meta: JSON.stringify(entry) } as const;
    return body instanceof Uint8Array ? { ...put, body } : { ...put, head: body.head, body: body.rest };
  }

  /** The commit failed: it is not there. */
  undo(id: MessageId): void {
    const entry = this.#entries.get(id);
    if (entry !== undefined) this.#uncount(entry);
  }

  /** What the sender wrote, or an error: GODWIT_MESSAGE_UNKNOWN, GODWIT_MESSAGE_DAMAGED, and then it is in the inbox no more. */
  async body(id: MessageId): Promise<Uint8Array> {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id} in the inbox`);
    const body = await this.#read(entry);
    if (body !== undefined) return body;
    // The store has set it aside, unless only its size tells.
    await this.#ctx.store.commit([{ op: "set-aside", in: "inbox", key: id }]).catch(() => {});
    this.#uncount(entry);
    throw godwitError(
      "GODWIT_MESSAGE_DAMAGED",
      `message ${id} from ${entry.from} was damaged on this disk and is set aside; ask its sender to send it again`,
    );
  }

  /** Undefined when what lies there is not the message. */
  async #read({ id, size }: InboxEntry): Promise<Uint8Array | undefined> {
    const { store, sealer } = this.#ctx;
    const read = (at: number, length: number) => store.piece("inbox", id, at, length);
    // As it was sealed it is longer than what was written.
    const behind = isLarge(size) ? ((await read(size, SEAL_BYTES_MAX))?.length ?? 0) : 0;
    if (behind > 0) return readStored(sealer, size, size + behind, read);
    const body = (await store.body("inbox", id)) ?? new Uint8Array(0);
    return body.length === size ? body : undefined;
  }

  async remove(id: MessageId): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id} in the inbox`);
    await this.#ctx.store.commit([{ op: "delete", in: "inbox", key: id }]);
    this.#uncount(entry);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #count(entry: InboxEntry): void {
    this.#entries.set(entry.id, entry);
    const { id, from, via, size } = entry;
    // One of a release that noted no share, or of somebody who was known when it came: as it is now.
    const share = this.#ctx.regard.isKnown(from) ? { by: from, isKnown: true } : EARLIER_RUN;
    this.#quota.add(id, from, via === undefined ? share : { by: via, isKnown: false }, size);
  }

  #uncount(entry: InboxEntry): void {
    if (this.#entries.delete(entry.id)) this.#quota.drop(entry.id);
  }

  /** By the time that this node ran, and that it was off as far as that is confirmed: a wrong clock keeps messages longer. */
  #watch(): void {
    this.#timer = this.#ctx.clock.after(RETENTION_CHECK_MS, () => {
      const { limits, time, store, log } = this.#ctx;
      const old = [...this.#entries.values()].filter(
        ({ atRunMs }) => time.ageMs(atRunMs) >= limits.inboxRetentionMs,
      );
      const ops = old.map((entry): StoreOp => ({ op: "delete", in: "inbox", key: entry.id }));
      if (ops.length > 0) {
        store.commit(ops).then(
          () => old.forEach((entry) => this.#uncount(entry)),
          (error: unknown) => {
            if (error instanceof GodwitError) log.warn("inbox retention failed", { error });
          },
        );
      }
      this.#watch();
    });
  }
}
