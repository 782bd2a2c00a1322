/**
 * Sessions whose mail this node can open. Owns their roots, on the disk and in memory: each comes with the commit that keeps mail of it, and goes with
 * the prekey that it was agreed to; and with it what later messages leave out, of the one that it was kept with. Bounded by yielding, because losing one costs its sender a message that is sealed anew, and never mail. Must
 * never keep a root for mail that was not kept. docs/protocol/sealing.md "Sessions".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { formatHex, type NodeId, parseHex } from "../../kernel/ids.ts";
import { type Share, shareAtStart } from "../../kernel/room.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import type { StoreOp } from "../../store/types.ts";
import { contextOf, decodeContext, encodeContext, type MailContext } from "../../wire/mail-compact.ts";
import { SESSION_ID_BYTES } from "../../wire/sealed.ts";
import type { CustodyContext, KnownSession, OpenedSession, SessionKeys, SessionRoots } from "../context.ts";

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
  /** What later messages leave out, and the id that they name the session by then. */
  readonly left?: Left | undefined;
}

interface Left {
  readonly id: Uint8Array;
  readonly context: MailContext;
}

type Named = Parameters<typeof contextOf>[0];

const NO_ID = new Uint8Array(0);

/** Undefined: it cannot be said. */
function leftOf(session: OpenedSession, inner: Named): Left | undefined {
  const context = contextOf(inner);
  return context === undefined ? undefined : { id: session.contextId(context), context };
}

const nameOf = (from: NodeId, id: Uint8Array): string => `${from} ${formatHex(id)}`;

