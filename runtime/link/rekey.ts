/**
 * A fresh Diffie-Hellman inside a live session: Noise IKpsk2 whose messages travel as control items of authenticated
 * records. The psk is the secret exported from the epoch before, so an epoch is at least as secret as all earlier ones,
 * and the prologue binds it to exactly that epoch. Owns who may ask and whose request wins; knows neither pipe nor
 * timer. Specified by docs/protocol/link.md, "Rekey".
 */
import type { DhKey } from "../identity/keys.ts";
import { godwitError } from "../kernel/errors.ts";
import type { Random } from "../kernel/random.ts";
import { HandshakeState, type Role, type SplitKeys } from "../identity/noise.ts";
import { EPOCH_SECRET_LABEL, type Established } from "./initiator.ts";

export interface Epoch {
  readonly number: number;
  readonly keys: SplitKeys;
  readonly hash: Uint8Array;
  readonly exported: Uint8Array;
}

/** Target epoch, 4 bytes, before the Noise message. */
const TARGET_BYTES = 4;
export const REKEY_REQUEST_BYTES = TARGET_BYTES + 96;
export const REKEY_REPLY_BYTES = TARGET_BYTES + 48;

export class Rekeying {
  readonly #own: DhKey;
  readonly #remote: Uint8Array;
  /** Role in the session's first handshake: on a crossing the initiator's request wins. */
  readonly #role: Role;
  readonly #random: Random;
  #epoch: Epoch;
  #requested: { readonly state: HandshakeState; readonly message: Uint8Array } | undefined;
  #answered: { readonly request: Uint8Array; readonly reply: Uint8Array; readonly epoch: Epoch } | undefined;

  constructor(own: DhKey, established: Established, role: Role, random: Random) {
    this.#own = own;
    this.#remote = established.remoteDh;
    this.#role = role;
    this.#random = random;
    this.#epoch = {
      number: 0,
      keys: established.keys,
      hash: established.hash,
      exported: established.exported,
    };
  }

  get epoch(): Epoch {
    return this.#epoch;
  }

  /** Nothing asked and nothing answered: a request may start. */
  get isIdle(): boolean {
    return this.#requested === undefined && this.#answered === undefined;
  }

  /** No answer is open. */
  get mayAnswerFirst(): boolean {
    return this.#answered === undefined;
  }

  /** The request that waits for its reply, to be sent again on datagrams. */
  get pendingRequest(): Uint8Array | undefined {
    return this.#requested?.message;
  }

  /** The epoch that we have answered for and the far end has not yet used. */
  get answeredEpoch(): Epoch | undefined {
    return this.#answered?.epoch;
  }

  /** The body of a rekeyRequest. */
  request(): Uint8Array {
    const target = this.#epoch.number + 1;
    const state = this.#stateFor("initiator");
    const message = withTarget(target, state.writeMessage());
    this.#requested = { state, message };
    return message;
  }

  /**
   * The body of the reply to a request, the same again for the same request; undefined when the request loses against
   * ours or is of the past. Throws GODWIT_HANDSHAKE_FAILED on a request that does not verify.
   */
  answer(request: Uint8Array): Uint8Array | undefined {
    if (this.#answered !== undefined && Buffer.compare(this.#answered.request, request) === 0)
      return this.#answered.reply;
    const target = this.#epoch.number + 1;
    if (targetOf(request, REKEY_REQUEST_BYTES) !== target) return undefined;
    if (this.#requested !== undefined && this.#role === "initiator") return undefined;
    const state = this.#stateFor("responder");
    state.readMessage(request.subarray(TARGET_BYTES));
    const noise = state.writeMessage();
    if (Buffer.compare(state.remoteStatic!, this.#remote) !== 0)
      throw godwitError("GODWIT_HANDSHAKE_FAILED", "a rekey showed another node's key");
    this.#requested = undefined;
    const reply = withTarget(target, noise);
    this.#answered = { request: new Uint8Array(request), reply, epoch: epochOf(target, state) };
    return reply;
  }

  /** The new epoch, which both ends now know; undefined when the reply answers no open request. */
  finish(reply: Uint8Array): Epoch | undefined {
    const target = this.#epoch.number + 1;
    if (this.#requested === undefined || targetOf(reply, REKEY_REPLY_BYTES) !== target) return undefined;
    const state = this.#requested.state.clone();
    state.readMessage(reply.subarray(TARGET_BYTES));
    this.#requested = undefined;
    this.#epoch = epochOf(target, state);
    return this.#epoch;
  }

  /** The far end uses the epoch that we answered for. */
  confirmAnswered(): Epoch {
    this.#epoch = this.#answered!.epoch;
    this.#answered = undefined;
    return this.#epoch;
  }

  #stateFor(role: Role): HandshakeState {
    const { number, hash, exported } = this.#epoch;
    return new HandshakeState({
      pattern: "IKpsk2",
      role,
      prologue: Buffer.concat([new TextEncoder().encode("godwit rekey\0"), u32(number + 1), hash]),
      s: this.#own,
      psk: exported,
      random: this.#random,
      ...(role === "initiator" ? { rs: this.#remote } : {}),
    });
  }
}

const epochOf = (number: number, state: HandshakeState): Epoch => ({
  number,
  keys: state.split(),
  hash: state.hash,
  exported: state.exportKey(EPOCH_SECRET_LABEL),
});

function u32(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value);
  return out;
}

function withTarget(target: number, noise: Uint8Array): Uint8Array {
  const out = new Uint8Array(TARGET_BYTES + noise.length);
  out.set(u32(target));
  out.set(noise, TARGET_BYTES);
  return out;
}

function targetOf(body: Uint8Array, length: number): number {
  if (body.length !== length)
    throw godwitError("GODWIT_HANDSHAKE_FAILED", "a rekey message has the wrong length");
  return new DataView(body.buffer, body.byteOffset, body.length).getUint32(0);
}
