/**
 * One live session to a neighbour with what the node knows of it: is it alive, how far, how fast. Liveness follows
 * docs/protocol/frames.md: data counts as a sign of life; silence is probed, sooner while the link is in use. Knows
 * nothing of other links or of routing.
 */
import type { Clock, Random, Timer } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import type { Departure } from "../kernel/departure.ts";
import { isPaced, type Session } from "../link/types.ts";
import { lateness, type LivenessProfile, profiles, silenceMaxMs } from "./liveness.ts";
import { encodeProbe, encodeProbeReply, type Hello } from "../wire/peer-messages.ts";

/** The responder waits this much longer than the initiator ever does, so that one exchange of probes serves both ends. */
const RESPONDER_EXTRA_MS = 35;
/** A link counts as in use for this long after data was sent on it. */
const ACTIVE_WINDOW_MS = 5_000;
/** A timer this late means that this node itself stood still: what it did not hear proves nothing. */
const LAG_VOID_MS = 250;
/**
 * So much of a record that is not whole yet is a sign of life as well: on a slow link a record takes longer than anybody waits
 * for an answer, and the answers come behind it. Forged bytes buy 32 of these signs, then the record fails. Over datagrams
 * nothing comes by halves.
 *
 * Who takes in this much and has nothing to say for a share of the active limit says that it is there: the far end's
 * probes wait behind its own data, on a slow link for longer than it waits for answers.
 */
const SIGN_BYTES_MIN = 2_048;
const SIGN_SHARE = 0.6;
/** Nonce of an answer that nobody asked for; and of a probe that says that nothing is heard of the far end. */
const UNASKED = 0;
const TIMER_RESOLUTION_MS = 1;
const RTT_WEIGHT = 1 / 8;
/** Data counts as a sign of life and measures nothing: a link in use is probed this often for its round trip, too. */
const MEASURE_MS = 5_000;
/** The smallest round trip is that of the last one to two of these: a path that became longer must show. */
const RTT_MIN_WINDOW_MS = 60_000;
const RTT_VARIATION_WEIGHT = 1 / 4;
/** Waits follow the round trip and four times its variation (RFC 6298), up to this factor of the profile's. */
const PATIENCE_MAX = 3.25;
/**
 * A fast link whose round trip is above `RTT_PLAIN_MS` is measured again after these pauses, until two samples agree to
 * this share or it has been up for `UNSURE_MS`; samples of a node whose own timers are late count for neither, until
 * `UNSURE_MAX_MS`. When many links come up their ends are busy, and what a link seems to cost then, and each correction
 * of it later, would be told to the whole mesh.
 */
const REMEASURE_MS = [250, 500, 1_000, 2_000] as const;
const RTT_PLAIN_MS = 2;
const RTT_AGREEMENT = 0.1;
const UNSURE_MS = 30_000;
const UNSURE_MAX_MS = 300_000;
const LATE_MS = 5;
/**
 * After a timer this late, every wait is this much longer for a while: who is starved himself hears late, and on a machine
 * that many nodes share the others are starved, too (Lifeguard's local health, Dadgar, Phillips, Currey 2017).
 */
const STARVED_LATE_MS = 100;
const STARVED_FACTOR = 2;
const STARVED_FOR_MS = 10_000;
/** Probes whose late answers are still measured. */
const PROBES_HELD_MAX = 8;
/** The first probe of a link goes out early by up to this share: links that came up together must not be silent together. */
const FIRST_IDLE_SPREAD = 0.8;
/** Later ones of the initiator vary by this share, both ways. */
const IDLE_SPREAD = 0.005;
/** A link that was heard so recently is not checked on somebody's word, ms. */
const CHECK_FRESH_MS = 300;
const ASKED_FRESH_MS = 1_000;
/** What waits for a far end, in bytes, above which its probes are not answered: twice what fills a link. */
const UNREAD_BYTES_MAX = 2 ** 20;
/** Hellos on a living link: nodes say them anew when their store was damaged, and over datagrams until one is heard. */
const HELLOS = { burst: 16, perSecond: 1 };
const GOODPUT_WEIGHT = 1 / 8;
/** Shorter busy periods say more about buffers than about the link. */
const GOODPUT_SAMPLE_MIN_MS = 20;
/** Routing keeps bulk off links below this (route/cost.ts). */
const SLOW_BITS_PER_SECOND = 10_000;
const FORGIVE_MS = 60_000;
const FORGIVE_FACTOR = 1.25;

