/**
 * The sessions that this node seals its mail in, one to each recipient: in memory alone, so that a start is a new one and who takes the disk
 * learns nothing of what was sent. Must never give one counter of a session twice, nor go on with a session that its recipient has lost.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock, Random } from "@godwit/sdk";
import { formatHex, type NodeId } from "../kernel/ids.ts";
import type { MailContext } from "../wire/mail-compact.ts";
import type { SessionAgreement } from "../wire/sealed.ts";
import type { Identity } from "./keys.ts";
import type { Prekey } from "./record.ts";
import { rememberingKey } from "./remembering-key.ts";
import { beginSession, SendingKeys } from "./session-keys.ts";
import type { SessionSeal } from "./session-seal.ts";

/** Recipients; for one that has to yield another session begins. */
const SESSIONS_MAX = 4_096;
/** Lost sessions that are remembered, so that mail on the disk that was sealed in one is sealed anew before it is offered. */
const LOST_MAX = 4_096;
/** Whoever reads this node's memory reads no further back than this. */
export const SESSION_AGE_MAX_MS = 24 * 3_600_000;

interface Session {
  readonly id: Uint8Array;
  readonly agreed: SessionAgreement;
  readonly prekey: Prekey;
  readonly keys: SendingKeys;
  readonly begunAtMs: number;
  /** Something from the recipient says that it knows the root. */
  isProven: boolean;
  /** What it said that it keeps of a message, and the name that the session has by that. */
  kept: Kept | undefined;
}

/** What a recipient keeps of the message that a session was kept with. */
export interface Kept {
  readonly id: Uint8Array;
  readonly context: MailContext;
}

export interface SendingSessionsParts {
  readonly identity: Identity;
  readonly clock: Clock;
  readonly random: Random;
}

export class SendingSessions {
  readonly #parts: SendingSessionsParts;
  readonly #sessions = new BoundedMap<NodeId, Session>({ name: "sessions of sent mail", max: SESSIONS_MAX });
  readonly #lost = new BoundedMap<string, true>({ name: "lost sessions", max: LOST_MAX });

  constructor(parts: SendingSessionsParts) {
    this.#parts = parts;
  }

  /**
   * A counter that nobody else gets, under that prekey of `to`. `isCompact`: it may be named by what `to` keeps of the session. Throws
   * GODWIT_HANDSHAKE_FAILED, GODWIT_ID_INVALID.
   */
  take(to: NodeId, prekey: Prekey, isCompact = false): SessionSeal {
    const open = this.#sessions.get(to);
    const session = open !== undefined && this.#mayGoOn(open, prekey) ? open : this.#begin(to, prekey);
    const taken = session.keys.take();
    if (taken !== undefined) return sealOf(session, taken, isCompact);
    const next = this.#begin(to, prekey);
    return sealOf(next, next.keys.take()!, isCompact);
  }

  /** A session of one message, which nobody keeps. Throws as `take`. */
  once(to: NodeId, prekey: Prekey): SessionSeal {
    const session = this.#agree(to, prekey);
    return sealOf(session, session.keys.take()!, false);
  }

  /** `to` has delivered mail of it: it has the root on its disk, and that of the message, if it said so. */
  proven(to: NodeId, id: Uint8Array, kept?: Kept): void {
    const session = this.#named(to, id);
    if (session === undefined) return;
    session.isProven = true;
    if (kept !== undefined) session.kept = kept;
  }

  /** `to` does not know it (any more). `isUsed`: mail that is open is sealed in it; of others only the one for new mail counts, if it was proven. */
  lost(to: NodeId, id: Uint8Array, isUsed: boolean): void {
    if (!isUsed && this.#named(to, id)?.isProven !== true) return;
    this.#lost.renew(`${to} ${formatHex(id)}`, true);
    this.end(to, id);
  }

  /** Nothing new is sealed in it. */
  end(to: NodeId, id: Uint8Array): void {
    if (this.#named(to, id) !== undefined) this.#sessions.delete(to);
  }

  isLost(to: NodeId, id: Uint8Array): boolean {
    return this.#lost.size > 0 && this.#lost.has(`${to} ${formatHex(id)}`);
  }

  /** By either of its names. */
  #named(to: NodeId, id: Uint8Array): Session | undefined {
    const session = this.#sessions.get(to);
    if (session === undefined) return undefined;
    const names = [session.id, ...(session.kept === undefined ? [] : [session.kept.id])];
    return names.some((name) => Buffer.compare(name, id) === 0) ? session : undefined;
  }

  #mayGoOn({ prekey, begunAtMs }: Session, { keyId, publicKey }: Prekey): boolean {
    return (
      prekey.keyId === keyId &&
      Buffer.compare(prekey.publicKey, publicKey) === 0 &&
      this.#parts.clock.monotonicMs() - begunAtMs < SESSION_AGE_MAX_MS
    );
  }

  #begin(to: NodeId, prekey: Prekey): Session {
    const session = this.#agree(to, prekey);
    this.#sessions.renew(to, session);
    return session;
  }

  #agree(to: NodeId, prekey: Prekey): Session {
    const { identity, random, clock } = this.#parts;
    const dh = rememberingKey(identity.dh);
    const { id, root, ephemeral } = beginSession({ id: identity.id, dh }, to, prekey, random);
    return {
      id,
      agreed: { keyId: prekey.keyId, ephemeral },
      prekey,
      keys: new SendingKeys(root),
      begunAtMs: clock.monotonicMs(),
      isProven: false,
      kept: undefined,
    };
  }
}

function sealOf(
  { id, agreed, isProven, kept }: Session,
  { counter, key }: { readonly counter: number; readonly key: Uint8Array },
  isCompact: boolean,
): SessionSeal {
  if (!isProven) return { id, agreed, counter, key };
  const named = isCompact && kept !== undefined ? kept : { id, context: undefined };
  return { ...named, agreed: undefined, counter, key };
}
