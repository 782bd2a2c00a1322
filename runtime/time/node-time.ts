/**
 * The one place that decides whether something is over. Owns the durable running time, what is known of the wall clock, and the two
 * rules: what grants ends at the earlier of both clocks, what promises or protects at the later. Nothing else in runtime/ compares a
 * wall time with a stored one. Must never count running time backwards, nor believe a wall clock because it stands somewhere.
 * docs/time.md.
 */
import type { Clock, Log } from "@godwit/sdk";
import { isoTime, PLAUSIBLE_WALL_MS } from "../kernel/clock.ts";
import { LIFETIME_MAX_MS } from "../wire/constants.ts";
import { CLOCK_TOLERANCE_MS, hearVoices, type Voice } from "./voices.ts";

/** How often the clock is looked at, ms. */
export const TIME_CHECK_MS = 60_000;
/** How often running time is written, and how much of it a crash may lose at most, ms. */
export const TIME_SAVE_MS = 600_000;
/** What is dated further ahead of the running time than crashes can explain says nothing. */
const CATCH_UP_MAX_MS = 2 * TIME_SAVE_MS;
/** A clock that is further ahead at a start of where it was known to stand is in doubt. No mail lives longer than that. */
const AHEAD_MAX_MS = LIFETIME_MAX_MS;
/** After so much running time a doubted clock that nobody spoke against counts as what it is. */
const DOUBT_COVERED_MS = LIFETIME_MAX_MS;
/** Times off that are remembered; the oldest go first, and mail then lives longer. */
const ABSENCES_MAX = 256;
const ABSENCE_MIN_MS = 1_000;

/** `coveredMs` is never less. */
export const COVERED_FROM_MS = PLAUSIBLE_WALL_MS;

/** What both clocks said at one moment. */
export interface Moment {
  /** Running time of this node in all its lives, ms. */
  readonly runMs: number;
  /** Ms since 1970. */
  readonly wallMs: number;
}

/** One at which the clock was confirmed. */
export interface ConfirmedMoment extends Moment {
  /** A time source said the very time; neighbours only that it is right within their tolerance. */
  readonly isExact?: boolean;
}

/** When something ends, by either clock. A wall time before 2026 was read from a clock that was not set, and says nothing. */
export type End = Moment;

/** Confirmed time off: whatever was there before `runMs` lived through it. */
interface Absence {
  readonly runMs: number;
  readonly offMs: number;
}

/** JSON of the row; readers skip fields they do not know. */
export interface KeptTime {
  readonly runMs: number;
  /** The last moment at which the wall clock was confirmed. */
  readonly confirmed?: ConfirmedMoment | undefined;
  /** A later one at which nothing spoke against it. */
  readonly noted?: Moment | undefined;
  readonly absences?: readonly Absence[];
}

/**
 * `confirmed`: a time source or neighbours agree with it. `unconfirmed`: nothing speaks for it, nothing against it. `doubted`: it
 * cannot be right, or was not where it stood before.
 */
export type ClockState = "confirmed" | "unconfirmed" | "doubted";

export interface ClockView {
  readonly state: ClockState;
  /** In words, with what to do. */
  readonly reason: string;
}

export interface NodeTimeOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Of earlier lives; undefined: the first one. */
  readonly kept: KeptTime | undefined;
  /** Makes it durable. */
  save(kept: KeptTime): Promise<void>;
  /** The machine's time as somebody vouches for it, ms since 1970; undefined: nobody does. */
  vouched(): number | undefined;
}

const HELD = "mail and blocks end by running time alone meanwhile";

export class NodeTime {
  readonly #options: NodeTimeOptions;
  readonly #startMonotonicMs: number;
  #runBeforeMs: number;
  #confirmed: ConfirmedMoment | undefined;
  #noted: Moment | undefined;
  #absences: readonly Absence[];
  #view: ClockView = { state: "unconfirmed", reason: "not looked at yet" };
  #doubtedSinceRunMs: number | undefined;
  /** From then on running time measures how far the wall clock may have come. */
  #hasLooked = false;
  #savedRunMs: number;
  /** Told after confirmed time off was added: ends have come nearer. Set by whoever keeps mail. */
  onPassed: () => void = () => {};
  /** Neighbours that have a say, as of now. Set by whoever links to them. */
  voices: () => Iterable<Voice> = () => [];
  /** The clock is worth more or less than before. */
  onChange: (view: ClockView) => void = () => {};

  constructor(options: NodeTimeOptions) {
    this.#options = options;
    const { kept, clock } = options;
    this.#startMonotonicMs = clock.monotonicMs();
    this.#runBeforeMs = kept?.runMs ?? 0;
    this.#savedRunMs = this.#runBeforeMs;
    this.#confirmed = kept?.confirmed;
    this.#noted = kept?.noted;
    this.#absences = kept?.absences ?? [];
    this.check();
    this.#hasLooked = true;
  }

  get wallMs(): number {
    return this.#options.clock.wallMs();
  }