export interface LinkEvents {
  /** No answer to probes: close it. */
  dead(link: Link): void;
  /** The first of several probes was not answered in time. */
  quiet?(link: Link): void;
  /** `isDoubted` has changed. */
  doubt?(link: Link): void;
  /** A probe that was sent at `sentAtMs`, monotonic, was answered. */
  answered?(link: Link, sentAtMs: number): void;
  /** RTT or rate changed; not more often than once per probe reply or drain. */
  measured(link: Link): void;
}

export class Link {
  readonly session: Session;
  readonly hello: Hello;
  readonly upAtMs: number;
  /** Set when a better link over the same path exists: no longer used for sending, closed soon. */
  isRetiring = false;
  #probesSent = 0;
  #probesAnswered = 0;
  #isSilent = false;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #events: LinkEvents;
  readonly #profile: LivenessProfile | undefined;
  readonly #hellos: TokenBucket;
  #timer: Timer | undefined;
  #dueAtMs = 0;
  /** Silence after which the idle link is probed next, ms. */
  #idleMs = 0;
  #heardAtMs: number;
  #sentAtMs: number;
  #heardAtBytes = 0;
  #signedAtBytes = 0;
  #dataSentAtMs = Number.NEGATIVE_INFINITY;
  #misses = 0;
  #isDoubted = false;
  /** The far end said so, and has not answered since. */
  #isUnheard = false;
  /** Send times by nonce, oldest first: behind loss an answer comes after the next probe. */
  readonly #probes = new Map<number, number>();
  #rttMs: number | undefined;
  #rttVariationMs = 0;
  #probedAtMs = 0;
  #rttMinMs = Number.POSITIVE_INFINITY;
  #isMeasured = false;
  #remeasures = 0;
  #remeasureTimer: Timer | undefined;
  /** The timer behind the last probe was late: this node is busy itself. */
  #isBusy = false;
  #starvedAtMs = Number.NEGATIVE_INFINITY;
  /** How late timers were of late, ms. */
  #lateMs = 0;
  #rttMinBeforeMs = Number.POSITIVE_INFINITY;
  #rttWindowAtMs: number;
  #measuredAtMs: number;
  #rateBitsPerSecond: number;
  #busySinceMs: number | undefined;
  #busyBytes = 0;
  #sampledAtMs = Number.NEGATIVE_INFINITY;
  #isWritable = true;