export class ReceivedSessions implements SessionRoots {
  readonly #ctx: Pick<CustodyContext, "store" | "regard" | "sealer" | "log">;
  readonly #kept = new SharedMap<string, Kept>({
    name: "sessions of received mail",
    max: SESSIONS_KEPT_MAX,
    evicted: (name, kept) => {
      this.#unlist(name, kept);
      this.#yielded.push(name);
    },
  });
  /** Names of those in `#kept` by the names of what is left out in them. */
  readonly #byLeft = new Map<string, string>();
  /** Names, oldest first. */
  readonly #ofSender = new Map<NodeId, Set<string>>();
  readonly #fresh = new BoundedMap<string, Kept>({ name: "sessions not kept yet", max: FRESH_MAX });
  /** Names of those in `#kept` whose commit is under way: no more than such commits have mail. */
  readonly #unsaved = new Set<string>();
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

  find(from: NodeId, id: Uint8Array): KnownSession | undefined {
    const name = nameOf(from, id);
    const known = this.#kept.get(name) ?? this.#fresh.get(name);
    if (known !== undefined) return { keys: known.keys, keyId: known.keyId };
    const kept = this.#kept.get(this.#byLeft.get(name) ?? "");
    return kept === undefined ? undefined : { ...kept, context: kept.left?.context };
  }

  since(from: NodeId): number | undefined {
    let newest: number | undefined;
    for (const name of this.#ofSender.get(from) ?? [])
      newest = Math.max(newest ?? 0, this.#kept.get(name)?.since ?? 0);
    return newest;
  }

  /** Mail of it was opened, which may be kept or not. */
  note(from: NodeId, session: OpenedSession): void {
    const name = nameOf(from, session.id);
    const fresh = this.has(from, session) ? undefined : this.#freshOf(from, session);
    if (fresh !== undefined) this.#fresh.renew(name, fresh);
  }

  /**
   * Ops that keep it, and of `inner`, which came in it, what later messages may leave out: commit them with that. None where it is kept already, or has no
   * place.
   */
  keep(from: NodeId, session: OpenedSession, share: Share, inner: Named): StoreOp[] {
    if (this.has(from, session)) return [];
    const name = nameOf(from, session.id);
    // More may have been noted since than are remembered.
    const fresh = this.#fresh.get(name) ?? this.#freshOf(from, session);
    if (fresh === undefined) return [];
    const kept = { ...fresh, left: leftOf(session, inner) };
    if (!this.#add(name, kept, share)) return [];
    this.#unsaved.add(name);
    return [{ op: "put", in: "session", key: name, meta: rowOf(kept) }, ...this.#takeYielded()];
  }

  /** It is on the disk, or will be with the commit that `keep` was asked for. */
  has(from: NodeId, { id }: Pick<OpenedSession, "id">): boolean {
    const name = nameOf(from, id);
    return this.#kept.has(name) || this.#byLeft.has(name);
  }

  /** And with it what `inner`, which came in it, told: the session was kept with that. */
  isKeptWith(from: NodeId, session: OpenedSession, inner: Named): boolean {
    const id = this.#kept.get(nameOf(from, session.id))?.left?.id;
    return id !== undefined && Buffer.compare(id, leftOf(session, inner)?.id ?? NO_ID) === 0;
  }

  /** The commit with it failed. */
  undo(from: NodeId, session: OpenedSession): void {
    const name = nameOf(from, session.id);
    if (this.#unsaved.delete(name)) this.#delete(name);
  }

  /** The commit with it is durable. */
  kept(from: NodeId, session: OpenedSession): void {
    const name = nameOf(from, session.id);
    this.#unsaved.delete(name);
    this.#fresh.delete(name);
  }

  /** Undefined of one that the message only named. */
  #freshOf(from: NodeId, { keyId, keys }: OpenedSession): Kept | undefined {
    const since = this.#ctx.sealer.keyFor(from)?.sequence ?? 0;
    return keyId === undefined ? undefined : { from, keyId, keys, since };
  }

  /** What was agreed to those that are gone opens nothing any more. Where it cannot be deleted now the next start sees to it. */
  async #onPrekeysGone(): Promise<void> {
    const holds = (keyId: number) => this.#ctx.sealer.sessions?.holdsPrekey(keyId) ?? true;
    for (const [name, { keyId }] of this.#fresh) if (!holds(keyId)) this.#fresh.delete(name);
    for (const [name, { keyId }] of this.#kept) {
      if (holds(keyId)) continue;
      this.#delete(name);
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
    if (kept.left !== undefined) this.#byLeft.set(nameOf(kept.from, kept.left.id), name);
    const [oldest] = names;
    if (names.size > OF_SENDER_MAX[share.isKnown ? "known" : "stranger"]) {
      this.#delete(oldest!);
      this.#yielded.push(oldest!);
    }
    return true;
  }

  #delete(name: string): void {
    const kept = this.#kept.get(name);
    this.#kept.delete(name);
    if (kept !== undefined) this.#unlist(name, kept);
  }

  #unlist(name: string, { from, left }: Kept): void {
    if (left !== undefined) this.#byLeft.delete(nameOf(from, left.id));
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

/** What is left out is in base64url: its id, and itself. */
function rowOf({ keyId, keys, since, left }: Kept): string {
  const row = `${keyId} ${formatHex(keys.root)} ${since}`;
  if (left === undefined) return row;
  const bytes = Buffer.concat([left.id, encodeContext(left.context)]);
  return `${row} ${bytes.toString("base64url")}`;
}

function readRow(name: string, meta: string, keysOf: (root: Uint8Array) => SessionKeys): Kept | undefined {
  const [keyId, rootHex, since, left] = meta.split(" ");
  const root = parseHex(rootHex ?? "", 32);
  const from = name.split(" ")[0] as NodeId;
  return root === undefined
    ? undefined
    : {
        ...{ from, keyId: Number(keyId), keys: keysOf(root), since: Number(since ?? 0) || 0 },
        left: left === undefined ? undefined : readLeft(left),
      };
}

/** Undefined of a damaged one: messages that name it are sealed anew. */
function readLeft(text: string): Left | undefined {
  const bytes = new Uint8Array(Buffer.from(text, "base64url"));
  try {
    const context = decodeContext(bytes.subarray(SESSION_ID_BYTES));
    return { id: bytes.slice(0, SESSION_ID_BYTES), context };
  } catch {
    return undefined;
  }
}