  /**
   * Running time in all lives, ms. Never less than before, but for what a crash loses (`TIME_SAVE_MS`) and no mail shows (`catchUp`).
   */
  get runMs(): number {
    return this.#runBeforeMs + this.#options.clock.monotonicMs() - this.#startMonotonicMs;
  }

  /**
   * Something was dated at `runMs` in an earlier life: so much time ran, whatever a crash lost of it. Else what comes after the crash
   * would count as older than what came before.
   */
  catchUp(runMs: number): void {
    const lostMs = runMs - this.runMs;
    if (!(lostMs > 0 && lostMs <= CATCH_UP_MAX_MS)) return;
    this.#runBeforeMs += lostMs;
    const { kept } = this.#options;
    const caughtUp = <T extends Moment>(moment: T): T => ({ ...moment, runMs: moment.runMs + lostMs });
    if (this.#confirmed !== undefined && this.#confirmed !== kept?.confirmed)
      this.#confirmed = caughtUp(this.#confirmed);
    if (this.#noted !== undefined && this.#noted !== kept?.noted) this.#noted = caughtUp(this.#noted);
    if (this.#doubtedSinceRunMs !== undefined) this.#doubtedSinceRunMs += lostMs;
    // What this start took for time off was in part the time that was lost.
    const [last] = this.#absences.slice(-1);
    if (last !== undefined && !(kept?.absences ?? []).includes(last))
      this.#absences = [
        ...this.#absences.slice(0, -1),
        { runMs: last.runMs, offMs: Math.max(0, last.offMs - lostMs) },
      ];
    void this.save(true);
  }

  get view(): ClockView {
    return this.#view;
  }

  get isConfirmed(): boolean {
    return this.#view.state === "confirmed";
  }

  /** Looks at the wall clock, and answers whether it can judge what others dated. */
  canJudge(): boolean {
    this.check();
    return this.#view.state !== "doubted";
  }

  /** Until a moment that the wall clock shows, ms; negative when it was passed. For what `canJudge` allows, and for timers. */
  leftMs(wallMs: number): number {
    return wallMs - this.wallMs;
  }

  /** What neighbours are told: never a time that they could only say back to us. */
  get toldMs(): number | undefined {
    return this.isConfirmed ? this.wallMs : undefined;
  }

  /** The end of what begins now and lasts `forMs`. */
  end(forMs: number): End {
    return { runMs: this.runMs + forMs, wallMs: this.wallMs + forMs };
  }

  /**
   * For what opens something: over as soon as either clock says so. A wall clock that was set back does not count: it is at least
   * as late as when it was confirmed, and the running time since.
   */
  isGrantOver({ runMs, wallMs }: End): boolean {
    if (this.runMs >= runMs) return true;
    return isSet(wallMs) && Math.max(this.wallMs, this.#wallAtLeastMs) >= wallMs;
  }

  /** For what protects: over when both clocks say so. A clock that is not set has no say. */
  isPromiseOver({ runMs, wallMs }: End): boolean {
    if (this.runMs < runMs) return false;
    return !isSet(wallMs) || !isSet(this.wallMs) || this.wallMs >= wallMs;
  }

  /** When that will be, as the wall clock will show it if it goes on as it is; for display. */
  promiseEndsAtMs({ runMs, wallMs }: End): number {
    const coveredAtMs = this.wallMs + runMs - this.runMs;
    return isSet(wallMs) && isSet(this.wallMs) ? Math.max(wallMs, coveredAtMs) : coveredAtMs;
  }

  /**
   * How much of its life mail used up since `sinceRunMs`: running time, and the time off that a confirmed clock measured. Undefined:
   * it was dated by a release that knew no running time, and is as young as this moment.
   */
  ageMs(sinceRunMs: number | undefined): number {
    const { runMs } = this;
    // Later than now: a crash lost some running time.
    const since = Math.min(sinceRunMs ?? runMs, runMs);
    let ageMs = runMs - since;
    for (const absence of this.#absences) if (absence.runMs > since) ageMs += absence.offMs;
    return ageMs;
  }

  /** Running time as if it were a wall time from 2026 on: for what is dated in hours and must outlast any wrong clock. */
  get coveredMs(): number {
    return COVERED_FROM_MS + this.runMs;
  }

  /** Looks at the wall clock again, and hears what neighbours say. */
  check(): void {
    const now: Moment = { runMs: this.runMs, wallMs: this.wallMs };
    if (!isSet(now.wallMs))
      return this.#become("doubted", `it stands at ${isoTime(now.wallMs)}, before this program was made`);
    const vouchedMs = this.#options.vouched();
    const isVouched = vouchedMs !== undefined && Math.abs(vouchedMs - now.wallMs) <= CLOCK_TOLERANCE_MS;
    const verdict = hearVoices(now.wallMs, this.voices());
    if (verdict === "deny") return this.#become("doubted", "neighbours that have a say name another time");
    if (isVouched)
      return this.#confirm(
        { runMs: now.runMs, wallMs: vouchedMs, isExact: true },
        "its time source vouches for it",
      );
    if (verdict === "agree") return this.#confirm(now, "neighbours agree with it");
    if (vouchedMs !== undefined)
      return this.#become("doubted", `the machine's time source says ${isoTime(vouchedMs)}`);
    if (this.isConfirmed && Math.abs(this.#aheadMs) <= CLOCK_TOLERANCE_MS) {
      this.#confirmed = this.#extrapolated(now);
      return;
    }
    this.#judgeAlone(now);
  }

  /**
   * Writes what a later life must know, unless little came since (with `isNow` in any case): at most half of a life is lost in a crash, so
   * that a node which crashes again and again grows older all the same. Never rejects.
   */
  async save(isNow = false): Promise<void> {
    if (isNow) this.check();
    const { runMs } = this;
    const unsavedMs = runMs - this.#savedRunMs;
    if (!isNow && unsavedMs < TIME_SAVE_MS && unsavedMs < (runMs - this.#runBeforeMs) / 2) return;
    this.#savedRunMs = runMs;
    const kept: KeptTime = {
      runMs: Math.floor(runMs),
      confirmed: this.#confirmed,
      noted: this.#noted,
      absences: this.#absences,
    };
    try {
      await this.#options.save(kept);
    } catch (error) {
      this.#options.log.warn("running time not saved", { error: String(error) });
    }
  }

  /** The last moment that says where the wall clock ought to stand. */
  get #reference(): Moment | undefined {
    return this.#noted ?? this.#confirmed;
  }

  /** How far the wall clock is ahead of the reference and the running time since; 0 without one. */
  get #aheadMs(): number {
    const reference = this.#reference;
    return reference === undefined ? 0 : this.wallMs - reference.wallMs - (this.runMs - reference.runMs);
  }

  get #wallAtLeastMs(): number {
    if (this.#confirmed === undefined) return Number.NEGATIVE_INFINITY;
    return this.#confirmed.wallMs + this.runMs - this.#confirmed.runMs;
  }

  /** Nobody confirms it any more, and it goes on as it should: an exact time is still known, by the running time since. */
  #extrapolated(now: Moment): ConfirmedMoment {
    const { isExact, runMs, wallMs } = this.#confirmed!;
    return isExact === true ? { runMs: now.runMs, wallMs: wallMs + now.runMs - runMs, isExact } : now;
  }

  #judgeAlone(now: Moment): void {
    const aheadMs = this.#aheadMs;
    const isDoubted =
      aheadMs < -CLOCK_TOLERANCE_MS || aheadMs > (this.#hasLooked ? CLOCK_TOLERANCE_MS : AHEAD_MAX_MS);
    const isCovered =
      this.#doubtedSinceRunMs !== undefined && now.runMs - this.#doubtedSinceRunMs > DOUBT_COVERED_MS;
    if (isDoubted && !isCovered) {
      const { runMs, wallMs } = this.#reference!;
      const expected = isoTime(wallMs + now.runMs - runMs);
      return this.#become(
        "doubted",
        `it stands at ${isoTime(now.wallMs)} and ought to stand ${aheadMs < 0 ? "after" : "near"} ${expected}`,
      );
    }
    this.#noted = now;
    this.#become("unconfirmed", `no time source and no neighbour has confirmed it; ${HELD}`);
  }

  #confirm(now: ConfirmedMoment, by: string): void {
    const before = this.#confirmed;
    const wasConfirmed = this.isConfirmed && Math.abs(this.#aheadMs) <= CLOCK_TOLERANCE_MS;
    this.#confirmed = now;
    this.#noted = undefined;
    this.#become("confirmed", by);
    if (wasConfirmed) return;
    const offMs =
      before === undefined
        ? 0
        : now.wallMs - before.wallMs - (now.runMs - before.runMs) - doubtOf(before) - doubtOf(now);
    if (before !== undefined && offMs >= ABSENCE_MIN_MS) {
      this.#absences = [...this.#absences, { runMs: before.runMs, offMs }].slice(-ABSENCES_MAX);
      this.onPassed();
    }
    void this.save(true);
  }

  #become(state: ClockState, why: string): void {
    const before = this.#view.state;
    const advice = `set it right, or let a time service do it; if it is right, say node.clock = "trusted"; ${HELD}`;
    const reason = state === "doubted" ? `${why}: ${advice}` : why;
    this.#view = { state, reason };
    if (state !== "doubted") this.#doubtedSinceRunMs = undefined;
    else this.#doubtedSinceRunMs ??= this.runMs;
    if (before === state) return;
    const { log } = this.#options;
    if (state === "doubted") log.warn("clock in doubt", { reason: why, advice });
    else log.info("clock", { state, reason: why });
    this.onChange(this.#view);
  }
}

/** By this much the time off may be shorter than it looks: mail lives longer by that, never shorter. */
const doubtOf = ({ isExact }: ConfirmedMoment): number => (isExact === true ? 0 : CLOCK_TOLERANCE_MS);

const isSet = (wallMs: number): boolean => wallMs >= PLAUSIBLE_WALL_MS;
