/**
 * Sealing one message to a key: Noise K (revision 34, section 7.4), where both static keys are known beforehand, so
 * that opening proves the sender. Overhead: 48 bytes. Confidentiality lasts as long as the recipient's key is secret;
 * forward secrecy comes from sealing to a prekey that is deleted. Knows no message format: what must not be exchanged
 * between messages belongs into the prologue. Specified by docs/protocol/link.md, "One-way".
 */
import type { DhKey } from "../identity/keys.ts";
import type { Random } from "../kernel/random.ts";
import { HandshakeState, KEY_BYTES, MESSAGE_BYTES_MAX, TAG_BYTES } from "./noise.ts";

/** What a sealed message is longer than its plaintext: ephemeral key and tag. */
export const ONE_WAY_OVERHEAD_BYTES = KEY_BYTES + TAG_BYTES;
export const ONE_WAY_PLAINTEXT_MAX = MESSAGE_BYTES_MAX - ONE_WAY_OVERHEAD_BYTES;

export interface OneWayOptions {
  /** Authenticated, not sent: both ends must give the same bytes. */
  readonly prologue: Uint8Array;
  /** 32 bytes known to both ends, mixed in as Kpsk0. */
  readonly psk?: Uint8Array;
}

/** Sender's key, recipient's X25519 public key (identity or prekey), at most 65,487 bytes. The result is the caller's. */
export function sealOneWay(
  options: OneWayOptions & {
    readonly from: DhKey;
    readonly to: Uint8Array;
    readonly plaintext: Uint8Array;
    readonly random: Random;
  },
): Uint8Array {
  const { from, to, prologue, psk, random } = options;
  const keys = { s: from, rs: to, prologue, random, role: "initiator" as const };
  const state = new HandshakeState(
    psk === undefined ? { ...keys, pattern: "K" } : { ...keys, pattern: "Kpsk0", psk },
  );
  return state.writeMessage(options.plaintext);
}

/**
 * The plaintext, owned by the caller. Throws GODWIT_HANDSHAKE_FAILED unless `from` sealed exactly this to `to` under
 * the same prologue and psk.
 */
export function openOneWay(
  options: OneWayOptions & {
    readonly from: Uint8Array;
    readonly to: DhKey;
    readonly sealed: Uint8Array;
  },
): Uint8Array {
  const { from, to, prologue, psk } = options;
  const keys = { s: to, rs: from, prologue, random: noRandom, role: "responder" as const };
  const state = new HandshakeState(
    psk === undefined ? { ...keys, pattern: "K" } : { ...keys, pattern: "Kpsk0", psk },
  );
  return state.readMessage(options.sealed);
}

/** The recipient of a one-way message draws nothing. */
const noRandom: Random = {
  bytes: () => unreachable(),
  float: () => unreachable(),
  below: () => unreachable(),
};
function unreachable(): never {
  throw new Error("opening a sealed message draws no randomness");
}
