/**
 * What all pipes of one node share while they are not links yet: the caps on half-open handshakes, the cookie secret,
 * and the counters. A half-open handshake is an inbound pipe whose far end has not sent its first valid record. Owns no
 * pipe and no timer. Specified by docs/protocol/link.md, "Under load".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { createHmac, timingSafeEqual } from "node:crypto";
import { godwitError } from "../kernel/errors.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";
import { COOKIE_BYTES } from "./constants.ts";

export interface GuardLimits {
  /** Half-open handshakes of all sources together, and of one source. */
  readonly halfOpenMax: number;
  readonly halfOpenPerSourceMax: number;
  /** From this many half-open handshakes, or this many answered message 1 a second, a cookie is asked for. */
  readonly loadHalfOpen: number;
  readonly loadPerSecond: number;
}

export const GUARD_LIMITS: GuardLimits = {
  halfOpenMax: 512,
  halfOpenPerSourceMax: 64,
  loadHalfOpen: 128,
  loadPerSecond: 500,
};

/** Plain numbers that only grow. Every handshake ends in exactly one of completed, failed, timed out and aborted. */
export interface LinkCounters {
  handshakesCompleted: number;
  handshakesFailed: number;
  handshakesTimedOut: number;
  handshakesAborted: number;
  /** Inbound pipes refused at the caps, and half-open ones that made room for newer ones. */
  halfOpenRefused: number;
  halfOpenEvicted: number;
  /** Message 1 whose tag fits none of our secrets or not our key. */
  tagMismatches: number;
  retriesSent: number;
  refusalsSent: number;
  /** Datagrams dropped during a handshake or as stray handshake messages of a session. */
  handshakeDatagramsDropped: number;
  /** Stream records that ended their session, and datagrams with a wrong tag or header. */
  recordsCorrupt: number;
  recordsForged: number;
  recordsReplayed: number;
  /** Datagrams dropped because nobody read yet. */
  recordsUnread: number;
  rekeys: number;
  sessionsExpired: number;
  /** Datagram sessions whose far end never answered the confirm of an epoch. */
  sessionsUnconfirmed: number;
  /** Streams that ended without an authenticated close. */
  sessionsTruncated: number;
}

const newCounters = (): LinkCounters => ({
  handshakesCompleted: 0,
  handshakesFailed: 0,
  handshakesTimedOut: 0,
  handshakesAborted: 0,
  halfOpenRefused: 0,
  halfOpenEvicted: 0,
  tagMismatches: 0,
  retriesSent: 0,
  refusalsSent: 0,
  handshakeDatagramsDropped: 0,
  recordsCorrupt: 0,
  recordsForged: 0,
  recordsReplayed: 0,
  recordsUnread: 0,
  rekeys: 0,
  sessionsExpired: 0,
  sessionsUnconfirmed: 0,
  sessionsTruncated: 0,
});

/** One half-open handshake. */
export interface HalfOpenTicket {
  /** A valid message 1 came: from now on the handshake is not evicted to make room. */
  answered(): void;
  /** Idempotent. */
  release(): void;
}

const COOKIE_ROTATE_MS = 60_000;
const COOKIE_SECRET_BYTES = 32;
/** Endpoints whose last handshake failed under the newest secret, oldest forgotten first. */
const SECRET_MEMORY_MAX = 1_024;

