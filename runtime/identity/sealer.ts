/** The Sealer of store-and-forward: picks prekeys, sessions and forms, and makes sealing repeatable. docs/protocol/sealing.md */
import { createHash, createHmac, hkdfSync, type Hmac } from "node:crypto";
import type { Clock, Random } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { concatBytes, Reader } from "../wire/bytes.ts";
import type { MailContext } from "../wire/mail-compact.ts";
import { decodeSessionHead, isSessionForm, SealForm } from "../wire/sealed.ts";
import { dhPublicKeyOf, type Identity } from "./keys.ts";
import type { Prekeys } from "./prekeys.ts";
import { COMPACT_MAIL, MAIL_SESSIONS, type NodeRecord, type Prekey } from "./record.ts";
import { rememberingKey } from "./remembering-key.ts";
import {
  IDENTITY_KEY_ID,
  openInSegments,
  openSealed,
  SEAL_OPENING_BYTES,
  sealInSegments,
  sealTo,
} from "./seal.ts";
import { authentic, openAll, openingUnder, SEAL_WHOLE_MAX, type SegmentOpening } from "./segments.ts";
import { SendingSessions } from "./sending-sessions.ts";
import { joinSession, ReceivingKeys } from "./session-keys.ts";
import {
  contextIdOf,
  openInSession,
  openSegmentsInSession,
  receiptCode,
  sealInSession,
  sealSegmentsInSession,
  type SessionBinding,
  type SessionSeal,
} from "./session-seal.ts";

const text = new TextEncoder();

export interface SealerParts {
  readonly identity: Identity;
  readonly prekeys: Pick<Prekeys, "find" | "callsignOf" | "onGone">;
  /** Signed, and the newest that is known. */
  recordOf(
    id: NodeId,
  ):
    | (Pick<NodeRecord, "prekey" | "capabilities" | "sequence"> & Partial<Pick<NodeRecord, "callsign">>)
    | undefined;
  /** Without it nothing is sealed in a session, nor opened. */
  readonly sessions?: { readonly network: string; readonly clock: Clock; readonly random: Random };
}

/** Sessions whose mail this node can open. */
export interface Roots {
  /** By the id of the session, or by that of what is kept of it, which is `context` then. */
  find(from: NodeId, id: Uint8Array): Known | undefined;
  /** Sequence of the newest record of `from` by which mail of it came in a session that is kept. */
  since(from: NodeId): number | undefined;
}

interface Known {
  readonly keys: Pick<ReceivingKeys, "root" | "key">;
  /** Of the prekey that it was agreed to. */
  readonly keyId: number;
  readonly context?: MailContext | undefined;
}

interface Joined {
  readonly id: Uint8Array;
  /** Of the prekey that it was agreed to, where that is told. */
  readonly keyId: number | undefined;
  readonly keys: Pick<ReceivingKeys, "root" | "key">;
  /** What a message in it may leave out: the callsign that this prekey was published with, and what is kept. */
  readonly callsign: string | undefined;
  readonly context: MailContext | undefined;
}

export interface OpenedSession extends Joined {
  receiptCode(said: Uint8Array): Uint8Array;
  contextId(context: MailContext): Uint8Array;
}

interface Found extends OpenedSession {
  /** Of the message. */
  readonly key: Uint8Array;
  readonly headBytes: number;
}

export type Under = Prekey | SessionSeal | undefined;

const isSession = (under: Under): under is SessionSeal => under !== undefined && "counter" in under;

/**
 * Answers the two halves that custody/context.ts asks for. Outside of sessions the ephemeral key is HMAC-SHA-256, under a secret of this node (HKDF of its
 * seed), of all that the result depends on: the same message to the same key is the same bytes, and nothing else ever shares a key.
 */
