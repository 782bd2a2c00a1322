/** The listening end of a handshake as a state machine: bytes in, steps out; no pipe, no timer. docs/protocol/link.md */
import { decodeInvite, type Invite } from "../identity/invite.ts";
import { nodeIdOfDh, type Identity } from "../identity/keys.ts";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";
import { ATTEMPTS_PER_PIPE_MAX, HandshakeType, RefuseReason } from "./constants.ts";
import type { HandshakeGuard } from "./guard.ts";
import {
  checkTag,
  commonVersion,
  encodeRefuse,
  encodeRetry,
  HANDSHAKE_BYTES,
  memberInviteKeys,
  parseMessage1,
  prologue,
  type Message1,
  type NetworkKeys,
  type Versions,
} from "./hello.ts";
import { blocked, establish, fail, ignore, selfDialed, type Step } from "./initiator.ts";
import { HandshakeState } from "../identity/noise.ts";

export interface ResponderOptions {
  readonly identity: Identity;
  readonly network: string;
  /** One per live secret, newest first; a single open one where there is no secret. */
  readonly keys: readonly NetworkKeys[];
  readonly versions: Versions;
  readonly random: Random;
  readonly guard: HandshakeGuard;
  /** What a cookie is bound to. */
  readonly source: string;
  readonly isBlocked: (id: NodeId) => boolean;
  /** Called before the first key agreement: the message 1 was valid. Throws where there is no room. */
  readonly admit: () => void;
  /** Invitations derived from these are taken, as far as `judge` lets them. Undefined: none is. */
  readonly invites: InviteGate | undefined;
}

/** What a member with an invitation in front of it knows. */
export interface InviteGate {
  /** Live network secrets, newest first. */
  readonly secrets: readonly Uint8Array[];
  judge(invite: Invite): InviteVerdict;
}

/** `unsure`: the member's clock cannot tell. */
export type InviteVerdict = "valid" | "expired" | "unsure";

/** What a first message is judged by before anything is kept for it. */
export type FirstContact = Pick<
  ResponderOptions,
  "identity" | "network" | "keys" | "versions" | "guard" | "source" | "invites"
>;

/**
 * The first datagram of somebody unknown: "open" where it is a message 1 with a valid tag, and under load a valid cookie; else what
 * to answer, or nothing. Keeps nothing, computes no key agreement and throws nothing, whatever comes.
 */
export function screenFirst(bytes: Uint8Array, contact: FirstContact): "open" | Uint8Array | undefined {
  if (HANDSHAKE_BYTES[bytes[0] ?? 0] !== bytes.length || !isMessage1(bytes[0]!)) return undefined;
  try {
    const judged = judgeMessage1(bytes, contact);
    if (!("kind" in judged)) return "open";
    return judged.kind === "send" ? judged.bytes : undefined;
  } catch {
    return undefined;
  }
}

interface Judged {
  readonly message: Message1;
  readonly keys: NetworkKeys;
}

/** Tag, then load. */
function judgeMessage1(bytes: Uint8Array, contact: FirstContact): Judged | Step {
  const { guard, identity, source, versions } = contact;
  const message = parseMessage1(bytes);
  let keys: NetworkKeys | undefined;
  let isMember = false;
  for (const candidate of candidatesFor(message, contact)) {
    const verdict = checkTag(message, candidate, identity.dh.publicKey);
    if (verdict === "ours") keys = candidate;
    isMember ||= verdict === "member";
  }
  if (keys === undefined) {
    guard.counters.tagMismatches++;
    if (!isMember) return ignore("a first message of another network, of another secret or for another node");
    guard.counters.refusalsSent++;
    return { kind: "send", bytes: encodeRefuse(message.tag, RefuseReason.notAddressee, versions) };
  }
  const { cookie } = message;
  const ephemeral = ephemeralOf(message);
  if (guard.isUnderLoad && (cookie === undefined || !guard.isCookieValid(source, ephemeral, cookie))) {
    guard.counters.retriesSent++;
    return { kind: "send", bytes: encodeRetry(message.tag, guard.cookie(source, ephemeral)) };
  }
  return { message, keys };
}

/** Two HMACs more per live secret than any other first message: still no state and no Diffie-Hellman for a stranger. */
function candidatesFor(message: Message1, { keys, invites, network }: FirstContact): readonly NetworkKeys[] {
  if (message.invite === undefined) return keys;
  return invites === undefined
    ? []
    : memberInviteKeys(network, decodeInvite(message.invite), invites.secrets);
}

const MESSAGES_1: ReadonlySet<number> = new Set([
  HandshakeType.ik1,
  HandshakeType.ik1WithCookie,
  HandshakeType.xx1,
  HandshakeType.xx1WithCookie,
  HandshakeType.xx1Psk,
  HandshakeType.xx1PskWithCookie,
  HandshakeType.xx1Invite,
]);
const isMessage1 = (type: number): boolean => MESSAGES_1.has(type);

interface Answered {
  readonly message1: Uint8Array;
  readonly reply: Uint8Array;
  /** XX: waiting for message 3 in this state. */
  readonly waiting: HandshakeState | undefined;
  readonly version: number;
  readonly invite: Invite | undefined;
  readonly secretEpoch: string | undefined;
}

export class Responder {
  readonly #options: ResponderOptions;
  /** The last message 1 that was answered, so that a repeated one costs nothing and changes nothing. */
  #answered: Answered | undefined;
  #attempts = 0;

  constructor(options: ResponderOptions) {
    this.#options = options;
  }

  /** Whether a valid message 1 was answered. */
  get hasAnswered(): boolean {
    return this.#answered !== undefined;
  }

