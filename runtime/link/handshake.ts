/**
 * From a pipe to a session. Owns the pipe, the timer and the half-open ticket until the session exists; the messages
 * themselves are made and judged by initiator.ts and responder.ts. Must never keep state, or compute a Diffie-Hellman,
 * for a first message whose tag is wrong. Specified by docs/protocol/link.md, "Handshake".
 */
import type { Pipe } from "@godwit/sdk";
import type { Invite } from "../identity/invite.ts";
import type { Identity } from "../identity/keys.ts";
import { Backoff } from "../kernel/backoff.ts";
import type { Airtime, ChannelBudget } from "../kernel/airtime.ts";
import type { Clock, Timer } from "../kernel/clock.ts";
import { type Departure, isWaiting, newDeparture, noteDropped } from "../kernel/departure.ts";
import { asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";
import { PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN } from "../wire/constants.ts";
import { ALARM } from "../wire/urgency.ts";
import {
  handshakeTiming,
  MTU_MIN,
  patienceOf,
  QUEUED_TIMEOUT_MS,
  RECORD_FLAG,
  SECRETS_MAX,
  SHARED_REKEY_MS,
  SHARED_RESEND_CAP_MS,
  sessionLimits,
  type SessionLimits,
} from "./constants.ts";
import { DatagramSession } from "./datagram-session.ts";
import { Departures } from "./departures.ts";
import type { HalfOpenTicket, HandshakeGuard } from "./guard.ts";
import {
  HANDSHAKE_BYTES,
  HANDSHAKE_BYTES_MAX,
  inviteKeys,
  networkKeys,
  type NetworkKeys,
  type Versions,
} from "./hello.ts";
import { Initiator, type Established, type Step } from "./initiator.ts";
import { Responder, type InviteGate } from "./responder.ts";
import { Repeating } from "./repeating.ts";
import { ANSWERS_AWAITED, type LinkSession, type SessionParams } from "./session.ts";
import { StreamSession } from "./stream-session.ts";
import type { Session } from "./types.ts";

export interface OpenSessionOptions {
  readonly role: "initiator" | "responder";
  /** Initiator: who must answer. Undefined: whoever it is. */
  readonly remote?: NodeId;
  readonly identity: Identity;
  readonly network: string;
  /** Newest first, at most 4; none: an open mesh. */
  readonly secrets: readonly Uint8Array[];
  /** Initiator: comes as the holder of an invitation instead of as a member. */
  readonly invite?: { readonly invite: Invite; readonly secret: Uint8Array };
  /** Responder of a closed mesh: which invitations it takes. Undefined: none. */
  readonly judgeInvite?: InviteGate["judge"];
  readonly clock: Clock;
  readonly random: Random;
  readonly guard: HandshakeGuard;
  /** Default by class of link: 5, 30 or 120 s. */
  readonly timeoutMs?: number;
  /** What the cap on half-open handshakes per source counts by, e.g. the address without its port. None: no such cap. */
  readonly sourceKey?: string;
  readonly isBlocked?: (id: NodeId) => boolean;
  /** Speak XX even though `remote` is known: hides our identity from whoever steals the responder's key later. */
  readonly hideIdentity?: boolean;
  readonly versions?: Versions;
  readonly limits?: Partial<SessionLimits>;
  /** What handshakes, and what sessions say of their own accord, may cost on a channel that all in earshot share. Undefined: whatever it takes. */
  readonly airtime?: Airtime | undefined;
}

/**
 * Runs the handshake over a pipe that nobody has opened yet and resolves to a session that nobody has opened yet. The
 * initiator's resolves when the responder has proved itself; the responder's only with the initiator's first valid
 * record, so that a replayed message 1 comes to nothing. On failure or abort the pipe is closed and it rejects with
 * GODWIT_HANDSHAKE_FAILED, GODWIT_HANDSHAKE_TIMEOUT, GODWIT_HANDSHAKE_BUSY, GODWIT_SELF_DIALED, GODWIT_PEER_BLOCKED,
 * GODWIT_LINK_CLOSED, GODWIT_ID_INVALID, GODWIT_ENDPOINT_INVALID or the signal's reason.
 */
export function openSession(pipe: Pipe, options: OpenSessionOptions, signal: AbortSignal): Promise<Session> {
  return new Promise((resolve, reject) => {
    const opening = new Opening(pipe, options, signal, resolve, reject);
    opening.start();
  });
}

/** Of the protocol, as this node speaks it. */
export const VERSIONS: Versions = { min: PROTOCOL_VERSION_MIN, max: PROTOCOL_VERSION_MAX };

/** Messages 1, one of them at least lost on the way there or back: who does not answer the last has no airtime, or is not there. */
const CALLS_AT_ONCE = 3;
/** Longest answer to a message 1: xx2. */
export const ANSWER_BYTES = 98;

const HUNG_UP =
  "the far end hung up during the handshake: it is another node, in another network, has another secret or no Godwit";

class Opening {
  readonly #pipe: Pipe;
  readonly #options: OpenSessionOptions;
  readonly #signal: AbortSignal;
  readonly #resolve: (session: Session) => void;
  readonly #reject: (error: unknown) => void;
  readonly #onAbort: () => void;
  #initiator: Initiator | undefined;
  #responder: Responder | undefined;
  #secretIndex = 0;
  #ticket: HalfOpenTicket | undefined;
  #timeout: Timer | undefined;
  readonly #departures: Departures;
  #repeating: Repeating | undefined;
  /** The last message in answer to one of the far end. */
  #answered: { readonly bytes: Uint8Array; readonly departure: Departure } | undefined;
  /** The first message of this end. */
  #first: Departure | undefined;
  /** Responder: sessions that wait for their first record, newest last. A stream has at most one, a datagram pipe two. */
  #unproven: LinkSession[] = [];
  #session: LinkSession | undefined;
  #isSettled = false;
  /** Messages 1 on a shared channel. */
  #calls = 0;
  #bytesSent = 0;
  #bytesReceived = 0;
  /** Stream: the handshake message that is arriving. */
  readonly #held = new Uint8Array(HANDSHAKE_BYTES_MAX);
  #heldLength = 0;

  constructor(
    pipe: Pipe,
    options: OpenSessionOptions,
    signal: AbortSignal,
    resolve: (session: Session) => void,
    reject: (error: unknown) => void,
  ) {
    this.#pipe = pipe;
    this.#departures = new Departures(pipe, options.clock);
    this.#options = options;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#onAbort = () => {
      this.#options.guard.counters.handshakesAborted++;
      this.#finish();
      this.#reject(this.#signal.reason);
    };
  }

  start(): void {
    const { role } = this.#options;
    if (this.#signal.aborted) return this.#onAbort();
    try {
      this.#checkPipe();
      if (role === "responder") {
        // A datagram's sender is anybody: it gets a place with a valid message 1.
        if (this.#pipe.kind === "stream") this.#admit();
        this.#responder = this.#newResponder();
      } else this.#initiator = this.#newInitiator();
    } catch (error) {
      return this.#fail(asGodwitError(error));
    }
    this.#signal.addEventListener("abort", this.#onAbort, { once: true });
    this.#limit(this.#timing.timeoutMs);
    this.#pipe.open({
      data: (bytes) => (this.#session === undefined ? this.#onData(bytes) : this.#onRecord(bytes)),
      drain: () => this.#session?.pipeDrained(),
      left: (at) => {
        this.#departures.left(at);
        this.#session?.pipeLeft();
      },
      closed: (error) => this.#onClosed(error),
    });
    if (this.#initiator !== undefined) this.#sendMessage1(this.#initiator);
  }

  /** Whoever asks gives the far end its time from when that has left. */
  #limit(delayMs: number): void {
    const { clock } = this.#options;
    this.#timeout = clock.after(delayMs, () => {
      const nowMs = clock.monotonicMs();
      const { isTold, answerMs } = this.#departures;
      const timeoutMs = Math.max(this.#timing.timeoutMs, ANSWERS_AWAITED * answerMs);
      const isAsking = isTold && this.#initiator !== undefined;
      const leftMs = isAsking ? (this.#first?.leftAtMs ?? nowMs) + timeoutMs - nowMs : 0;
      if (leftMs > 0) this.#limit(leftMs);
      else this.#onTimeout();
    });
  }

  #admit(): void {
    const { guard, sourceKey } = this.#options;
    this.#ticket ??= guard.enter(sourceKey, () =>
      this.#fail(godwitError("GODWIT_HANDSHAKE_BUSY", "it was not finished while others were waiting")),
    );
  }

  get #timing() {
    const timing = handshakeTiming(this.#pipe.linkClass, patienceOf(this.#pipe));
    const timeoutMs = this.#options.timeoutMs ?? timing.timeoutMs;
    // How long the far end waits for airtime nobody sees here.
    const queuedMs = this.#departures.isTold && this.#options.role === "responder" ? QUEUED_TIMEOUT_MS : 0;
    return { ...timing, timeoutMs: Math.max(timeoutMs, queuedMs) };
  }

  #checkPipe(): void {
    const { kind, mtu, remote } = this.#pipe;
    if (kind === "datagram" && mtu < MTU_MIN)
      throw godwitError(
        "GODWIT_ENDPOINT_INVALID",
        `${remote} carries datagrams of ${mtu} bytes, a link needs ${MTU_MIN}`,
      );
    const { secrets } = this.#options;
    if (secrets.length > SECRETS_MAX)
      throw godwitError("GODWIT_CONFIG_INVALID", `at most ${SECRETS_MAX} network secrets may be live`);
    if (secrets.some((secret) => secret.length === 0))
      throw godwitError("GODWIT_CONFIG_INVALID", "a network secret is empty");
  }

  #newInitiator(): Initiator {
    const { identity, network, secrets, guard, random, remote, hideIdentity, invite } = this.#options;
    this.#secretIndex = guard.secretIndexFor(this.#pipe.remote, secrets.length);
    return new Initiator({
      identity,
      network,
      keys:
        invite === undefined
          ? networkKeys(network, secrets[this.#secretIndex])
          : inviteKeys(network, invite.invite, invite.secret),
      remote,
      useIk: remote !== undefined && hideIdentity !== true && invite === undefined,
      versions: this.#versions,
      random,
      isBlocked: this.#isBlocked,
    });
  }

  #newResponder(): Responder {
    const { identity, network, secrets, guard, random, sourceKey, judgeInvite } = this.#options;
    const keys: NetworkKeys[] =
      secrets.length === 0
        ? [networkKeys(network, undefined)]
        : secrets.map((secret) => networkKeys(network, secret));
    return new Responder({
      identity,
      network,
      keys,
      versions: this.#versions,
      random,
      guard,
      source: sourceKey ?? this.#pipe.remote,
      isBlocked: this.#isBlocked,
      admit: () => this.#admit(),
      invites:
        judgeInvite === undefined || secrets.length === 0 ? undefined : { secrets, judge: judgeInvite },
    });
  }

  get #versions(): Versions {
    return this.#options.versions ?? VERSIONS;
  }

  get #isBlocked(): (id: NodeId) => boolean {
    return this.#options.isBlocked ?? (() => false);
  }

  /** On datagrams the initiator repeats its message until something moves on; the responder only ever answers. */
  get #budget(): ChannelBudget | undefined {
    const { medium } = this.#pipe;
    return medium === undefined ? undefined : this.#options.airtime?.of(medium);
  }

  /**
   * Takes the airtime of a message 1. What mail waits for may be owed; else there is a call only where there is enough for all of the link. Where one was
   * begun its repetitions are part of that, or a lost message would cost all that a link takes once more.
   */
  #hasAirtime(bytes: number): boolean {
    const budget = this.#budget;
    if (budget === undefined) return true;
    const isWanted = this.#calls > 0 || this.#options.airtime!.isForMail(this.#pipe.remote);
    const need = this.#calls < CALLS_AT_ONCE && isWanted ? "begin" : "link";
    const isThere = budget.take(budget.costMs(bytes, false), "handshakes", need);
    if (isThere) this.#calls++;
    return isThere;
  }

  #sendMessage1(initiator: Initiator): void {
    const { clock, random } = this.#options;
    if (this.#pipe.kind === "stream") return this.#write(initiator.message1);
    const { resendFirstMs, resendCapMs } = this.#timing;
    const backoff = new Backoff({ firstMs: resendFirstMs, capMs: resendCapMs }, random);
    this.#repeating = new Repeating({ clock, backoff, answerMs: () => this.#departures.answerMs });
    this.#repeating.start((departure) => {
      if (!this.#hasAirtime(initiator.message1.length)) return noteDropped(departure);
      this.#first ??= departure;
      this.#write(initiator.message1, departure);
    });
  }

  /** Once more, where the far end asks again: but not while the last time waits here still. */
  #answer(bytes: Uint8Array): void {
    const last = this.#answered;
    if (last !== undefined && isWaiting(last.departure) && Buffer.compare(last.bytes, bytes) === 0) return;
    const budget = this.#budget;
    if (this.#responder === undefined) budget?.charge(budget.costMs(bytes.length, false), "handshakes");
    else if (budget?.takeAnswer(bytes.length, last === undefined) === false) return;
    const departure = newDeparture();
    this.#answered = { bytes, departure };
    this.#write(bytes, departure);
  }

  #write(bytes: Uint8Array, departure?: Departure): void {
    this.#bytesSent += bytes.length;
    this.#departures.write(bytes, departure === undefined ? [] : [departure], ALARM);
  }

  #onData(bytes: Uint8Array): void {
    if (this.#isSettled) return;
    if (this.#pipe.kind === "datagram") this.#onDatagram(bytes);
    else this.#onStream(bytes);
  }

  /** Records of a live session; on datagrams, what is left of its handshake is dropped. */
  #onRecord(bytes: Uint8Array): void {
    if (this.#pipe.kind === "datagram" && ((bytes[0] ?? 0) & RECORD_FLAG) === 0)
      this.#options.guard.counters.handshakeDatagramsDropped++;
    else this.#session!.receive(bytes);
  }

  #onDatagram(bytes: Uint8Array): void {
    const type = bytes[0] ?? 0;
    if ((type & RECORD_FLAG) !== 0) {
      const proven = this.#unproven.find((session) => (session as DatagramSession).proves(bytes));
      if (proven === undefined) {
        this.#options.guard.counters.handshakeDatagramsDropped++;
        return;
      }
      this.#complete(proven);
      proven.receive(bytes);
      return;
    }
    this.#bytesReceived += bytes.length;
    // Whoever calls has proved nothing yet: what cannot be answered is not computed either.
    const isAnswerable =
      this.#responder === undefined ||
      this.#budget?.hasAnswer(ANSWER_BYTES, this.#answered === undefined) !== false;
    if (HANDSHAKE_BYTES[type] === bytes.length && isAnswerable) this.#take(bytes);
    else this.#options.guard.counters.handshakeDatagramsDropped++;
  }

  #onStream(bytes: Uint8Array): void {
    let rest = bytes;
    while (rest.length > 0 && !this.#isSettled) {
      const unproven = this.#unproven[0];
      if (unproven !== undefined) return unproven.receive(rest);
      const type = this.#heldLength > 0 ? this.#held[0]! : rest[0]!;
      const length = HANDSHAKE_BYTES[type];
      if (length === undefined)
        return this.#fail(godwitError("GODWIT_HANDSHAKE_FAILED", "the far end does not speak this protocol"));
      const taken = Math.min(length - this.#heldLength, rest.length);
      this.#held.set(rest.subarray(0, taken), this.#heldLength);
      this.#heldLength += taken;
      this.#bytesReceived += taken;
      rest = rest.subarray(taken);
      if (this.#heldLength < length) return;
      this.#heldLength = 0;
      this.#take(this.#held.subarray(0, length));
    }
    if (rest.length > 0) this.#session?.receive(rest);
  }

  #take(message: Uint8Array): void {
    const machine = this.#initiator ?? this.#responder!;
    const step: Step = machine.receive(message);
    if (this.#responder?.hasAnswered === true) this.#ticket?.answered();
    switch (step.kind) {
      case "send":
        return this.#answer(step.bytes);
      case "fail":
        if (step.send !== undefined) this.#answer(step.send);
        return this.#fail(step.error);
      case "ignore":
        if (this.#pipe.kind === "stream") return this.#fail(step.error);
        this.#options.guard.counters.handshakeDatagramsDropped++;
        return;
      case "established":
        return this.#onEstablished(step.established, step.send);
    }
  }

  #onEstablished(established: Established, send: Uint8Array | undefined): void {
    if (this.#initiator !== undefined) {
      const session = this.#newSession(established);
      this.#complete(session);
      session.confirm(send);
      return;
    }
    if (send !== undefined) this.#answer(send);
    const session = this.#newSession(established);
    if (this.#pipe.kind === "stream") session.onProof = () => this.#complete(session);
    // Two, so that a replayed message 1 in between does not undo a handshake that is under way.
    this.#unproven = [...this.#unproven.slice(-1), session];
  }

  #newSession(established: Established): LinkSession {
    const { identity, role, clock, random, guard, limits } = this.#options;
    const pipe = this.#pipe;
    const params: SessionParams = {
      pipe,
      departures: this.#departures,
      role,
      own: identity.dh,
      established,
      clock,
      random,
      counters: guard.counters,
      limits: {
        ...sessionLimits(pipe.linkClass, pipe.rateBitsPerSecond, patienceOf(pipe)),
        ...(pipe.medium === undefined
          ? {}
          : { rekeyAfterMs: SHARED_REKEY_MS, rekeyGraceMs: SHARED_REKEY_MS }),
        ...limits,
      },
      budget: this.#budget,
      timing: {
        ...this.#timing,
        ...(pipe.medium === undefined ? {} : { resendCapMs: SHARED_RESEND_CAP_MS }),
      },
      bytesSent: this.#bytesSent,
      bytesReceived: this.#bytesReceived,
    };
    return pipe.kind === "stream" ? new StreamSession(params) : new DatagramSession(params);
  }

  #complete(session: LinkSession): void {
    this.#session = session;
    this.#options.guard.counters.handshakesCompleted++;
    this.#settle();
    if (this.#pipe.kind === "stream") this.#pipe.proven?.();
    this.#resolve(session);
  }

  #onTimeout(): void {
    this.#options.guard.counters.handshakesTimedOut++;
    this.#noteSecret();
    this.#finish();
    const seconds = this.#timing.timeoutMs / 1_000;
    this.#reject(
      godwitError(
        "GODWIT_HANDSHAKE_TIMEOUT",
        `${this.#pipe.remote} did not finish the handshake in ${seconds} s`,
      ),
    );
  }

  #onClosed(error: Error | undefined): void {
    if (this.#session !== undefined) return this.#session.pipeClosed(error);
    if (this.#isSettled) return;
    const failure = this.#unproven[0]?.failure;
    if (failure !== undefined)
      return this.#fail(
        godwitError("GODWIT_HANDSHAKE_FAILED", "the far end's first record did not verify", failure),
      );
    this.#fail(
      error === undefined
        ? godwitError("GODWIT_HANDSHAKE_FAILED", HUNG_UP)
        : godwitError("GODWIT_LINK_CLOSED", `the pipe broke during the handshake: ${error.message}`, error),
    );
  }

  #fail(error: GodwitError): void {
    if (this.#isSettled) return;
    this.#options.guard.counters.handshakesFailed++;
    if (error.code === "GODWIT_HANDSHAKE_FAILED") this.#noteSecret();
    this.#finish();
    this.#reject(error);
  }

  /** The next dial tries the other live secret. */
  #noteSecret(): void {
    if (this.#initiator !== undefined && this.#options.secrets.length > 1)
      this.#options.guard.noteSecretFailed(this.#pipe.remote, this.#secretIndex);
  }

  #finish(): void {
    this.#settle();
    this.#pipe.close();
  }

  #settle(): void {
    this.#isSettled = true;
    this.#timeout?.cancel();
    this.#repeating?.stop();
    this.#ticket?.release();
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#unproven = [];
  }
}
