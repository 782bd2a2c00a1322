/**
 * Sessions whose mail this node can open. Owns their roots, on the disk and in memory: each comes with the commit that keeps mail of it, and goes with
 * the prekey that it was agreed to. Bounded by yielding, because losing one costs its sender a message that is sealed anew, and never mail. Must
 * never keep a root for mail that was not kept. docs/protocol/sealing.md "Sessions".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { formatHex, type NodeId, parseHex } from "../../kernel/ids.ts";
import { type Share, shareAtStart } from "../../kernel/room.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import type { StoreOp } from "../../store/types.ts";
import type { CustodyContext, OpenedSession, SessionKeys, SessionRoots } from "../context.ts";

export const SESSIONS_KEPT_MAX = 16_384;
/** Of one sender: its last starts, of which mail may be under way that nobody else remembers. */
const OF_SENDER_MAX = { known: 32, stranger: 4 } as const;
/** Agreed for mail that is not durable yet: to be agreed again costs time only. */
const FRESH_MAX = 256;

interface Kept {
  readonly from: NodeId;
  readonly keyId: number;
  readonly keys: SessionKeys;
  /** Of the newest record of its sender when it came. */
  readonly since: number;
}

const nameOf = (from: NodeId, id: Uint8Array): string => `${from} ${formatHex(id)}`;

export class ReceivedSessions implements SessionRoots {
  readonly #ctx: Pick<CustodyContext, "store" | "regard" | "sealer" | "log">;
  readonly #kept = new SharedMap<string, Kept>({
    name: "sessions of received mail",
    max: SESSIONS_KEPT_MAX,
    evicted: (name, { from }) => {
      this.#unlist(from, name);
      this.#yielded.push(name);
    },
  });
  /** Names, oldest first. */
  readonly #ofSender = new Map<NodeId, Set<string>>();
  readonly #fresh = new BoundedMap<string, Kept>({ name: "sessions not kept yet", max: FRESH_MAX });
  #yielded: string[] = [];

  constructor(ctx: Pick<CustodyContext, "store" | "regard" | "sealer" | "log">) {
    this.#ctx = ctx;
  }

  get count(): number {
    return this.#kept.size;
  }

  /** What is damaged, or was agreed to a prekey that is gone, goes. Rejects with GODWIT_STORE_FAILED. */
  async load(): Promise<void> {
    const { store, sealer, regard } = this.#ctx;
    const { sessions } = sealer;
    for (const { key, meta } of await store.load("session")) {
      const kept = sessions === undefined ? undefined : readRow(key, meta, (root) => sessions.keysOf(root));
      if (kept !== undefined && sessions!.holdsPrekey(kept.keyId))
        this.#add(key, kept, shareAtStart(regard, kept.from));
      // Without sessions it is kept for a start that has them.
      else if (sessions !== undefined) this.#yielded.push(key);
    }
    await this.#drop();
    sessions?.onPrekeysGone(() => void this.#onPrekeysGone());
  }

  find(from: NodeId, id: Uint8Array): SessionKeys | undefined {
    const name = nameOf(from, id);
    return (this.#kept.get(name) ?? this.#fresh.get(name))?.keys;
  }

  since(from: NodeId): number | undefined {
    let newest: number | undefined;
    for (const name of this.#ofSender.get(from) ?? [])
      newest = Math.max(newest ?? 0, this.#kept.get(name)?.since ?? 0);
    return newest;
  }

  /** Mail of it was opened, which may be kept or not. */
  note(from: NodeId, { id, keyId, keys }: OpenedSession): void {
    const name = nameOf(from, id);
    if (keyId === undefined || this.#kept.has(name)) return;
    const since = this.#ctx.sealer.keyFor(from)?.sequence ?? 0;
    this.#fresh.renew(name, { from, keyId, keys, since });
  }

  /** Ops that keep it: commit them with the mail that came in it. None where it is kept already, or has no place. */
  keep(from: NodeId, { id }: OpenedSession, share: Share): StoreOp[] {
    const name = nameOf(from, id);
    const fresh = this.#fresh.get(name);
    if (fresh === undefined || this.#kept.has(name)) return [];
    if (!this.#add(name, fresh, share)) return [];
    const { keyId, keys, since } = fresh;
    const meta = `${keyId} ${formatHex(keys.root)} ${since}`;
    return [{ op: "put", in: "session", key: name, meta }, ...this.#takeYielded()];
  }

  /** It is on the disk, or will be with the commit that `keep` was asked for. */
  has(from: NodeId, { id }: OpenedSession): boolean {
    return this.#kept.has(nameOf(from, id));
  }

  /** The commit with it failed. */
  undo(from: NodeId, session: OpenedSession): void {
    const name = nameOf(from, session.id);
    const kept = this.#kept.get(name);
    if (kept === undefined || !this.#fresh.has(name)) return;
    this.#kept.delete(name);
    this.#unlist(from, name);
  }

  /** The commit with it is durable. */
  kept(from: NodeId, session: OpenedSession): void {
    this.#fresh.delete(nameOf(from, session.id));
  }

  /** What was agreed to those that are gone opens nothing any more. Where it cannot be deleted now the next start sees to it. */
  async #onPrekeysGone(): Promise<void> {
    const holds = (keyId: number) => this.#ctx.sealer.sessions?.holdsPrekey(keyId) ?? true;
    for (const [name, { keyId }] of this.#fresh) if (!holds(keyId)) this.#fresh.delete(name);
    for (const [name, { from, keyId }] of this.#kept) {
      if (holds(keyId)) continue;
      this.#kept.delete(name);
      this.#unlist(from, name);
      this.#yielded.push(name);
    }
    await this.#drop().catch((error: unknown) => {
      this.#ctx.log.warn("sessions not deleted", { error: error instanceof Error ? error : String(error) });
    });
  }

  /** False: there is no place for it. */
  #add(name: string, kept: Kept, share: Share): boolean {
    if (!this.#kept.set(name, kept, share)) return false;
    const names = this.#ofSender.get(kept.from) ?? new Set();
    this.#ofSender.set(kept.from, names);
    names.add(name);
    const [oldest] = names;
    if (names.size > OF_SENDER_MAX[share.isKnown ? "known" : "stranger"]) {
      names.delete(oldest!);
      this.#kept.delete(oldest!);
      this.#yielded.push(oldest!);
    }
    return true;
  }

  #unlist(from: NodeId, name: string): void {
    const names = this.#ofSender.get(from);
    names?.delete(name);
    if (names?.size === 0) this.#ofSender.delete(from);
  }

  async #drop(): Promise<void> {
    const ops = this.#takeYielded();
    if (ops.length > 0) await this.#ctx.store.commit(ops);
  }

  #takeYielded(): StoreOp[] {
    const keys = this.#yielded;
    this.#yielded = [];
    return keys.map((key) => ({ op: "delete", in: "session", key }));
  }
}

function readRow(name: string, meta: string, keysOf: (root: Uint8Array) => SessionKeys): Kept | undefined {
  const [keyId, rootHex, since] = meta.split(" ");
  const root = parseHex(rootHex ?? "", 32);
  const from = name.split(" ")[0] as NodeId;
  return root === undefined
    ? undefined
    : { from, keyId: Number(keyId), keys: keysOf(root), since: Number(since ?? 0) || 0 };
}