  /**
   * `bytes`: a whole handshake message, borrowed. Never throws on what it holds. "established" after IK message 1 is
   * not fresh: it may be a replay until a valid record follows.
   */
  receive(bytes: Uint8Array): Step {
    try {
      const type = bytes[0] ?? 0;
      if (isMessage1(type)) return this.#onMessage1(bytes);
      if (type === HandshakeType.xx3) return this.#onMessage3(bytes.subarray(1));
      return ignore(`handshake message ${type} is not for a responder`);
    } catch (error) {
      return { kind: "ignore", error: asGodwitError(error) };
    }
  }

  /** Everything cheap comes first: repetition, tag, load. Only then Diffie-Hellman. */
  #onMessage1(bytes: Uint8Array): Step {
    const { guard, versions } = this.#options;
    if (this.#answered !== undefined && Buffer.compare(this.#answered.message1, bytes) === 0)
      return { kind: "send", bytes: this.#answered.reply };
    const judged = judgeMessage1(bytes, this.#options);
    if ("kind" in judged) return judged;
    const { message, keys } = judged;
    if (keys.invite !== undefined) {
      const verdict = this.#options.invites!.judge(keys.invite);
      if (verdict !== "valid") return this.#refuseInvite(message, verdict);
    }
    const version = commonVersion(versions, message.versions);
    if (version === undefined) {
      const refusal = encodeRefuse(message.tag, RefuseReason.version, versions);
      guard.counters.refusalsSent++;
      const theirs = `${message.versions.min} to ${message.versions.max}`;
      return fail(
        godwitError(
          "GODWIT_HANDSHAKE_FAILED",
          `the far end speaks versions ${theirs}, this node ${versions.min} to ${versions.max}`,
        ),
        refusal,
      );
    }
    if (++this.#attempts > ATTEMPTS_PER_PIPE_MAX)
      return fail(godwitError("GODWIT_HANDSHAKE_FAILED", "too many first messages on one pipe"));
    this.#options.admit();
    guard.spend();
    return message.isIk
      ? this.#answerIk(bytes, message, keys, version)
      : this.#answerXx(bytes, message, keys, version);
  }

  /** Only whoever holds the invitation hears this: the tag was right. */
  #refuseInvite(message: Message1, verdict: "expired" | "unsure"): Step {
    this.#options.guard.counters.refusalsSent++;
    const reason = verdict === "expired" ? RefuseReason.inviteExpired : RefuseReason.inviteUnsure;
    return fail(
      verdict === "expired"
        ? godwitError("GODWIT_INVITE_EXPIRED", "a newcomer came with an invitation that has expired")
        : godwitError(
            "GODWIT_INVITE_UNSURE",
            "a newcomer came, and this node's clock cannot judge its invitation",
          ),
      encodeRefuse(message.tag, reason, this.#options.versions),
    );
  }

  #answerIk(bytes: Uint8Array, message: Message1, keys: NetworkKeys, version: number): Step {
    const state = this.#stateFor(keys.psk === undefined ? "IK" : "IKpsk2", message, keys);
    state.readMessage(message.noise);
    const refused = this.#check(state);
    if (refused !== undefined) return refused;
    const reply = withType(HandshakeType.ik2, state.writeMessage(Uint8Array.of(version)));
    const secretEpoch = keys.epoch;
    this.#answered = {
      message1: copyOf(bytes),
      reply,
      waiting: undefined,
      version,
      secretEpoch,
      invite: undefined,
    };
    const remote = nodeIdOfDh(state.remoteStatic!);
    return { kind: "established", established: establish(state, remote, version, secretEpoch), send: reply };
  }

  #answerXx(bytes: Uint8Array, message: Message1, keys: NetworkKeys, version: number): Step {
    const state = this.#stateFor(keys.psk === undefined ? "XX" : "XXpsk3", message, keys);
    state.readMessage(message.noise);
    const reply = withType(HandshakeType.xx2, state.writeMessage(Uint8Array.of(version)));
    const { epoch: secretEpoch, invite } = keys;
    this.#answered = { message1: copyOf(bytes), reply, waiting: state, version, secretEpoch, invite };
    return { kind: "send", bytes: reply };
  }

  #onMessage3(noise: Uint8Array): Step {
    const answered = this.#answered;
    if (answered?.waiting === undefined) return ignore("a third message that was not asked for");
    const state = answered.waiting.clone();
    state.readMessage(noise);
    const refused = this.#check(state);
    if (refused !== undefined) return refused;
    this.#answered = { ...answered, waiting: undefined };
    const remote = nodeIdOfDh(state.remoteStatic!);
    const { version, secretEpoch, invite } = answered;
    return { kind: "established", established: establish(state, remote, version, secretEpoch, invite) };
  }

  /** The verdict over the identity that the initiator has just shown, or undefined when it may go on. */
  #check(state: HandshakeState): Step | undefined {
    const met = nodeIdOfDh(state.remoteStatic!);
    if (met === this.#options.identity.id) return fail(selfDialed());
    return this.#options.isBlocked(met) ? fail(blocked(met)) : undefined;
  }

  #stateFor(pattern: "IK" | "IKpsk2" | "XX" | "XXpsk3", message: Message1, keys: NetworkKeys) {
    const { identity, network, random } = this.#options;
    return new HandshakeState({
      pattern,
      role: "responder",
      prologue: prologue(pattern, message.versions, network, keys.invite),
      s: identity.dh,
      random,
      ...(keys.psk === undefined ? {} : { psk: keys.psk }),
    });
  }
}

const ephemeralOf = (message: Message1): Uint8Array => message.noise.subarray(0, 32);
/** Not `slice`: on a Buffer that would share the borrowed memory. */
const copyOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

function withType(type: number, noise: Uint8Array): Uint8Array {
  const out = new Uint8Array(1 + noise.length);
  out[0] = type;
  out.set(noise, 1);
  return out;
}
