/** The dialling end of a handshake as a state machine: bytes in, steps out; no pipe, no timer. docs/protocol/link.md */
import { timingSafeEqual } from "node:crypto";
import { dhPublicKeyOf, nodeIdOfDh, type Identity } from "../identity/keys.ts";
import { asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import type { Invite } from "../identity/invite.ts";
import type { Random } from "../kernel/random.ts";
import { HandshakeType, RefuseReason } from "./constants.ts";
import {
  answeredTag,
  encodeMessage1,
  parseMessage1,
  parseRefuse,
  prologue,
  retryCookie,
  type NetworkKeys,
  type Versions,
} from "./hello.ts";
import { HandshakeState, type SplitKeys } from "../identity/noise.ts";

/** What a finished handshake proved. */
export interface Established {
  readonly remote: NodeId;
  readonly remoteDh: Uint8Array;
  readonly keys: SplitKeys;
  /** Names the handshake; bound into the first rekey, with the secret exported from it. */
  readonly hash: Uint8Array;
  readonly exported: Uint8Array;
  readonly version: number;
  /** The initiator holds this invitation and is no member yet. */
  readonly invite: Invite | undefined;
  /** Of the network secret that both ends used; undefined in an open mesh. */
  readonly secretEpoch: string | undefined;
}

export type Step =
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  /** A datagram that changes nothing; on a stream it ends the handshake with `error`. */
  | { readonly kind: "ignore"; readonly error: GodwitError }
  | { readonly kind: "fail"; readonly error: GodwitError; readonly send?: Uint8Array }
  | { readonly kind: "established"; readonly established: Established; readonly send?: Uint8Array };

/** Label of the secret that a session carries from epoch to epoch. */
export const EPOCH_SECRET_LABEL = "godwit link epoch";
/** A responder under load may rotate its cookie secret once between two messages. */
const RETRIES_MAX = 2;

export const ignore = (message: string): Step => ({
  kind: "ignore",
  error: godwitError("GODWIT_HANDSHAKE_FAILED", message),
});
export const fail = (error: GodwitError, send?: Uint8Array): Step =>
  send === undefined ? { kind: "fail", error } : { kind: "fail", error, send };

export function establish(
  state: HandshakeState,
  remote: NodeId,
  version: number,
  secretEpoch: string | undefined,
  invite?: Invite,
): Established {
  return {
    remote,
    remoteDh: state.remoteStatic!,
    keys: state.split(),
    hash: state.hash,
    exported: state.exportKey(EPOCH_SECRET_LABEL),
    version,
    invite,
    secretEpoch,
  };
}

export interface InitiatorOptions {
  readonly identity: Identity;
  readonly network: string;
  readonly keys: NetworkKeys;
  /** Who must answer; undefined: whoever it is. */
  readonly remote: NodeId | undefined;
  /** IK with `remote`, else XX. */
  readonly useIk: boolean;
  readonly versions: Versions;
  readonly random: Random;
  readonly isBlocked: (id: NodeId) => boolean;
}

export class Initiator {
  readonly #options: InitiatorOptions;
  /** The responder's X25519 key while IK is spoken. */
  #addressee: Uint8Array | undefined;
  #state!: HandshakeState;
  #noise1!: Uint8Array;
  #message1!: Uint8Array;
  #retries = 0;

  /** Throws GODWIT_SELF_DIALED or GODWIT_ID_INVALID when `remote` cannot be spoken to at all. */
  constructor(options: InitiatorOptions) {
    this.#options = options;
    if (options.remote === options.identity.id) throw selfDialed();
    const expected = options.remote === undefined ? undefined : dhPublicKeyOf(options.remote);
    this.#start(options.useIk ? expected : undefined);
  }

  /** To send first, and on datagrams again until something answers. Shared: never write to it. */
  get message1(): Uint8Array {
    return this.#message1;
  }

  /** `bytes`: a whole handshake message of the far end, borrowed. Never throws on what it holds. */
  receive(bytes: Uint8Array): Step {
    const type = bytes[0]!;
    try {
      if (type === HandshakeType.retry) return this.#onRetry(bytes);
      if (type === HandshakeType.refuse) return this.#onRefuse(bytes);
      const expected = this.#addressee === undefined ? HandshakeType.xx2 : HandshakeType.ik2;
      if (type !== expected)
        return ignore(`the far end sent handshake message ${type} where ${expected} belongs`);
      return this.#onMessage2(bytes.subarray(1));
    } catch (error) {
      return { kind: "ignore", error: asGodwitError(error) };
    }
  }

  #start(addressee: Uint8Array | undefined): void {
    const { identity, keys, versions, network, random } = this.#options;
    this.#addressee = addressee;
    const base = addressee === undefined ? "XX" : "IK";
    const pattern =
      keys.psk === undefined ? base : addressee === undefined ? ("XXpsk3" as const) : ("IKpsk2" as const);
    this.#state = new HandshakeState({
      pattern,
      role: "initiator",
      prologue: prologue(pattern, versions, network, keys.invite),
      s: identity.dh,
      random,
      ...(addressee === undefined ? {} : { rs: addressee }),
      ...(keys.psk === undefined ? {} : { psk: keys.psk }),
    });
    this.#noise1 = this.#state.writeMessage();
    this.#message1 = encodeMessage1(keys, addressee, versions, this.#noise1);
  }

  #onRetry(bytes: Uint8Array): Step {
    if (!this.#isAnswer(bytes)) return ignore("a retry for a message that was not sent");
    if (this.#retries++ >= RETRIES_MAX)
      return fail(godwitError("GODWIT_HANDSHAKE_BUSY", "the far end keeps asking for a cookie"));
    const { keys, versions } = this.#options;
    this.#message1 = encodeMessage1(keys, this.#addressee, versions, this.#noise1, retryCookie(bytes));
    return { kind: "send", bytes: this.#message1 };
  }

  #onRefuse(bytes: Uint8Array): Step {
    if (!this.#isAnswer(bytes)) return ignore("a refusal of a message that was not sent");
    const { versions } = this.#options;
    const refusal = parseRefuse(bytes);
    switch (refusal.reason) {
      case RefuseReason.version:
        return fail(
          godwitError(
            "GODWIT_HANDSHAKE_FAILED",
            `the far end speaks versions ${refusal.versions.min} to ${refusal.versions.max}, this node ${versions.min} to ${versions.max}`,
          ),
        );
      case RefuseReason.notAddressee:
        if (this.#addressee === undefined) return ignore("a refusal that makes no sense");
        // XX on the same pipe learns who is there; it goes on only if that is whom we meant after all.
        this.#start(undefined);
        return { kind: "send", bytes: this.#message1 };
      case RefuseReason.inviteExpired:
        return fail(
          godwitError(
            "GODWIT_INVITE_EXPIRED",
            "the invitation has expired by the clock of the member that was asked",
          ),
        );
      case RefuseReason.inviteUnsure:
        return fail(
          godwitError(
            "GODWIT_INVITE_UNSURE",
            "the member that was asked does not know the time and cannot judge the invitation",
          ),
        );
      default:
        return ignore("a refusal with an unknown reason");
    }
  }

  #onMessage2(noise: Uint8Array): Step {
    const { identity, remote, versions, isBlocked, keys } = this.#options;
    // On a clone: a forged datagram must not end the handshake.
    const state = this.#state.clone();
    const payload = state.readMessage(noise);
    const version = payload[0]!;
    if (version < versions.min || version > versions.max)
      return fail(
        godwitError("GODWIT_HANDSHAKE_FAILED", `the far end chose version ${version}, which was not offered`),
      );
    const met = nodeIdOfDh(state.remoteStatic!);
    if (met === identity.id) return fail(selfDialed());
    if (remote !== undefined && met !== remote)
      return fail(
        godwitError(
          "GODWIT_HANDSHAKE_FAILED",
          `met node ${met} (${shortId(met)}) where ${shortId(remote)} was expected`,
        ),
      );
    if (isBlocked(met)) return fail(blocked(met));
    if (this.#addressee !== undefined)
      return { kind: "established", established: establish(state, met, version, keys.epoch) };
    const message3 = state.writeMessage();
    const send = new Uint8Array(1 + message3.length);
    send[0] = HandshakeType.xx3;
    send.set(message3, 1);
    return {
      kind: "established",
      established: establish(state, met, version, keys.epoch, keys.invite),
      send,
    };
  }

  #isAnswer(bytes: Uint8Array): boolean {
    return timingSafeEqual(answeredTag(bytes), parseMessage1(this.#message1).tag);
  }
}

export const selfDialed = (): GodwitError =>
  godwitError(
    "GODWIT_SELF_DIALED",
    "the handshake met this node itself: remove its own endpoint from the peers",
  );

export const blocked = (id: NodeId): GodwitError =>
  godwitError("GODWIT_PEER_BLOCKED", `node ${shortId(id)} is blocked by this node's operator`);