export function createSealer({ identity, prekeys, recordOf, sessions }: SealerParts) {
  const sealingSecret = new Uint8Array(
    hkdfSync("sha256", identity.seed, new Uint8Array(0), "godwit sealing ephemeral", 32),
  );
  const sending =
    sessions === undefined
      ? undefined
      : new SendingSessions({ identity, clock: sessions.clock, random: sessions.random });
  const network = sessions?.network ?? "";
  const prekeyOf = (id: NodeId) => recordOf(id)?.prekey;
  const isKnownTo = (id: NodeId) => recordOf(id)?.capabilities.includes(MAIL_SESSIONS) === true;
  /** The callsign that goes with the prekey of its record, in which it says that nothing else ever does; undefined: it reads no compact form. */
  const compactTo = (id: NodeId): { readonly callsign: string | undefined } | undefined => {
    const record = recordOf(id);
    const isCompact =
      isKnownTo(id) && record?.prekey !== undefined && record.capabilities.includes(COMPACT_MAIL);
    return isCompact ? { callsign: record.callsign } : undefined;
  };
  /** To be updated with the plaintext, of which the length is told already. */
  const derivation = (
    to: NodeId,
    prekey: Prekey | undefined,
    associated: Uint8Array,
    unique: Uint8Array,
    plaintextBytes: number,
  ): Hmac => {
    const inputs = [unique, text.encode(to), prekey?.publicKey ?? new Uint8Array(0), associated];
    const told = inputs.flatMap((input) => [text.encode(`${input.length}:`), input]);
    const key = createHmac("sha256", sealingSecret);
    return key.update(concatBytes([...told, text.encode(`${plaintextBytes}:`)]));
  };
  const toBinding = (to: NodeId, associated: Uint8Array): SessionBinding => ({
    ...{ network, from: identity.id, to, associated },
  });

  const seal = (
    to: NodeId,
    under: Under,
    plaintext: Uint8Array,
    associated: Uint8Array,
    unique: Uint8Array,
  ): Uint8Array => {
    if (isSession(under)) {
      if (plaintext.length <= SEAL_WHOLE_MAX)
        return sealInSession(under, toBinding(to, associated), plaintext);
      const start = inSegments(to, under, plaintext.length, associated, unique)!;
      start.tell(plaintext);
      const { opening, segmentBytes, segment } = start.sealing();
      const parts = [opening];
      for (let at = 0; at < plaintext.length; at += segmentBytes)
        parts.push(segment(at / segmentBytes, plaintext.subarray(at, at + segmentBytes)));
      return concatBytes(parts);
    }
    const random = derivation(to, under, associated, unique, plaintext.length);
    random.update(plaintext);
    const input = { from: identity, to, plaintext, associated };
    return sealTo(under === undefined ? input : { ...input, prekey: under }, derivedRandom(random.digest()));
  };

  /** As `seal`, of a plaintext that is told in parts and then sealed in segments. Undefined: it is too short for those. */
  const inSegments = (
    to: NodeId,
    under: Under,
    plaintextBytes: number,
    associated: Uint8Array,
    unique: Uint8Array,
  ) => {
    if (plaintextBytes <= SEAL_WHOLE_MAX) return undefined;
    if (isSession(under)) {
      const digest = createHash("sha256");
      return {
        tell: (part: Uint8Array) => void digest.update(part),
        sealing: () =>
          sealSegmentsInSession(under, toBinding(to, associated), plaintextBytes, digest.digest()),
      };
    }
    const random = derivation(to, under, associated, unique, plaintextBytes);
    const input = { from: identity, to, associated };
    return {
      tell: (part: Uint8Array) => void random.update(part),
      sealing: () =>
        sealInSegments(
          under === undefined ? input : { ...input, prekey: under },
          plaintextBytes,
          derivedRandom(random.digest()),
        ),
    };
  };

  /** Throws GODWIT_SEAL_SESSION, GODWIT_SEAL_FORGED, GODWIT_DECODE. */
  const find = (from: NodeId, sealed: Uint8Array, roots: Roots): Found => {
    const head = decodeSessionHead(sealed);
    const { counter, bytes: headBytes } = head;
    const joined = rootOf(from, head, roots);
    const key = joined.keys.key(counter);
    return {
      ...joined,
      ...{ key, headBytes },
      receiptCode: (said) => receiptCode(key, said),
      contextId: (context) => contextIdOf(key, context),
    };
  };

  const rootOf = (from: NodeId, head: ReturnType<typeof decodeSessionHead>, roots: Roots): Joined => {
    if (head.agreed === undefined) {
      // It shares the memory of what came.
      const id = head.id.slice();
      const known = roots.find(from, id);
      if (known === undefined)
        throw godwitError("GODWIT_SEAL_SESSION", "a session that this node does not know");
      const { keys, context } = known;
      return { id, keyId: undefined, keys, callsign: prekeys.callsignOf(known.keyId), context };
    }
    const { keyId, ephemeral } = head.agreed;
    const prekey = prekeys.find(keyId);
    if (prekey === undefined)
      throw godwitError("GODWIT_DECODE", "sealed to a prekey that this node does not have or has deleted");
    const theirs = dhPublicKeyOf(from);
    const joined = authentic(() =>
      joinSession(
        { id: identity.id, dh: rememberingKey(identity.dh, theirs) },
        { keyId, key: rememberingKey(prekey, theirs) },
        from,
        ephemeral,
        (id) => roots.find(from, id)?.keys,
      ),
    );
    return { ...joined, keyId, callsign: prekeys.callsignOf(keyId), context: undefined };
  };

  const fromBinding = (from: NodeId, associated: Uint8Array): SessionBinding => ({
    ...{ network, from, to: identity.id, associated },
  });

  /** Who has one of the prekeys of this node may have made it: from whom a session is to be had nothing else is opened. */
  const checkForm = (from: NodeId, opening: Uint8Array, roots: Roots): void => {
    if (sessions === undefined || isSessionForm(opening[0])) return;
    if (opening[0] !== SealForm.whole && opening[0] !== SealForm.segmented) return;
    const reader = new Reader(opening);
    reader.u8();
    const keyId = reader.u32();
    if (keyId === IDENTITY_KEY_ID || prekeys.find(keyId) === undefined) return;
    const since = roots.since(from);
    // Its record may have been lost here since, and an older one told: it went back only by a newer one.
    const hadSessions = since !== undefined && (recordOf(from)?.sequence ?? 0) <= since;
    if (!isKnownTo(from) && !hadSessions) return;
    throw godwitError("GODWIT_SEAL_OUTDATED", "an older form, from a node that has sessions");
  };

  return {
    keyFor(id: NodeId): (Prekey & { readonly sequence: number }) | undefined {
      const { prekey, sequence = 0 } = recordOf(id) ?? {};
      return prekey === undefined ? undefined : { ...prekey, sequence };
    },
    seal,
    inSegments,
    /** Of what is no mail, and is not sealed again. */
    sealOnce(to: NodeId, plaintext: Uint8Array, associated: Uint8Array, unique: Uint8Array): Uint8Array {
      const prekey = prekeyOf(to);
      const isInSession = sending !== undefined && prekey !== undefined && isKnownTo(to);
      const under = isInSession ? sending.once(to, prekey) : prekey;
      return seal(to, under, plaintext, associated, unique);
    },
    open(
      from: NodeId,
      sealed: Uint8Array,
      associated: Uint8Array,
      roots: Roots,
    ): { plaintext: Uint8Array; forwardSecret: boolean; session?: OpenedSession } {
      checkForm(from, sealed, roots);
      if (sessions === undefined || !isSessionForm(sealed[0]))
        return openSealed({ identity, prekeys, from, sealed, associated });
      const session = find(from, sealed, roots);
      const { key, headBytes } = session;
      const binding = fromBinding(from, associated);
      const isWhole = sealed[0] === SealForm.first || sealed[0] === SealForm.later;
      if (isWhole)
        return { plaintext: openInSession(key, binding, sealed, headBytes), forwardSecret: true, session };
      const opening = openSegmentsInSession(key, binding, sealed, headBytes, sealed.length);
      const plaintext = openAll(opening, sealed.subarray(opening.openingBytes));
      return { plaintext, forwardSecret: true, session };
    },
    openInSegments(
      from: NodeId,
      opening: Uint8Array,
      sealedBytes: number,
      associated: Uint8Array,
      roots: Roots,
    ): (SegmentOpening & { forwardSecret: boolean; session?: OpenedSession }) | undefined {
      checkForm(from, opening, roots);
      if (sessions === undefined || !isSessionForm(opening[0]))
        return openInSegments({ identity, prekeys, from, opening, associated }, sealedBytes);
      if (opening[0] === SealForm.first || opening[0] === SealForm.later) return undefined;
      const session = find(from, opening, roots);
      const binding = fromBinding(from, associated);
      const { key, headBytes } = session;
      const segments = openSegmentsInSession(key, binding, opening, headBytes, sealedBytes);
      return { ...segments, forwardSecret: true, session };
    },
    segmentsUnder: (key: Uint8Array, sealedBytes: number, openingBytes = SEAL_OPENING_BYTES) =>
      openingUnder(key, sealedBytes, openingBytes),
    sessions:
      sending === undefined
        ? undefined
        : {
            isKnownTo,
            compactTo,
            onPrekeysGone: (listener: () => void) => prekeys.onGone(listener),
            holdsPrekey: (keyId: number) => prekeys.find(keyId) !== undefined,
            take(to: NodeId): SessionSeal | undefined {
              const prekey = prekeyOf(to);
              return prekey === undefined || !isKnownTo(to)
                ? undefined
                : sending.take(to, prekey, compactTo(to) !== undefined);
            },
            proven: (
              to: NodeId,
              id: Uint8Array,
              keptBy?: { readonly key: Uint8Array; readonly context: MailContext },
            ) =>
              sending.proven(
                to,
                id,
                keptBy && { id: contextIdOf(keptBy.key, keptBy.context), context: keptBy.context },
              ),
            lost: (to: NodeId, id: Uint8Array, isUsed: boolean) => sending.lost(to, id, isUsed),
            end: (to: NodeId, id: Uint8Array) => sending.end(to, id),
            isLost: (to: NodeId, id: Uint8Array) => sending.isLost(to, id),
            keysOf: (root: Uint8Array) => new ReceivingKeys(root),
            receiptCode,
          },
  };
}

/** HMAC in counter mode. */
function derivedRandom(secret: Uint8Array): Random {
  let block = 0;
  const bytes = (length: number): Uint8Array => {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; at += 32) {
      const part = createHmac("sha256", secret).update(String(block++)).digest();
      out.set(part.subarray(0, Math.min(32, length - at)), at);
    }
    return out;
  };
  const float = () => Buffer.from(bytes(4)).readUInt32BE() / 2 ** 32;
  return { bytes, float, below: (bound) => Math.floor(float() * bound) };
}
