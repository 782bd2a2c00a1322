/**
 * The newest signed record of every node heard of, this one's own included. Records come from hellos and from
 * neighbours who hold them; only a valid signature counts, and the newest sequence number wins, a revocation always and
 * for good: the record of a revoked node is its revocation. Bounded; kept in the store so that names resolve and mail can be sealed after a restart without anyone online. docs/protocol/records.md.
 */
import { decodeRecord, isNewerRecord, peekRecord, type NodeRecord } from "../identity/record.ts";
import { GodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
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
}

export type OfferOutcome = "new" | "known" | "older" | "invalid" | "full";

export interface RecordBookDeps {
  readonly store: Store;
  readonly network: string;
  /** Whose revocations of others count; none: only those of nodes by themselves. */
  readonly authority: NodeId | undefined;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** A record replaced an older one, or is the first of its node. */
  changed(id: NodeId, record: NodeRecord, previous: NodeRecord | undefined): void;
}

export class RecordBook {
  readonly #deps: RecordBookDeps;
  readonly #records = new Map<NodeId, HeldRecord>();
  readonly #revoked = new Map<NodeId, HeldRecord>();
  /** Of `#revoked`, those that took the place of no record, by who signed them. */
  readonly #extra = { authority: 0, self: 0 };

  constructor(deps: RecordBookDeps) {
    this.#deps = deps;
  }

  /** Rows that no longer verify (another network name) are passed over. */
  async load(): Promise<void> {
    const rows = await this.#deps.store.load("record");
    const bodies = await Promise.all(rows.map((row) => this.#deps.store.body("record", row.key)));
    for (const bytes of bodies) if (bytes !== undefined) this.offer(bytes, false);
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

  /** Copies what it keeps. `expected` refuses a record of another node. */
  offer(bytes: Uint8Array, isPersisted = true, expected?: NodeId): OfferOutcome {
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
    if (held === undefined && !this.#admit(record)) return "full";
    const { bytes: copy, hash } = record;
    const fresh = { record, bytes: copy, hash };
    this.#records.set(record.id, fresh);
    if (record.isRevoked) this.#revoked.set(record.id, fresh);
    if (isPersisted) {
      const op: StoreOp = { op: "put", in: "record", key: record.id, meta: "", body: copy };
      this.#deps.store.commit([op]).catch(() => {});
    }
    this.#deps.changed(record.id, record, held?.record);
    return "new";
  }

  /** Resolves when the record of `id` that is held is durable. Rejects with GODWIT_STORE_FAILED. */
  async keep(id: NodeId): Promise<void> {
    const held = this.#records.get(id);
    if (held === undefined) return;
    await this.#deps.store.commit([{ op: "put", in: "record", key: id, meta: "", body: held.bytes }]);
  }

  /** Room for a node that nothing is held of; books it. */
  #admit({ isRevoked, signer, id }: NodeRecord): boolean {
    if (!isRevoked) return this.#records.size - this.#extra.authority - this.#extra.self < RECORDS_MAX;
    const by = signer === id ? "self" : "authority";
    if (this.#extra[by] >= (by === "self" ? SELF_REVOCATIONS_MAX : REVOCATIONS_MAX)) return false;
    this.#extra[by]++;
    return true;
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
