/**
 * The newest signed record of every node heard of, this one's own included. Records come from hellos and from
 * neighbours who hold them; only a valid signature counts, and the newest sequence number wins, a revocation always and
 * for good: the record of a revoked node is its revocation. Bounded, with shares by who told it (kernel/room.ts); kept in the store so that names resolve and mail can be sealed after a restart without anyone online. docs/protocol/records.md.
 */
import { decodeRecord, isNewerRecord, peekRecord, type NodeRecord } from "../identity/record.ts";
import { GodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { Room, type Worth, type Regard, shareAtStart } from "../kernel/room.ts";
import { RevocationIndex } from "./revocation-index.ts";
import type { Store, StoreOp } from "../store/types.ts";

export const RECORDS_MAX = 16_384;
/** Revocations by the authority, which have their room beside the records. */
export const REVOCATIONS_MAX = 16_384;
/** Revocations by nodes of themselves whose record was not held: anybody can make such nodes in any number. */
export const SELF_REVOCATIONS_MAX = 1_024;

export interface HeldRecord {
  readonly record: NodeRecord;
  readonly bytes: Uint8Array;
  /** First 8 bytes of SHA-256. */
  readonly hash: Uint8Array;
  /** Running time of this node at which one that it asked said last that it is the newest; undefined: nobody was asked. */
  readonly confirmedRunMs?: number | undefined;
}

export type OfferOutcome = "new" | "known" | "older" | "invalid" | "full";

export interface RecordBookDeps {
  readonly store: Store;
  readonly self: NodeId;
  readonly network: string;
  /** Whose revocations of others count; none: only those of nodes by themselves. */
  readonly authority: NodeId | undefined;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** A record replaced an older one, or is the first of its node. */
  changed(id: NodeId, record: NodeRecord, previous: NodeRecord | undefined): void;
  readonly regard: Regard;
  /** A node gave its place to another: nothing is held of it any more. */
  forgot(id: NodeId): void;
  /** Fewer places than RECORDS_MAX, for tests. */
  readonly recordsMax?: number;
}

export interface RecordSource {
  /** The neighbour that told it; undefined: this node itself, or whoever must be believed. */
  readonly teller?: NodeId;
  /** Refuses a record of another node. */
  readonly expected?: NodeId;
  /** It is the answer to a question of this node, which came at that running time. */
  readonly confirmedRunMs?: number;
}

export class RecordBook {
  readonly #deps: RecordBookDeps;
  readonly #records = new Map<NodeId, HeldRecord>();
  readonly #revoked = new Map<NodeId, HeldRecord>();
  /** The ids of `revocations` in their order. */
  readonly revoked = new RevocationIndex();
  readonly #room: Room<NodeId>;
  /** Of `#revoked`, those that took the place of no record, by who signed them. */
  readonly #extra = { authority: 0, self: 0 };

  constructor(deps: RecordBookDeps) {
    this.#deps = deps;
    this.#room = new Room({
      name: "records",
      max: deps.recordsMax ?? RECORDS_MAX,
      worthOf: (id) => this.#worthOf(id),
      evict: (id) => this.#evict(id),
    });
  }

  /** Rows that no longer verify (another network name) are passed over. */
  async load(): Promise<void> {
    const rows = await this.#deps.store.load("record");
    const bodies = await Promise.all(rows.map((row) => this.#deps.store.body("record", row.key)));
    for (const [index, bytes] of bodies.entries())
      if (bytes !== undefined) this.#offer(bytes, undefined, confirmedIn(rows[index]!.meta));
  }

  get(id: NodeId): HeldRecord | undefined {
    return this.#records.get(id);
  }

  get all(): Iterable<HeldRecord> {
    return this.#records.values();
  }

  get count(): number {
    return this.#records.size;
  }

  isRevoked(id: NodeId): boolean {
    return this.#revoked.has(id);
  }

  /** Every revocation held, in no order. */
  get revocations(): ReadonlyMap<NodeId, HeldRecord> {
    return this.#revoked;
  }

  /** Those that gave their places to others since the start. */
  get evictedCount(): number {
    return this.#room.evictedCount;
  }

  /** Copies what it keeps. */
  offer(bytes: Uint8Array, source: RecordSource = {}): OfferOutcome {
    return this.#offer(bytes, source, source.confirmedRunMs);
  }

  /** `source` undefined: from the disk. */
  #offer(
    bytes: Uint8Array,
    source: RecordSource | undefined,
    confirmedRunMs: number | undefined,
  ): OfferOutcome {
    const expected = source?.expected;
    // A signature costs a thousand comparisons: what could not replace the held record is not verified.
    const claimed = this.#decode(() => peekRecord(bytes));
    if (claimed === undefined || (expected !== undefined && claimed.id !== expected)) return "invalid";
    const held = this.#records.get(claimed.id);
    if (held !== undefined && !isNewerRecord(claimed, held.record)) {
      return held.record.sequence === claimed.sequence ? "known" : "older";
    }
    const record = this.#decode(() =>
      decodeRecord(bytes, this.#deps.network, this.#deps.verify, this.#deps.authority),
    );
    if (record === undefined) return "invalid";
    if (held === undefined && !this.#admit(record, source)) return "full";
    const { bytes: copy, hash } = record;
    const fresh: HeldRecord = { record, bytes: copy, hash, confirmedRunMs };
    this.#records.set(record.id, fresh);
    if (record.isRevoked) {
      this.#revoked.set(record.id, fresh);
      this.revoked.add(record.id);
    }
    if (source !== undefined) this.#deps.store.commit([rowOf(fresh)]).catch(() => {});
    this.#deps.changed(record.id, record, held?.record);
    return "new";
  }

  /** Resolves when the record of `id` that is held is durable. Rejects with GODWIT_STORE_FAILED. */
  async keep(id: NodeId): Promise<void> {
    const held = this.#records.get(id);
    if (held === undefined) return;
    await this.#deps.store.commit([rowOf(held)]);
  }

  /** Whoever was asked knows no newer one of `id`. */
  confirm(id: NodeId, confirmedRunMs: number): void {
    const held = this.#records.get(id);
    if (held === undefined || held.record.isRevoked) return;
    const fresh = { ...held, confirmedRunMs };
    this.#records.set(id, fresh);
    this.#deps.store.commit([rowOf(fresh)]).catch(() => {});
  }

  /** Room for a node that nothing is held of; books it. */
  #admit({ isRevoked, signer, id }: NodeRecord, source: RecordSource | undefined): boolean {
    const { regard, self } = this.#deps;
    if (!isRevoked) {
      const share = source === undefined ? shareAtStart(regard, id) : regard.shareOf(source.teller ?? self);
      return this.#room.admit(id, share);
    }
    const by = signer === id ? "self" : "authority";
    const isOver = this.#extra[by] >= (by === "self" ? SELF_REVOCATIONS_MAX : REVOCATIONS_MAX);
    // Anybody can fill what there is for nodes that revoke themselves, but not with nodes that are known here.
    if (isOver && (by === "authority" || regard.worthOf(id) !== "kept")) return false;
    this.#extra[by]++;
    return true;
  }

  /** A revocation by the authority is for good; one by the node itself as long as anybody could care. */
  #worthOf(id: NodeId): Worth {
    const record = this.#records.get(id)?.record;
    if (record?.isRevoked !== true) return this.#deps.regard.worthOf(id);
    if (record.signer !== id || this.#deps.regard.worthOf(id) === "kept") return "kept";
    return "used";
  }

  #evict(id: NodeId): void {
    this.#records.delete(id);
    this.#revoked.delete(id);
    this.revoked.delete(id);
    this.#deps.store.commit([{ op: "delete", in: "record", key: id }]).catch(() => {});
    this.#deps.forgot(id);
  }

  #decode(decode: () => NodeRecord): NodeRecord | undefined {
    try {
      return decode();
    } catch (error) {
      if (error instanceof GodwitError) return undefined;
      throw error;
    }
  }
}

const rowOf = ({ record, bytes, confirmedRunMs }: HeldRecord): StoreOp => ({
  op: "put",
  in: "record",
  key: record.id,
  meta: confirmedRunMs === undefined ? "" : String(Math.floor(confirmedRunMs)),
  body: bytes,
});

/** Of a row of an earlier release: nobody was asked. */
const confirmedIn = (meta: string): number | undefined =>
  /^\d{1,15}$/.test(meta) ? Number(meta) : undefined;
