/**
 * Which nodes are asked for on demand: for mail of this node's own and for neighbours, by whom and of whom. Bounded; what others ask gives
 * way to what this node's mail needs. Sends nothing. docs/protocol/slow.md "Paths on demand"
 */
import type { NodeId } from "../kernel/ids.ts";
import { PATH_MEMORY_MS, PATH_QUESTIONS_MAX, PATH_QUESTIONS_PER_NEIGHBOUR_MAX } from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";

/** A slow neighbour that waits for an answer. */
export interface Asker {
  readonly number: number;
  readonly needsSeqno: number | undefined;
  readonly holdsSeqno: number | undefined;
}

/** Mail here waits for it. */
export interface OwnWish {
  tries: number;
  nextAtMs: number;
  /** Since when it is looked for whether mail waits still; undefined: it does. */
  lookedForAtMs: number | undefined;
  /** There was nobody to ask. */
  isIdle: boolean;
}

export interface Question {
  readonly id: NodeId;
  own: OwnWish | undefined;
  readonly askers: Map<Neighbour, Asker>;
  /** Questions that have left and were not answered; one a neighbour, the last. */
  readonly asked: Map<Neighbour, { readonly number: number; readonly leftAtMs: number }>;
  /** How it was asked on last. `needsSeqno` 0: for any. */
  passedOn: { readonly atMs: number; readonly needsSeqno: number; readonly hopsLeft: number };
  renewedAtMs: number;
  /** A newer number than a neighbour offered was asked for; -1: never. */
  askedNewerSeqno: number;
  touchedAtMs: number;
}

export class PathQuestions {
  readonly #byId = new Map<NodeId, Question>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Something will be due. */
  get isBusy(): boolean {
    for (const { own } of this.#byId.values()) if (own?.isIdle !== true) return true;
    return false;
  }

  get(id: NodeId): Question | undefined {
    return this.#byId.get(id);
  }

  /** Undefined: all places are taken by what does not give way. */
  open(id: NodeId, isOwn: boolean): Question | undefined {
    const held = this.#byId.get(id);
    if (held !== undefined) return held;
    if (this.#byId.size >= PATH_QUESTIONS_MAX && !this.#makeRoom(isOwn)) return undefined;
    const question: Question = {
      id,
      own: undefined,
      askers: new Map(),
      asked: new Map(),
      passedOn: { atMs: Number.NEGATIVE_INFINITY, needsSeqno: 0, hopsLeft: 0 },
      renewedAtMs: Number.NEGATIVE_INFINITY,
      askedNewerSeqno: -1,
      touchedAtMs: this.#now(),
    };
    this.#byId.set(id, question);
    return question;
  }

  /** The oldest of others; for what is this node's own also the oldest that there is nobody to ask for. */
  #makeRoom(isOwn: boolean): boolean {
    if (!isOwn) return false;
    for (const [id, { own }] of this.#byId) if (own === undefined || own.isIdle) return this.#byId.delete(id);
    return false;
  }

  /** Whether one more of the neighbour finds a place. */
  mayAsk(from: Neighbour, id: NodeId): boolean {
    if (this.#byId.get(id)?.askers.has(from) === true) return true;
    let count = 0;
    for (const { askers } of this.#byId.values()) if (askers.has(from)) count++;
    return count < PATH_QUESTIONS_PER_NEIGHBOUR_MAX;
  }

  *idle(): Generator<Question> {
    for (const question of this.#byId.values()) if (question.own?.isIdle === true) yield question;
  }

  /** Mail waits, or did, and it is time to ask. */
  *due(): Generator<Question> {
    const nowMs = this.#now();
    for (const question of this.#byId.values()) {
      const { own } = question;
      if (own !== undefined && !own.isIdle && own.nextAtMs <= nowMs) yield question;
    }
  }

  /** What nobody waits for any more goes. */
  sweep(): void {
    const beforeMs = this.#now() - PATH_MEMORY_MS;
    for (const [id, question] of this.#byId) {
      for (const [of, { leftAtMs }] of question.asked) if (leftAtMs < beforeMs) question.asked.delete(of);
      if (question.touchedAtMs >= beforeMs) continue;
      question.askers.clear();
      if (question.own === undefined) this.#byId.delete(id);
    }
  }

  forgetNeighbour(neighbour: Neighbour): void {
    for (const { askers, asked } of this.#byId.values()) {
      askers.delete(neighbour);
      asked.delete(neighbour);
    }
  }
}
