/**
 * The handshake's own bytes around the Noise messages: message 1 with its tag and cookie, retry, refusal, prologue, and
 * what derives from a network secret. Pure: bytes in, bytes out. Specified by docs/protocol/link.md, "Handshake
 * messages".
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { encodeInvite, INVITE_BYTES, inviteSecret, type Invite } from "../identity/invite.ts";
import {
  COOKIE_BYTES,
  COOKIE_FLAG,
  HANDSHAKE_TAG_BYTES,
  HandshakeType,
  PatternId,
  SUITE,
} from "./constants.ts";

const encoder = new TextEncoder();

/** The length of each handshake message; on a stream it is what frames them. */
export const HANDSHAKE_BYTES: Readonly<Record<number, number>> = {
  [HandshakeType.ik1]: 107,
  [HandshakeType.ik1WithCookie]: 123,
  [HandshakeType.ik2]: 50,
  [HandshakeType.xx1]: 39,
  [HandshakeType.xx1WithCookie]: 55,
  [HandshakeType.xx1Psk]: 55,
  [HandshakeType.xx1PskWithCookie]: 71,
  [HandshakeType.xx1Invite]: 84,
  [HandshakeType.xx2]: 98,
  [HandshakeType.xx3]: 65,
  [HandshakeType.retry]: 21,
  [HandshakeType.refuse]: 8,
};
export const HANDSHAKE_BYTES_MAX = 123;

