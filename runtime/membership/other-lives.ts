/**
 * What a node hears of its own identity from elsewhere: numbers signed with its key that are above all it said in this run. Once, and
 * its store is older than the mesh remembers; answered again and again, and another machine runs under the identity now. Decides
 * from which boot epoch this node goes on, and which of two machines stands down. Owns no link and no store.
 * docs/protocol/membership.md "One identity on two machines".
 */
import type { Clock, Random, Timer } from "@godwit/sdk";

/** 24 bits on the wire, an identity's life. */
const EPOCH_MAX = 2 ** 24 - 1;
/** Words that are further apart have nothing to do with each other, ms. */
const WINDOW_MS = 600_000;
/**
 * The second answer within the window goes this far: nothing that an earlier run said is above it, as long as the copy of
 * the store is not this many starts old; so whoever answers above it has heard it, and lives.
 */
const LEAP = 64;
/**
 * The same for the first answer of one that comes back: what the other machine said last differs a little from place to place, and none
 * of that is an answer. Drawn, because another copy may have come back before this one.
 */
const LOOK_LEAP = { least: 16, span: 16 };
/** Words in one window that the one who goes on answers; behind that it is the other's turn. */
const ANSWERS_MAX = 8;
/** A word that is answered by silence was of the past, ms. */
const QUIET_MS = 15_000;
/** Before it looks whether the other one is still there, ms. Each look costs some 25 epochs: 24 bits last for twenty years of looks. */
const STAND_DOWN_MS = 900_000;

/**
 * `alone`: nobody else was heard. `behind`: the store is older than what the mesh remembers. `doubled`: another machine runs under the identity
 * and this one goes on. `standing-down`: the other one goes on. `returning`: it did, and this one looks whether it still does.
 */
export type Life = "alone" | "behind" | "doubled" | "standing-down" | "returning";

/**
 * Without a word for so long it is alone, ms. Whoever goes on remembers that there are two for longer than the other one takes to come back. One
 * that came back takes no mail into its inbox meanwhile, and is answered within seconds if it is not alone.
 */
const SETTLE_MS: Readonly<Record<Life, number>> = {
  alone: WINDOW_MS,
  behind: QUIET_MS,
  doubled: 3_600_000,
  "standing-down": WINDOW_MS,
  returning: 20_000,
};

export interface OtherLivesDeps {
  readonly clock: Clock;
  readonly random: Random;
  /** The epoch of this start. */
  readonly bootEpoch: number;
  /** The last run stood down: the other machine may still be there. */
  readonly stoodDown: boolean;
  /** Everything this node says from now on is of this epoch. */
  raised(epoch: number): void;
  /** It stands down as soon as this is told, and returns when it is told again. `since`: what it was before. */
  changed(life: Life, since: Life): void;
}

export class OtherLives {
  readonly #deps: OtherLivesDeps;
  readonly #words: number[] = [];
  /** When silence proved last that the words so far were of the past. */
  #forgivenAtMs = Number.NEGATIVE_INFINITY;
  #epoch: number;
  #life: Life;
  #timer: Timer | undefined;
  #returnsAtMs = 0;

  constructor(deps: OtherLivesDeps) {
    this.#deps = deps;
    this.#epoch = deps.bootEpoch;
    this.#life = deps.stoodDown ? "returning" : "alone";
    if (deps.stoodDown) this.#settleLater();
  }

  get life(): Life {
    return this.#life;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** It is not known yet which of two machines goes on, or whether there are two. */
  get isContested(): boolean {
    return this.#life !== "alone" && this.#life !== "doubled";
  }

  /** Until it looks again whether the other one is still there, ms; 0 when it does not stand down. */
  get returnsInMs(): number {
    return this.#life === "standing-down"
      ? Math.max(0, this.#returnsAtMs - this.#deps.clock.monotonicMs())
      : 0;
  }

  /**
   * Somebody holds a word of `epoch` that this node's key signed, above what this run said. Answers the epoch to go on from, which is
   * greater than `epoch` but at the end of an identity's life; undefined: say nothing, the other one goes on.
   */
  outrun(epoch: number): number | undefined {
    if (this.#life === "standing-down") return undefined;
    // Outrun already; another part of the node had not said so yet.
    if (epoch < this.#epoch) return this.#epoch;
    const nowMs = this.#deps.clock.monotonicMs();
    while (this.#words.length > 0 && nowMs - this.#words[0]! >= WINDOW_MS) this.#words.shift();
    this.#words.push(nowMs);
    const count = this.#words.length;
    if (count > this.#answersMax) {
      this.#standDown();
      return undefined;
    }
    // It has outrun by far what this run had said in answer to the first word.
    const isAnswered = count > 1 && epoch - this.#epoch >= LEAP;
    const leap =
      this.#life === "returning"
        ? LOOK_LEAP.least + this.#deps.random.below(LOOK_LEAP.span)
        : count === 2
          ? LEAP
          : 0;
    this.#epoch = Math.min(EPOCH_MAX, epoch + 1 + leap);
    this.#deps.raised(this.#epoch);
    if (isAnswered) this.#become("doubled");
    else if (this.#life === "alone") this.#become("behind");
    this.#settleLater();
    return this.#epoch;
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** A node that comes back yields at the first answer to its own; one that knows itself to be heard goes on. */
  get #answersMax(): number {
    if (this.#life === "returning") return 1;
    return this.#life === "doubled" ? ANSWERS_MAX : 2;
  }

  #standDown(): void {
    this.#returnsAtMs = this.#deps.clock.monotonicMs() + STAND_DOWN_MS;
    this.#become("standing-down");
    this.#wait(STAND_DOWN_MS, () => {
      this.#become("returning");
      this.#settleLater();
    });
  }

  #settleLater(): void {
    this.#wait(SETTLE_MS[this.#life], () => {
      if (this.#life === "behind") this.#forgive();
      this.#become("alone");
    });
  }

  /**
   * What an old copy was told of its past is no word of another machine: else the next one that starts would find this one at its last
   * answer, which then stands down before the other has heard of it. Once a window, for a machine behind a slow link is silent for long.
   */
  #forgive(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - this.#forgivenAtMs < WINDOW_MS) return;
    this.#forgivenAtMs = nowMs;
    this.#words.length = 0;
  }

  #wait(delayMs: number, fn: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.#deps.clock.after(delayMs, fn);
  }

  #become(life: Life): void {
    const since = this.#life;
    if (life === since) return;
    this.#life = life;
    this.#deps.changed(life, since);
  }
}
