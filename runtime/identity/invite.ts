/**
 * What an invitation to a closed mesh proves. Its secret is derived from a network secret and from the invitation's own
 * numbers, so that every member can check one it was never told of, and none learns the network secret from it. Owns that
 * derivation and the signed note that an invitation was used. Pure: no I/O, no clock. Specified by docs/protocol/join.md.
 */
import { createHash, hkdfSync } from "node:crypto";
import { formatHex, type NodeId } from "../kernel/ids.ts";
import { decodeError, Reader, Writer } from "../wire/bytes.ts";
import { SIGNATURE_BYTES } from "./keys.ts";
import type { Signer, Verify } from "./record.ts";

export const INVITE_ID_BYTES = 8;
/** id 8, expiry 4, uses 1: stands in clear in the first message of a handshake under an invitation. */
export const INVITE_BYTES = 13;
export const INVITE_SECRET_BYTES = 16;
export const INVITE_USES_MAX = 255;
/** invitation 13, redeemer 32, acceptor 32, time 6, signature 64. */
export const REDEMPTION_BYTES = 147;

const encoder = new TextEncoder();

/** The numbers of an invitation, known to whoever sees a handshake under it. */
export interface Invite {
  /** 8 random bytes. */
  readonly id: Uint8Array;
  /** Seconds since 1970 by the inviter's clock, 32 bits. */
  readonly expiresAtS: number;
  /** Nodes that may join by it, 1 to 255. */
  readonly uses: number;
}

/** Owned by the caller. */
export const encodeInvite = ({ id, expiresAtS, uses }: Invite): Uint8Array =>
  new Writer(INVITE_BYTES).bytes(id).u32(expiresAtS).u8(uses).finish();

/** `bytes` has 13 bytes. Copies what it keeps; throws GODWIT_DECODE. */
export function decodeInvite(bytes: Uint8Array): Invite {
  const reader = new Reader(bytes);
  const invite = {
    id: new Uint8Array(reader.bytes(INVITE_ID_BYTES)),
    expiresAtS: reader.u32(),
    uses: reader.u8(),
  };
  if (invite.uses === 0) throw decodeError("an invitation for nobody");
  return invite;
}

export const inviteKey = (invite: Invite): string => formatHex(encodeInvite(invite));

/** 16 bytes, owned by the caller: HKDF-SHA256 (RFC 5869) of one live network secret. */
export const inviteSecret = (networkSecret: Uint8Array, invite: Invite, network: string): Uint8Array =>
  new Uint8Array(
    hkdfSync(
      "sha256",
      networkSecret,
      new Uint8Array(0),
      Buffer.concat([encoder.encode("godwit invite 1\0"), encodeInvite(invite), encoder.encode(network)]),
      INVITE_SECRET_BYTES,
    ),
  );

/** The note that a node joined by an invitation, signed by the member that let it in. */
export interface Redemption {
  readonly invite: Invite;
  readonly redeemer: NodeId;
  readonly acceptor: NodeId;
  /** By the acceptor's clock, ms since 1970; may be wrong by decades. */
  readonly atMs: number;
}

const redemptionMessage = (body: Uint8Array, network: string): Uint8Array =>
  Buffer.concat([
    encoder.encode("godwit redemption 1\0"),
    createHash("sha256").update(network).digest(),
    body,
  ]);

/** 147 bytes, owned by the caller. */
export function signRedemption(
  signer: Signer,
  redemption: Omit<Redemption, "acceptor">,
  network: string,
): Uint8Array {
  const { invite, redeemer, atMs } = redemption;
  const body = new Writer(REDEMPTION_BYTES)
    .bytes(encodeInvite(invite))
    .nodeId(redeemer)
    .nodeId(signer.id)
    .u48(Math.min(Math.max(Math.floor(atMs), 0), 2 ** 48 - 1))
    .finish();
  const signature = signer.sign(redemptionMessage(body, network));
  return new Uint8Array(Buffer.concat([body, signature]));
}

/** Borrows 147 bytes. Throws GODWIT_DECODE unless the acceptor that it names signed it for this network. */
export function decodeRedemption(bytes: Uint8Array, network: string, verify: Verify): Redemption {
  if (bytes.length !== REDEMPTION_BYTES) throw decodeError("a redemption has 147 bytes");
  const body = bytes.subarray(0, REDEMPTION_BYTES - SIGNATURE_BYTES);
  const reader = new Reader(body);
  const redemption = {
    invite: decodeInvite(reader.bytes(INVITE_BYTES)),
    redeemer: reader.nodeId(),
    acceptor: reader.nodeId(),
    atMs: reader.u48(),
  };
  const signature = bytes.subarray(REDEMPTION_BYTES - SIGNATURE_BYTES);
  if (!verify(redemption.acceptor, redemptionMessage(body, network), signature))
    throw decodeError("a redemption with a wrong signature, or of another network");
  return redemption;
}