const mac = (key: Uint8Array, ...parts: Uint8Array[]): Uint8Array => {
  const hmac = createHmac("sha256", key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
};

/** 32 bits tell four secrets apart, and are of no use to whoever guesses at one. */
const EPOCH_ID_BYTES = 4;

/** What one network (and one of its secrets) contributes to a handshake. */
export interface NetworkKeys {
  readonly tagKey: Uint8Array;
  /** Of what is sent to all in earshot of a shared channel. */
  readonly beaconKey: Uint8Array;
  /** Undefined in an open mesh. */
  readonly psk: Uint8Array | undefined;
  /** The keys are those of one who holds this invitation, not of a member. */
  readonly invite?: Invite;
  /** Names the secret to people and gives nothing of it away; undefined in an open mesh. */
  readonly epoch: string | undefined;
}

const OPEN_MESH = encoder.encode("godwit open mesh");
/** Of the network that was last asked for under a secret: whoever floods must not make this node compute them again and again. */
const made = new WeakMap<Uint8Array, { readonly network: string; readonly keys: NetworkKeys }>();

/** `secret` undefined: an open mesh, whose tag keeps out strays of other networks and no attacker. Its bytes must not change. */
export function networkKeys(network: string, secret: Uint8Array | undefined): NetworkKeys {
  const root = secret ?? OPEN_MESH;
  const known = made.get(root);
  if (known?.network === network) return known.keys;
  const base = mac(root, encoder.encode("godwit link 1\0"), encoder.encode(network));
  const keys: NetworkKeys = {
    tagKey: mac(base, encoder.encode("tag")),
    beaconKey: mac(base, encoder.encode("beacon")),
    psk: secret === undefined ? undefined : mac(base, encoder.encode("psk")),
    epoch:
      secret === undefined
        ? undefined
        : Buffer.from(mac(base, encoder.encode("epoch")).subarray(0, EPOCH_ID_BYTES)).toString("hex"),
  };
  made.set(root, { network, keys });
  return keys;
}

/** Keys of a handshake under an invitation, from the secret in its token. */
export const inviteKeys = (network: string, invite: Invite, secret: Uint8Array): NetworkKeys => ({
  ...networkKeys(network, secret),
  invite,
});

/** The same as a member finds them: one set per live network secret, since the inviter may have used any. */
export const memberInviteKeys = (
  network: string,
  invite: Invite,
  secrets: readonly Uint8Array[],
): NetworkKeys[] =>
  secrets.map((secret) => inviteKeys(network, invite, inviteSecret(secret, invite, network)));

/** For IK the second half of the tag is keyed by the addressee as well. */
const addresseeKey = (tagKey: Uint8Array, dhPublicKey: Uint8Array): Uint8Array => mac(tagKey, dhPublicKey);

export interface Versions {
  readonly min: number;
  readonly max: number;
}

export interface Message1 {
  readonly isIk: boolean;
  readonly isPsk: boolean | undefined;
  readonly versions: Versions;
  /** Network tag; names the message in a retry or a refusal. */
  readonly tag: Uint8Array;
  /** IK only. */
  readonly addresseeTag: Uint8Array | undefined;
  readonly cookie: Uint8Array | undefined;
  /** 13 bytes of an invitation. */
  readonly invite: Uint8Array | undefined;
  readonly noise: Uint8Array;
  /** What the tags cover: everything but themselves. */
  readonly covered: readonly Uint8Array[];
}

const HEADER_BYTES = 3;
const NO_COOKIE = new Uint8Array(COOKIE_BYTES);

/** `addressee`: the responder's X25519 key for IK, undefined for XX. The result is the caller's. */
export function encodeMessage1(
  network: NetworkKeys,
  addressee: Uint8Array | undefined,
  versions: Versions,
  noise: Uint8Array,
  cookie?: Uint8Array,
): Uint8Array {
  if (network.invite !== undefined)
    return encodeInviteMessage1(network, network.invite, versions, noise, cookie);
  const xx1 = network.psk === undefined ? HandshakeType.xx1 : HandshakeType.xx1Psk;
  const type = (addressee === undefined ? xx1 : HandshakeType.ik1) | (cookie === undefined ? 0 : COOKIE_FLAG);
  const out = new Uint8Array(HANDSHAKE_BYTES[type]!);
  out[0] = type;
  out[1] = versions.min;
  out[2] = versions.max;
  const bodyOffset = HEADER_BYTES + HANDSHAKE_TAG_BYTES * (addressee === undefined ? 1 : 2);
  if (cookie !== undefined) out.set(cookie, bodyOffset);
  out.set(noise, out.length - noise.length);
  const covered = [out.subarray(0, HEADER_BYTES), out.subarray(bodyOffset)];
  out.set(tagOf(network.tagKey, covered), HEADER_BYTES);
  if (addressee !== undefined)
    out.set(tagOf(addresseeKey(network.tagKey, addressee), covered), HEADER_BYTES + HANDSHAKE_TAG_BYTES);
  return out;
}

function encodeInviteMessage1(
  network: NetworkKeys,
  invite: Invite,
  versions: Versions,
  noise: Uint8Array,
  cookie: Uint8Array = NO_COOKIE,
): Uint8Array {
  const out = new Uint8Array(HANDSHAKE_BYTES[HandshakeType.xx1Invite]!);
  const bodyOffset = HEADER_BYTES + HANDSHAKE_TAG_BYTES;
  out.set([HandshakeType.xx1Invite, versions.min, versions.max]);
  out.set(encodeInvite(invite), bodyOffset);
  out.set(cookie, bodyOffset + INVITE_BYTES);
  out.set(noise, bodyOffset + INVITE_BYTES + COOKIE_BYTES);
  out.set(tagOf(network.tagKey, [out.subarray(0, HEADER_BYTES), out.subarray(bodyOffset)]), HEADER_BYTES);
  return out;
}

const tagOf = (key: Uint8Array, covered: readonly Uint8Array[]): Uint8Array =>
  mac(key, ...covered).subarray(0, HANDSHAKE_TAG_BYTES);

/** `bytes` has the length of its type. Shares its memory. */
export function parseMessage1(bytes: Uint8Array): Message1 {
  if (bytes[0] === HandshakeType.xx1Invite) return parseInviteMessage1(bytes);
  const hasCookie = (bytes[0]! & COOKIE_FLAG) !== 0;
  const type = bytes[0]! & ~COOKIE_FLAG;
  const isIk = type === HandshakeType.ik1;
  const addresseeOffset = HEADER_BYTES + HANDSHAKE_TAG_BYTES;
  const bodyOffset = addresseeOffset + (isIk ? HANDSHAKE_TAG_BYTES : 0);
  const noiseOffset = bodyOffset + (hasCookie ? COOKIE_BYTES : 0);
  return {
    isIk,
    isPsk: isIk ? undefined : type === HandshakeType.xx1Psk,
    versions: { min: bytes[1]!, max: bytes[2]! },
    tag: bytes.subarray(HEADER_BYTES, addresseeOffset),
    addresseeTag: isIk ? bytes.subarray(addresseeOffset, bodyOffset) : undefined,
    cookie: hasCookie ? bytes.subarray(bodyOffset, noiseOffset) : undefined,
    invite: undefined,
    noise: bytes.subarray(noiseOffset),
    covered: [bytes.subarray(0, HEADER_BYTES), bytes.subarray(bodyOffset)],
  };
}

function parseInviteMessage1(bytes: Uint8Array): Message1 {
  const inviteOffset = HEADER_BYTES + HANDSHAKE_TAG_BYTES;
  const cookieOffset = inviteOffset + INVITE_BYTES;
  const noiseOffset = cookieOffset + COOKIE_BYTES;
  const cookie = bytes.subarray(cookieOffset, noiseOffset);
  return {
    isIk: false,
    isPsk: true,
    versions: { min: bytes[1]!, max: bytes[2]! },
    tag: bytes.subarray(HEADER_BYTES, inviteOffset),
    addresseeTag: undefined,
    cookie: cookie.every((byte) => byte === 0) ? undefined : cookie,
    invite: bytes.subarray(inviteOffset, cookieOffset),
    noise: bytes.subarray(noiseOffset),
    covered: [bytes.subarray(0, HEADER_BYTES), bytes.subarray(inviteOffset)],
  };
}

/** `member`: of our network, but (IK) meant for another key. Constant time in the tags' bytes. */
export function checkTag(
  message: Message1,
  network: NetworkKeys,
  ownDhPublicKey: Uint8Array,
): "ours" | "member" | "stranger" {
  if ((message.invite === undefined) !== (network.invite === undefined)) return "stranger";
  if (message.isPsk !== undefined && message.isPsk !== (network.psk !== undefined)) return "stranger";
  if (!timingSafeEqual(tagOf(network.tagKey, message.covered), message.tag)) return "stranger";
  if (message.addresseeTag === undefined) return "ours";
  const expected = tagOf(addresseeKey(network.tagKey, ownDhPublicKey), message.covered);
  return timingSafeEqual(expected, message.addresseeTag) ? "ours" : "member";
}

/** The highest version of both ranges, or undefined. */
export function commonVersion(ours: Versions, theirs: Versions): number | undefined {
  const version = Math.min(ours.max, theirs.max);
  return version >= Math.max(ours.min, theirs.min) ? version : undefined;
}

/** Both ends agree on every one of these or the handshake fails. `versions` are the initiator's. */
export function prologue(
  pattern: "IK" | "XX" | "IKpsk2" | "XXpsk3",
  versions: Versions,
  network: string,
  invite?: Invite,
): Uint8Array {
  const id = invite === undefined ? PatternId[pattern] : PatternId.XXpsk3Invite;
  return Buffer.concat([
    encoder.encode("godwit link\0"),
    Uint8Array.of(SUITE, id, versions.min, versions.max),
    ...(invite === undefined ? [] : [encodeInvite(invite)]),
    encoder.encode(network),
  ]);
}

/** Retry: the answer to a message 1 (named by its tag) that came without a cookie under load. */
export function encodeRetry(tag: Uint8Array, cookie: Uint8Array): Uint8Array {
  const out = new Uint8Array(HANDSHAKE_BYTES[HandshakeType.retry]!);
  out[0] = HandshakeType.retry;
  out.set(tag, 1);
  out.set(cookie, 1 + HANDSHAKE_TAG_BYTES);
  return out;
}

/** A hint, never proof: it names the message 1 it answers, so that nobody who did not see that one can forge it. */
export function encodeRefuse(tag: Uint8Array, reason: number, ours: Versions): Uint8Array {
  const out = new Uint8Array(HANDSHAKE_BYTES[HandshakeType.refuse]!);
  out[0] = HandshakeType.refuse;
  out.set(tag, 1);
  out[5] = reason;
  out[6] = ours.min;
  out[7] = ours.max;
  return out;
}

export interface Refusal {
  readonly reason: number;
  readonly versions: Versions;
}

export const parseRefuse = (bytes: Uint8Array): Refusal => ({
  reason: bytes[5]!,
  versions: { min: bytes[6]!, max: bytes[7]! },
});

/** The network tag that a retry or a refusal names. Shares memory. */
export const answeredTag = (bytes: Uint8Array): Uint8Array => bytes.subarray(1, 1 + HANDSHAKE_TAG_BYTES);
export const retryCookie = (bytes: Uint8Array): Uint8Array => bytes.subarray(1 + HANDSHAKE_TAG_BYTES);