  constructor(session: Session, hello: Hello, deps: { clock: Clock; random: Random; events: LinkEvents }) {
    this.session = session;
    this.hello = hello;
    this.#clock = deps.clock;
    this.#hellos = new TokenBucket(deps.clock, HELLOS.perSecond, HELLOS.burst);
    this.#random = deps.random;
    this.#events = deps.events;
    this.#profile = profiles[session.linkClass];
    this.#rateBitsPerSecond = session.rateBitsPerSecond;
    this.upAtMs = this.#clock.monotonicMs();
    this.#heardAtMs = this.#sentAtMs = this.#rttWindowAtMs = this.#measuredAtMs = this.upAtMs;
    if (this.#profile === undefined) return;
    this.#probeEarly();
    this.#schedule(this.#idleMs);
  }

  /** Smoothed round trip in ms; undefined before the first answer. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Those that were sent, and those of them that were answered in time to be measured. */
  get probeCounts(): { readonly sent: number; readonly answered: number } {
    return { sent: this.#probesSent, answered: this.#probesAnswered };
  }

  /** It was asked and has not answered as soon as it does; it may be alive all the same. */
  get isDoubted(): boolean {
    return this.#isDoubted;
  }

  /** It was given up because no probe was answered. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  /** Smallest round trip seen in the last minutes: the base without queues. */
  get rttMinMs(): number | undefined {
    const leastMs = Math.min(this.#rttMinMs, this.#rttMinBeforeMs);
    return Number.isFinite(leastMs) ? leastMs : undefined;
  }

  /** False while the few round trips seen so far may say more of a busy start than of the link. */
  get isMeasured(): boolean {
    return this.#isMeasured;
  }

  get rateBitsPerSecond(): number {
    return this.#rateBitsPerSecond;
  }

  get heardAtMs(): number {
    return this.#heardAtMs;
  }

  /** What is sent may wait for long before it leaves, as on a radio with a budget of airtime. */
  get isPaced(): boolean {
    return isPaced(this.session);
  }

  /** False after a send that filled the session, until it drained. */
  get isWritable(): boolean {
    return this.#isWritable;
  }

  /** Expected time to deliver 256 bytes, ms: picks the best of several links to one neighbour. */
  get expectedMs(): number {
    const { isCarried, answerMs } = this.session;
    const rttMs = this.rttMinMs ?? ((isCarried === true && answerMs) || 1);
    return 2_048_000 / this.#rateBitsPerSecond + rttMs / 2;
  }

  /** Sends a frame (borrowed); `isData` marks the link as in use, so that its death is noticed sooner. `departure` as in the session. */
  send(frame: Uint8Array, isData: boolean, departure?: Departure): void {
    this.#sentAtMs = this.#clock.monotonicMs();
    if (isData) this.#noteData(this.#sentAtMs);
    if (!this.session.send(frame, departure) && this.#isWritable) {
      this.#isWritable = false;
      this.#busySinceMs = this.#clock.monotonicMs();
      this.#busyBytes = this.#bytesGone;
    }
  }

  /** The session drained. */
  noteDrain(): void {
    this.#isWritable = true;
    if (this.#busySinceMs === undefined) return;
    const tookMs = this.#clock.monotonicMs() - this.#busySinceMs;
    const bits = (this.#bytesGone - this.#busyBytes) * 8;
    this.#busySinceMs = undefined;
    // How much of its rate a budget of airtime leaves says nothing about the link, and to tell of it would cost more of that.
    if (this.isPaced) return;
    if (tookMs < GOODPUT_SAMPLE_MIN_MS || bits <= 0) return;
    this.#sampledAtMs = this.#clock.monotonicMs();
    this.#rateBitsPerSecond += ((bits * 1_000) / tookMs - this.#rateBitsPerSecond) * GOODPUT_WEIGHT;
    this.#events.measured(this);
  }

  /** Any other frame arrived. Of a far end that hears nothing only an answer proves that it is still worth sending to. */
  noteHeard(): void {
    if (this.#isUnheard) return;
    this.#heardAtMs = this.#clock.monotonicMs();
    this.#misses = 0;
    if (this.#isDoubted) this.#doubt(false);
  }

  /** Bytes arrived, of a frame that may take seconds to be whole. */
  noteBytes(): void {
    if (this.#profile === undefined) return;
    const received = this.session.bytesReceived;
    if (this.session.isReliable && received - this.#heardAtBytes >= SIGN_BYTES_MIN) {
      this.#heardAtBytes = received;
      this.noteHeard();
    }
    if (received - this.#signedAtBytes < SIGN_BYTES_MIN) return;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sentAtMs < this.#profile.activeMs * SIGN_SHARE) return;
    this.#signedAtBytes = received;
    this.#sentAtMs = nowMs;
    this.session.send(encodeProbeReply(UNASKED));
    this.session.flush();
  }

  /** A probe arrived. Whoever does not read gets no answers to hold for it. */
  answerProbe(nonce: number): void {
    if (nonce !== UNASKED) this.noteHeard();
    if (this.session.bufferedBytes >= UNREAD_BYTES_MAX) return;
    this.#sentAtMs = this.#clock.monotonicMs();
    this.session.send(encodeProbeReply(nonce));
    if (nonce === UNASKED) this.#onUnheard();
  }

  /** What this node says is lost, although the far end is heard: in doubt until an answer shows that it is not. */
  #onUnheard(): void {
    if (this.#profile === undefined || this.#timer === undefined) return;
    this.#isUnheard = true;
    if (this.#misses > 0) return;
    this.#probe();
    this.#misses = 1;
    this.#doubt(true);
    this.#schedule(this.#waitMs(this.#profile.replyMs));
  }

  /** Of hellos behind the first: each may bring a record that is checked and kept. */
  mayHearHello(): boolean {
    return this.#hellos.take();
  }

  noteProbeReply(nonce: number): void {
    if (this.#isUnheard) {
      this.#isUnheard = false;
      this.noteHeard();
    }
    const sentAtMs = this.#probes.get(nonce);
    if (sentAtMs === undefined) return;
    this.#probes.delete(nonce);
    this.#probesAnswered++;
    this.#events.answered?.(this, sentAtMs);
    const sampleMs = this.#clock.monotonicMs() - sentAtMs;
    const isFirst = this.#rttMs === undefined;
    const offMs = Math.abs(sampleMs - (this.#rttMs ?? sampleMs / 2));
    this.#rttVariationMs = isFirst
      ? offMs
      : this.#rttVariationMs + (offMs - this.#rttVariationMs) * RTT_VARIATION_WEIGHT;
    this.#rttMs = this.#rttMs === undefined ? sampleMs : this.#rttMs + (sampleMs - this.#rttMs) * RTT_WEIGHT;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#rttWindowAtMs >= RTT_MIN_WINDOW_MS) {
      this.#rttMinBeforeMs = this.#rttMinMs;
      this.#rttMinMs = Number.POSITIVE_INFINITY;
      this.#rttWindowAtMs = nowMs;
    }
    this.#weigh(sampleMs);
    this.#rttMinMs = Math.min(this.#rttMinMs, sampleMs);
    this.#measuredAtMs = nowMs;
    this.#forgive();
    this.#events.measured(this);
  }

  /** Another node doubts that the far end lives: it is probed now, as if one probe had been missed. */
  check(): void {
    if (this.session.linkClass === "fast") this.#look(CHECK_FRESH_MS, 1);
  }

  /** Another link to the same node is gone: the same, over slower links as well, and however lately it was heard. */
  checkBeside(): void {
    this.#look(0, 1);
  }

  /** Somebody asks who is there, and a link that was silent for a second does not make him wait for its next probe. */
  askedFor(): void {
    if (this.session.linkClass === "fast") this.#look(ASKED_FRESH_MS, 0);
  }

  #look(freshMs: number, misses: number): void {
    if (this.#profile === undefined || this.#timer === undefined || this.#misses > 0) return;
    if (this.#clock.monotonicMs() - this.#heardAtMs < freshMs) return;
    this.#probe();
    this.#misses = misses + 1;
    this.#awaitDoubt();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#remeasureTimer?.cancel();
  }

  /** Is the smallest round trip, with this sample, good enough to be told to others? Else asks again soon. */
  #weigh(sampleMs: number): void {
    if (this.#isMeasured) return;
    const leastMs = Math.min(this.#rttMinMs, sampleMs);
    const agrees =
      Number.isFinite(this.#rttMinMs) && Math.max(this.#rttMinMs, sampleMs) <= leastMs * (1 + RTT_AGREEMENT);
    const upMs = this.#clock.monotonicMs() - this.upAtMs;
    const isTrusted = (!this.#isBusy && (agrees || upMs >= UNSURE_MS)) || upMs >= UNSURE_MAX_MS;
    if (this.session.linkClass !== "fast" || leastMs <= RTT_PLAIN_MS || isTrusted) {
      this.#isMeasured = true;
      return;
    }
    const pauseMs = REMEASURE_MS[this.#remeasures++];
    if (pauseMs === undefined) return;
    const dueAtMs = this.#clock.monotonicMs() + pauseMs;
    this.#remeasureTimer?.cancel();
    this.#remeasureTimer = this.#clock.after(pauseMs, () => {
      this.#isBusy = this.#clock.monotonicMs() - dueAtMs > LATE_MS;
      if (this.#misses === 0) this.#probeEarly();
    });
  }

  /** What has left this node: what the pipe still buffers was counted when it was written. */
  get #bytesGone(): number {
    return this.session.bytesSent - this.session.bufferedBytes;
  }

  /** A link that stalls measured as slow gets no bulk, so nothing would ever measure it again: it earns another try. */
  #forgive(): void {
    if (this.#rateBitsPerSecond >= SLOW_BITS_PER_SECOND) return;
    if (this.session.rateBitsPerSecond < SLOW_BITS_PER_SECOND) return;
    if (this.#clock.monotonicMs() - this.#sampledAtMs >= FORGIVE_MS)
      this.#rateBitsPerSecond *= FORGIVE_FACTOR;
  }

  #noteData(nowMs: number): void {
    const wasActive = nowMs - this.#dataSentAtMs < ACTIVE_WINDOW_MS;
    this.#dataSentAtMs = nowMs;
    if (!wasActive && this.#profile !== undefined && this.#misses === 0 && this.#timer !== undefined) {
      this.#schedule(this.#profile.activeMs);
    }
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    this.#dueAtMs = this.#clock.monotonicMs() + delayMs;
    this.#timer = this.#clock.after(delayMs, () => this.#onTimer());
  }

  #onTimer(): void {
    const profile = this.#profile!;
    const nowMs = this.#clock.monotonicMs();
    const isProbing = this.#misses > 0;
    this.#isBusy = nowMs - this.#dueAtMs > LATE_MS;
    if (nowMs - this.#dueAtMs > STARVED_LATE_MS) this.#starvedAtMs = nowMs;
    this.#lateMs = lateness(this.#lateMs, nowMs - this.#dueAtMs);
    // What was not heard in a wait that this node overslept proves nothing: the same wait begins anew, with a probe now.
    if (nowMs - this.#dueAtMs > LAG_VOID_MS && isProbing) this.#misses--;
    else if (isProbing && !this.#isDoubted) return this.#onDoubt();
    if (!isProbing) {
      const isActive = nowMs - this.#dataSentAtMs < ACTIVE_WINDOW_MS;
      const limitMs = isActive ? profile.activeMs : this.#idleLimitMs;
      const leftMs = limitMs - (nowMs - (isActive ? this.#heardAtMs : this.#idleSinceMs));
      // Less than a timer resolves is nothing left: rounding would set it again and again for the same moment.
      if (leftMs >= TIMER_RESOLUTION_MS) {
        if (isActive && nowMs - Math.max(this.#measuredAtMs, this.#probedAtMs) >= MEASURE_MS) this.#probe();
        return this.#schedule(leftMs);
      }
    } else if (this.#misses >= profile.missesBeforeSuspect + profile.suspectProbes) {
      this.#isSilent = true;
      return this.#events.dead(this);
    }
    if (this.#misses === 1) this.#events.quiet?.(this);
    this.#probe();
    this.#misses++;
    if (!this.#isDoubted) return this.#awaitDoubt();
    this.#schedule(
      this.#waitMs(this.#misses <= profile.missesBeforeSuspect ? profile.replyMs : profile.suspectReplyMs),
    );
  }

  /** The first wait of several has two parts: until the far end is in doubt, and is told so, and until the probe is missed. */
  #awaitDoubt(): void {
    this.#schedule(this.#waitMs(this.#profile!.doubtMs));
  }

  #onDoubt(): void {
    const { doubtMs, replyMs } = this.#profile!;
    this.session.send(encodeProbe(UNASKED));
    this.session.flush();
    this.#doubt(true);
    this.#schedule(this.#waitMs(replyMs) - this.#waitMs(doubtMs));
  }

  #doubt(isDoubted: boolean): void {
    this.#isDoubted = isDoubted;
    this.#events.doubt?.(this);
  }

  /** At least `leastMs`; longer where answers are known to take longer, so that loss and load are not taken for death. */
  #waitMs(leastMs: number): number {
    const expectedMs = (this.#rttMs ?? 0) + 4 * this.#rttVariationMs;
    const waitMs = Math.min(Math.max(leastMs, expectedMs), leastMs * PATIENCE_MAX);
    const isStarved = this.#clock.monotonicMs() - this.#starvedAtMs < STARVED_FOR_MS;
    return isStarved ? waitMs * STARVED_FACTOR : waitMs;
  }

  /**
   * The end that dialled probes an idle link at times of its own, whatever it heard: news that go to everybody must not
   * make all links of a mesh silent together, since a node that freezes is found by the first of its links to be probed.
   */
  get #idleSinceMs(): number {
    return this.session.direction === "outbound" ? this.#probedAtMs : this.#heardAtMs;
  }

  /** Silence after which it is probed now. */
  get #idleLimitMs(): number {
    if (this.session.linkClass !== "fast") return this.#idleMs;
    const doubtMs = this.#waitMs(this.#profile!.doubtMs);
    return Math.min(this.#idleMs, silenceMaxMs({ doubtMs, rttMs: this.#rttMs ?? 0, lateMs: this.#lateMs }));
  }

  #nextIdleMs(): number {
    const { idleMs } = this.#profile!;
    if (this.session.direction === "inbound") return idleMs * (1 + IDLE_SPREAD) + RESPONDER_EXTRA_MS;
    return idleMs * (1 + IDLE_SPREAD * (2 * this.#random.float() - 1));
  }

  /** The next probe of the idle link comes early, by chance. The timer stays: data that went out may have set it. */
  #probeEarly(): void {
    this.#probe();
    this.#idleMs *= 1 - FIRST_IDLE_SPREAD * this.#random.float();
  }

  #probe(): void {
    const nonce = UNASKED + 1 + this.#random.below(2 ** 32 - 1);
    if (this.#probes.size >= PROBES_HELD_MAX)
      for (const oldest of this.#probes.keys()) {
        this.#probes.delete(oldest);
        break;
      }
    this.#probedAtMs = this.#sentAtMs = this.#clock.monotonicMs();
    this.#probes.set(nonce, this.#probedAtMs);
    this.#probesSent++;
    this.#idleMs = this.#nextIdleMs();
    this.session.send(encodeProbe(nonce));
    this.session.flush();
  }
}