export class HandshakeGuard {
  readonly counters: LinkCounters = newCounters();
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #limits: GuardLimits;
  readonly #perSource = new Map<string, number>();
  /** Waiting for message 1, oldest first, each with what ends it. */
  readonly #waiting = new Map<object, () => void>();
  #halfOpen = 0;
  #loadTokens: number;
  #loadTokensAtMs: number;
  #cookieSecret: Uint8Array;
  #cookieSecretBefore: Uint8Array;
  #cookieSecretAtMs: number;
  readonly #secretIndex = new BoundedMap<string, number>({
    name: "endpoints whose secret is known",
    max: SECRET_MEMORY_MAX,
  });

  constructor(clock: Clock, random: Random, limits: Partial<GuardLimits> = {}) {
    this.#clock = clock;
    this.#random = random;
    this.#limits = { ...GUARD_LIMITS, ...limits };
    this.#loadTokens = this.#limits.loadPerSecond;
    this.#loadTokensAtMs = clock.monotonicMs();
    this.#cookieSecret = random.bytes(COOKIE_SECRET_BYTES);
    this.#cookieSecretBefore = this.#cookieSecret;
    this.#cookieSecretAtMs = clock.monotonicMs();
  }

  get halfOpen(): number {
    return this.#halfOpen;
  }

  /** True: answer a message 1 without a cookie by asking for one. */
  get isUnderLoad(): boolean {
    this.#refillLoadTokens();
    return this.#halfOpen > this.#limits.loadHalfOpen || this.#loadTokens < 1;
  }

  /** Counts one message 1 that is about to cost Diffie-Hellman operations. */
  spend(): void {
    this.#refillLoadTokens();
    this.#loadTokens = Math.max(0, this.#loadTokens - 1);
  }

  /**
   * Admits an inbound pipe. At the global cap the oldest pipe that has not even sent a message 1 is ended through its
   * `onEvict`; where there is none, and at the cap of the source, throws GODWIT_HANDSHAKE_BUSY.
   */
  enter(source: string | undefined, onEvict: () => void): HalfOpenTicket {
    const ofSource = source === undefined ? 0 : (this.#perSource.get(source) ?? 0);
    if (source !== undefined && ofSource >= this.#limits.halfOpenPerSourceMax) {
      this.counters.halfOpenRefused++;
      throw godwitError("GODWIT_HANDSHAKE_BUSY", `too many unfinished handshakes from ${source}`);
    }
    if (this.#halfOpen >= this.#limits.halfOpenMax) this.#evictOldest();
    if (this.#halfOpen >= this.#limits.halfOpenMax) {
      this.counters.halfOpenRefused++;
      throw godwitError("GODWIT_HANDSHAKE_BUSY", "too many unfinished handshakes");
    }
    this.#halfOpen++;
    // Counted anew: an eviction may have changed the source's share.
    if (source !== undefined) this.#perSource.set(source, (this.#perSource.get(source) ?? 0) + 1);
    const ticket: HalfOpenTicket = {
      answered: () => void this.#waiting.delete(ticket),
      release: () => {
        if (isReleased) return;
        isReleased = true;
        this.#waiting.delete(ticket);
        this.#halfOpen--;
        if (source === undefined) return;
        const left = this.#perSource.get(source)! - 1;
        if (left === 0) this.#perSource.delete(source);
        else this.#perSource.set(source, left);
      },
    };
    let isReleased = false;
    this.#waiting.set(ticket, onEvict);
    return ticket;
  }

  /** Proof that the holder receives what is sent to `source`, valid one to two minutes for this ephemeral only. */
  cookie(source: string, ephemeral: Uint8Array): Uint8Array {
    this.#rotateCookieSecret();
    return cookieOf(this.#cookieSecret, source, ephemeral);
  }

  isCookieValid(source: string, ephemeral: Uint8Array, cookie: Uint8Array): boolean {
    this.#rotateCookieSecret();
    return [this.#cookieSecret, this.#cookieSecretBefore].some((secret) =>
      timingSafeEqual(cookieOf(secret, source, ephemeral), cookie),
    );
  }

  /** Which of `count` secrets to dial this endpoint with: the newest, unless the last dial under it failed. */
  secretIndexFor(endpoint: string, count: number): number {
    return count === 0 ? 0 : (this.#secretIndex.get(endpoint) ?? 0) % count;
  }

  /** The list of secrets changed: what was learned about its places says nothing any more. */
  forgetSecrets(): void {
    this.#secretIndex.clear();
  }

  /** The dial under this index failed before the far end proved anything: the next one takes the next secret. */
  noteSecretFailed(endpoint: string, index: number): void {
    this.#secretIndex.renew(endpoint, index + 1);
  }

  #evictOldest(): void {
    const oldest = this.#waiting.entries().next().value;
    if (oldest === undefined) return;
    this.counters.halfOpenEvicted++;
    const [ticket, onEvict] = oldest;
    onEvict();
    (ticket as HalfOpenTicket).release();
  }

  #refillLoadTokens(): void {
    const nowMs = this.#clock.monotonicMs();
    const { loadPerSecond } = this.#limits;
    this.#loadTokens = Math.min(
      loadPerSecond,
      this.#loadTokens + ((nowMs - this.#loadTokensAtMs) * loadPerSecond) / 1_000,
    );
    this.#loadTokensAtMs = nowMs;
  }

  #rotateCookieSecret(): void {
    const ageMs = this.#clock.monotonicMs() - this.#cookieSecretAtMs;
    if (ageMs < COOKIE_ROTATE_MS) return;
    // After two periods without use the old secret is stale as well.
    const fresh = this.#random.bytes(COOKIE_SECRET_BYTES);
    this.#cookieSecretBefore = ageMs < 2 * COOKIE_ROTATE_MS ? this.#cookieSecret : fresh;
    this.#cookieSecret = fresh;
    this.#cookieSecretAtMs += ageMs - (ageMs % COOKIE_ROTATE_MS);
  }
}

function cookieOf(secret: Uint8Array, source: string, ephemeral: Uint8Array): Uint8Array {
  return createHmac("sha256", secret).update(ephemeral).update(source).digest().subarray(0, COOKIE_BYTES);
}
