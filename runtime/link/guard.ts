/**
 * What all pipes of one node share while they are not links yet: the caps on half-open handshakes, the cookie secret,
 * and the counters. A half-open handshake is an inbound pipe whose far end has not sent its first valid record; on datagrams it
 * begins with a valid message 1, since before that nothing is kept. Owns no pipe and no timer. Specified by docs/protocol/link.md, "Under load".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { Places } from "@godwit/sdk/places";
import { createHmac, timingSafeEqual } from "node:crypto";
import { godwitError } from "../kernel/errors.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";
import { COOKIE_BYTES } from "./constants.ts";

export interface GuardLimits {
  /** Half-open handshakes of all sources together, and of one source. */
  readonly halfOpenMax: number;
  readonly halfOpenPerSourceMax: number;
  /** What a stream without a source has for each of its steps before it yields to another such one, ms. */
  readonly sourcelessGraceMs: number;
  /** From this many half-open handshakes, or this many answered message 1 a second, a cookie is asked for. */
  readonly loadHalfOpen: number;
  readonly loadPerSecond: number;
}

export const GUARD_LIMITS: GuardLimits = {
  halfOpenMax: 512,
  halfOpenPerSourceMax: 128,
  sourcelessGraceMs: 5_000,
  loadHalfOpen: 128,
  loadPerSecond: 500,
};

/** Plain numbers that only grow. Every handshake ends in exactly one of completed, failed, timed out and aborted. */
export interface LinkCounters {
  handshakesCompleted: number;
  handshakesFailed: number;
  handshakesTimedOut: number;
  handshakesAborted: number;
  /** Half-open ones that made room for newer ones. */
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
  /** And pieces of records that had come before. */
  recordsReplayed: number;
  /** Pieces of records that were kept until the others come. */
  fragmentsCollected: number;
  /** Records of which some pieces never came. */
  recordsUnfinished: number;
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
  halfOpenEvicted: 0,
  tagMismatches: 0,
  retriesSent: 0,
  refusalsSent: 0,
  handshakeDatagramsDropped: 0,
  recordsCorrupt: 0,
  recordsForged: 0,
  recordsReplayed: 0,
  fragmentsCollected: 0,
  recordsUnfinished: 0,
  recordsUnread: 0,
  rekeys: 0,
  sessionsExpired: 0,
  sessionsUnconfirmed: 0,
  sessionsTruncated: 0,
});

/** One half-open handshake. */
export interface HalfOpenTicket {
  /** A valid message 1 came: from now on those of which none did make room first. */
  answered(): void;
  /** Idempotent. */
  release(): void;
}

const COOKIE_ROTATE_MS = 60_000;
const COOKIE_SECRET_BYTES = 32;
/**
 * Endpoints whose last handshake failed under the newest secret, oldest forgotten first. More than the dialer has targets and tries hints
 * between two dials of one, so that addresses which lead to nobody keep no endpoint from its second secret.
 */
const SECRET_MEMORY_MAX = 8_192;

export class HandshakeGuard {
  readonly counters: LinkCounters = newCounters();
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #limits: GuardLimits;
  readonly #places: Places;
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
    const { halfOpenMax: max, halfOpenPerSourceMax: perSourceMax, sourcelessGraceMs: ms } = this.#limits;
    this.#places = new Places({ max, perSourceMax, grace: { ms, nowMs: () => clock.monotonicMs() } });
    this.#loadTokens = this.#limits.loadPerSecond;
    this.#loadTokensAtMs = clock.monotonicMs();
    this.#cookieSecret = random.bytes(COOKIE_SECRET_BYTES);
    this.#cookieSecretBefore = this.#cookieSecret;
    this.#cookieSecretAtMs = clock.monotonicMs();
  }

  get halfOpen(): number {
    return this.#places.count;
  }

  /** True: answer a message 1 without a cookie by asking for one. */
  get isUnderLoad(): boolean {
    this.#refillLoadTokens();
    return this.halfOpen > this.#limits.loadHalfOpen || this.#loadTokens < 1;
  }

  /** Counts one message 1 that is about to cost Diffie-Hellman operations. */
  spend(): void {
    this.#refillLoadTokens();
    this.#loadTokens = Math.max(0, this.#loadTokens - 1);
  }

  /**
   * Admits an inbound stream, or a datagram pipe whose message 1 was valid. At the bound of all, and at that of its source, another
   * one is ended through its `onEvict`: of the source that has most the oldest, those without a message 1 first. `source`
   * undefined: the medium shows none. Throws GODWIT_HANDSHAKE_BUSY where those before it without a source still have their time.
   */
  enter(source: string | undefined, onEvict: () => void): HalfOpenTicket {
    const place = this.#places.enter(source, () => {
      this.counters.halfOpenEvicted++;
      onEvict();
    });
    if (place === undefined) throw godwitError("GODWIT_HANDSHAKE_BUSY", "too many unfinished handshakes");
    return { answered: () => place.stand("busy"), release: () => place.release() };
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
