/**
 * Paths on demand: mail for a node that nothing leads to has a question for that one node asked over slow links, and the answer comes back
 * hop by hop, as an advertisement like any other: under the feasibility condition, with the originator's own proof, and for a limited life. Fast
 * neighbours are asked only where slow links lie behind them, and answer by their tables. Must never ask what no mail needs, take an answer
 * that was not asked for, or keep more than its tables hold. docs/protocol/slow.md "Paths on demand"
 */
import type { Timer } from "@godwit/sdk";

import { TokenBucket } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";
import { BottleneckClass } from "../wire/constants.ts";
import {
  decodePathAnswer,
  decodePathGone,
  decodePathQuestion,
  encodePathAnswer,
  encodePathGone,
  encodePathQuestion,
  PATH_LIFE_UNIT_MS,
} from "../wire/path-messages.ts";
import { METRIC_INFINITE, SEQNO_MAX, UNREACHABLE } from "../wire/route-messages.ts";
import { NO_ROW } from "./candidates.ts";
import type { RouteCore } from "./core.ts";
import * as bound from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Origin } from "./origin.ts";
import { PathLives } from "./path-lives.ts";
import { PathQuestions, type Asker, type Question } from "./path-questions.ts";
import { PathSends } from "./path-sends.ts";
import type { UpdateReceiver } from "./receive.ts";
import type { SeqnoRequests } from "./requests.ts";
import type { SlowLinks } from "./slow.ts";
import type { Destination } from "./table.ts";
import type { UpdateSender } from "./updates.ts";

interface Parts {
  readonly origin: Origin;
  readonly receiver: UpdateReceiver;
  readonly requests: SeqnoRequests;
  readonly slow: SlowLinks;
  readonly updates: UpdateSender;
}

export class Paths {
  readonly #core: RouteCore;
  readonly #parts: Parts;
  readonly #questions: PathQuestions;
  readonly #lives: PathLives;
  readonly #sends: PathSends;
  /** What is said of them has changed: somebody may have to be answered, or told that it is gone. */
  readonly #changed = new Set<Destination>();
  readonly #heard = new WeakMap<Neighbour, TokenBucket>();
  readonly #ownPace: TokenBucket;
  readonly #onPace: TokenBucket;
  #number = 0;
  #timer: Timer | undefined;

  constructor(core: RouteCore, parts: Parts) {
    this.#core = core;
    this.#parts = parts;
    const { clock } = core.deps;
    this.#questions = new PathQuestions(() => core.now());
    this.#lives = new PathLives(core);
    this.#sends = new PathSends(core, (to, bytes, need, by) => parts.slow.takeAirtime(to, bytes, need, by));
    this.#ownPace = new TokenBucket(clock, bound.PATH_OWN_PER_SECOND, bound.PATH_OWN_BURST);
    this.#onPace = new TokenBucket(clock, bound.PATH_ON_PER_SECOND, bound.PATH_ON_BURST);
    core.watchers.push((destination) => this.#watch(destination));
  }

  /** Mail waits for a way to the node; `isHeard`: on a channel, where a link of its own is what comes first. */
  want(id: NodeId, isHeard: boolean): void {
    if (id === this.#core.self.id) return;
    const question = this.#questions.open(id, true);
    if (question === undefined) return;
    question.touchedAtMs = this.#core.now();
    if (question.own === undefined) {
      question.own = {
        tries: 0,
        nextAtMs: this.#firstAtMs(isHeard),
        lookedForAtMs: undefined,
        isIdle: false,
      };
      this.#arm();
    } else if (!question.own.isIdle && question.own.nextAtMs <= this.#core.now()) this.#askOwn(question);
  }

  /** Mail was handed to the neighbour for the destination: a path that ends soon is asked for anew. */
  use(id: NodeId, neighbourId: NodeId): void {
    const destination = this.#core.table.get(id);
    const neighbour = this.#core.neighbours.get(neighbourId);
    if (destination === undefined || neighbour === undefined) return;
    const endMs = this.#lives.endOf(destination, neighbour);
    const nowMs = this.#core.now();
    if (endMs === undefined || endMs - nowMs > bound.PATH_RENEW_MS) return;
    const question = this.#questions.open(id, true);
    if (question === undefined || nowMs - question.renewedAtMs < bound.PATH_PAUSE_MS) return;
    question.renewedAtMs = question.touchedAtMs = nowMs;
    this.#ask(question, neighbour, undefined, bound.PATH_HOPS);
  }

  /** An answer of this node may still count somewhere: its feasibility distance stays. */
  holds(destination: Destination): boolean {
    return this.#lives.holds(destination);
  }

  handleQuestion(from: Neighbour, frame: Uint8Array): void {
    const { destination: id, number, hopsLeft, needsSeqno, holdsSeqno } = decodePathQuestion(frame);
    if (!this.#mayHear(from)) return this.#core.drop("pace");
    const isSelf = id === this.#core.self.id;
    // Fast neighbours are told by the table.
    if (isSelf && from.hasTable) return;
    if (!from.hasTable && !this.#questions.mayAsk(from, id)) return this.#core.drop("table-full");
    const question = this.#questions.open(id, false);
    if (question === undefined) return this.#core.drop("table-full");
    question.touchedAtMs = this.#core.now();
    if (!from.hasTable) question.askers.set(from, { number, needsSeqno, holdsSeqno });
    this.#arm();
    if (isSelf && needsSeqno !== undefined) this.#parts.origin.request(needsSeqno, from);
    if (this.#isAnswered(question, from, needsSeqno) || hopsLeft <= 1) return;
    this.#passOn(question, from, needsSeqno, Math.min(hopsLeft, bound.PATH_HOPS) - 1);
  }

  #mayHear(from: Neighbour): boolean {
    let pace = this.#heard.get(from);
    if (pace === undefined) {
      pace = new TokenBucket(this.#core.deps.clock, bound.PATH_HEARD_PER_SECOND, bound.PATH_HEARD_BURST);
      this.#heard.set(from, pace);
    }
    return pace.take();
  }

  /** By what is known here; a fast neighbour is, where there is a route. */
  #isAnswered(question: Question, from: Neighbour, needsSeqno: number | undefined): boolean {
    const destination = this.#core.table.get(question.id);
    if (destination === undefined) return false;
    const asker = question.askers.get(from);
    if (asker !== undefined) return this.#answer(question, destination, from, asker);
    const { metric, seqno } = destination.any.selected;
    return metric < METRIC_INFINITE && seqno >= (needsSeqno ?? 0);
  }

  /**
   * Once in a while whoever asks: an answer serves all who have. One that more can answer, or that may go further, is another question: nobody's
   * stands before it that has no answer.
   */
  #passOn(question: Question, from: Neighbour, needsSeqno: number | undefined, hopsLeft: number): void {
    const nowMs = this.#core.now();
    const { passedOn } = question;
    const isCovered = passedOn.needsSeqno <= (needsSeqno ?? 0) && passedOn.hopsLeft >= hopsLeft;
    if (isCovered && nowMs - passedOn.atMs < bound.PATH_ON_GAP_MS) return;
    const turn = this.#core.deps.random.below(bound.PATH_QUESTIONS_MAX);
    const targets = this.#targets(question.id, from, bound.PATH_ASKED_ON, turn);
    if (targets.length === 0) return;
    if (!this.#onPace.take()) return this.#core.drop("pace");
    question.passedOn = { atMs: nowMs, needsSeqno: needsSeqno ?? 0, hopsLeft };
    for (const target of targets) this.#ask(question, target, needsSeqno, hopsLeft, from.id);
  }

  handleAnswer(from: Neighbour, frame: Uint8Array): void {
    const { number, lifeMs, destination: id, route, proof } = decodePathAnswer(frame);
    const question = this.#questions.get(id);
    const asked = question?.asked.get(from);
    if (question === undefined || asked?.number !== number) return this.#core.drop("path-unasked");
    question.asked.delete(from);
    // From when it was asked for: whoever answered counts from later on, however long the answer was under way.
    const endMs = asked.leftAtMs + Math.min(lifeMs, bound.PATH_LIFE_MS);
    if (endMs <= this.#core.now()) return this.#core.drop("stale");
    const destination = this.#parts.receiver.takeFound(from, id, route, proof);
    if (destination === undefined) return;
    // Its own beacons bound what it says of itself.
    if (id !== from.id) this.#lives.noteFound(destination, from, endMs);
    this.#changed.add(destination);
    this.#arm();
    if (destination.any.primary !== undefined) question.own = undefined;
    else if (question.own !== undefined || question.askers.size > 0)
      this.#askForNewer(question, from, destination);
  }

  /** What it offers is not feasible: with a newer number it would be. */
  #askForNewer(question: Question, from: Neighbour, { any }: Destination): void {
    const needsSeqno = any.fdSeqno + 1;
    if (question.askedNewerSeqno >= needsSeqno || needsSeqno > SEQNO_MAX) return;
    question.askedNewerSeqno = needsSeqno;
    this.#ask(question, from, needsSeqno, bound.PATH_HOPS);
  }

  handleGone(from: Neighbour, frame: Uint8Array): void {
    const destination = this.#core.table.get(decodePathGone(frame));
    if (destination !== undefined) this.#end(destination, from);
  }

  /** The neighbour is not there any more, for all that is known: what it answered leads nowhere. */
  endAll(from: NodeId): void {
    const neighbour = this.#core.neighbours.get(from);
    if (neighbour === undefined) return;
    for (const destination of [...this.#lives.of(neighbour)]) this.#end(destination, neighbour);
  }

  #end(destination: Destination, from: Neighbour): void {
    if (this.#lives.endOf(destination, from) === undefined) return;
    this.#lives.forgetFound(destination, from);
    const row = this.#core.table.candidates.find(destination.list, from);
    if (row === NO_ROW) return;
    this.#core.put(destination, from, row, ++from.newestSerial, UNREACHABLE, UNREACHABLE);
    this.#parts.receiver.onTombstone();
  }

  /** Answers who waits for it, and tells who went by it that it is gone. Called when an event of the router ends. */
  run(): void {
    for (const destination of this.#changed) {
      this.#changed.delete(destination);
      const question = this.#questions.get(destination.id);
      if (question !== undefined && destination.any.primary !== undefined) question.own = undefined;
      for (const [from, asker] of question?.askers ?? []) this.#answer(question!, destination, from, asker);
      for (const to of this.#lives.toldOf(destination)) this.#retract(destination, to);
    }
    if (this.#sends.count > 0) this.#sends.flush();
  }

  #watch(destination: Destination): void {
    if (this.#questions.get(destination.id) !== undefined || this.#lives.holds(destination))
      this.#changed.add(destination);
    const { metric, bottleneck } = destination.any.selected;
    if (metric >= METRIC_INFINITE || bottleneck !== BottleneckClass.slow) return;
    // Somebody is behind a slow link: there is somebody to be asked.
    for (const { own } of this.#questions.idle()) {
      own!.isIdle = false;
      own!.nextAtMs = this.#firstAtMs();
      this.#arm();
    }
  }

  /** False: there is nothing to say that would serve. */
  #answer(question: Question, destination: Destination, to: Neighbour, asker: Asker): boolean {
    if (this.#lives.leftOf(destination) < bound.PATH_PROMISE_MS) return false;
    if (this.#answerTo(destination, to, asker) === undefined) return false;
    question.askers.delete(to);
    this.#sends.put("answer", destination.id, {
      to,
      need: "begin",
      make: () => this.#answerTo(destination, to, asker),
      leaves: () => {
        this.#parts.updates.lowerDistances(destination, "any");
        if (destination !== this.#core.self) this.#lives.noteTold(destination, to);
      },
    });
    this.#arm();
    return true;
  }

  #answerTo(destination: Destination, to: Neighbour, asker: Asker): Uint8Array | undefined {
    const route = this.#core.exported(destination, "any", to);
    const lifeMs = this.#lives.leftOf(destination);
    if (route.metric >= METRIC_INFINITE || route.seqno < (asker.needsSeqno ?? 0)) return undefined;
    if (lifeMs < PATH_LIFE_UNIT_MS) return undefined;
    const isKnown = asker.holdsSeqno !== undefined && asker.holdsSeqno >= route.seqno;
    const proof = isKnown ? undefined : destination.proof;
    return encodePathAnswer({ number: asker.number, lifeMs, destination: destination.id, route, proof });
  }

  #retract(destination: Destination, to: Neighbour): void {
    const isGone = () => this.#core.exported(destination, "any", to).metric >= METRIC_INFINITE;
    if (!isGone()) return;
    const frame = {
      to,
      need: "control",
      make: () => (isGone() ? encodePathGone(destination.id) : undefined),
      leaves: () => this.#lives.forgetTold(destination, to),
    } as const;
    this.#sends.put("gone", destination.id, frame, bound.PATH_GONE_DELAY_MS);
    this.#arm();
  }

  #askOwn(question: Question): void {
    const own = question.own!;
    const nowMs = this.#core.now();
    own.lookedForAtMs = undefined;
    const targets = this.#targets(question.id, undefined, bound.PATH_ASKED_OWN, own.tries);
    // Until somebody is behind a slow link.
    own.isIdle = targets.length === 0;
    if (own.isIdle) return;
    own.nextAtMs = nowMs + bound.PATH_PAUSE_MS;
    if (!this.#ownPace.take()) return;
    const pauseMs = Math.min(bound.PATH_PAUSE_MS * 2 ** own.tries, bound.PATH_PAUSE_MAX_MS);
    own.nextAtMs = nowMs + pauseMs * (0.75 + this.#core.deps.random.float() / 2);
    const any = this.#core.table.get(question.id)?.any;
    // Whatever came was not feasible, or nothing did: perhaps only a newer number serves.
    const needsNewer =
      any !== undefined &&
      any.fdSeqno >= 0 &&
      any.fdSeqno < SEQNO_MAX &&
      (any.infeasible < METRIC_INFINITE || own.tries > 0);
    own.tries++;
    for (const target of targets)
      this.#ask(question, target, needsNewer ? any.fdSeqno + 1 : undefined, bound.PATH_HOPS);
  }

  #ask(
    question: Question,
    to: Neighbour,
    needsSeqno: number | undefined,
    hopsLeft: number,
    askedOnFor?: NodeId,
  ): void {
    const { id } = question;
    const destination = this.#core.table.get(id);
    // Its table says what it has; only what it does not have is passed on.
    if (to.hasTable && destination?.any.primary === to && needsSeqno !== undefined)
      return this.#parts.requests.ask(to, destination, needsSeqno);
    // Said again it is the same question: its answer may be under way, and counts from when it was said first.
    const before = question.asked.get(to);
    const isAgain = before !== undefined && this.#core.now() - before.leftAtMs < bound.PATH_MEMORY_MS;
    const number = isAgain ? before.number : (this.#number = (this.#number + 1) % 2 ** 16);
    this.#sends.put("question", id, {
      to,
      need: "control",
      askedOnFor,
      make: () => {
        const holdsSeqno = this.#core.table.get(id)?.proof?.seqno;
        return encodePathQuestion({ number, hopsLeft, destination: id, needsSeqno, holdsSeqno });
      },
      leaves: () => {
        if (to.hasTable || question.asked.get(to)?.number === number) return;
        question.asked.set(to, { number, leftAtMs: this.#core.now() });
      },
    });
    this.#arm();
  }

  /** Whom to ask: who leads there, if anybody does; else some slow neighbours, gateways first, and fast ones that lead to slow links. */
  #targets(id: NodeId, asker: Neighbour | undefined, max: number, turn: number): Neighbour[] {
    const primary = this.#core.table.get(id)?.any.primary;
    if (primary !== undefined && primary !== asker) return primary.link.knowsPaths === true ? [primary] : [];
    const slow = this.#parts.slow.askable(asker);
    const first = slow.length > max ? (turn * max) % slow.length : 0;
    return [...this.#towardsSlow(asker), ...slow.slice(first), ...slow.slice(0, first)].slice(0, max);
  }

  /** Fast neighbours by whom routes lead over slow links. */
  #towardsSlow(asker: Neighbour | undefined): Set<Neighbour> {
    const found = new Set<Neighbour>();
    for (const { any } of this.#core.table.values()) {
      const { primary, selected } = any;
      if (primary === undefined || primary === asker || selected.bottleneck !== BottleneckClass.slow)
        continue;
      if (primary.hasTable && primary.link.knowsPaths === true) found.add(primary);
    }
    return found;
  }

  #firstAtMs(isHeard = false): number {
    const waitMs = isHeard ? bound.PATH_HEARD_FIRST_MS : bound.PATH_FIRST_MS;
    return this.#core.now() + waitMs * (1 + this.#core.deps.random.float());
  }

  #arm(): void {
    this.#timer ??= this.#core.after(bound.PATH_LOOK_MS, () => {
      this.#timer = undefined;
      this.#look();
      if (this.#questions.isBusy || this.#sends.count > 0 || this.#lives.count > 0) this.#arm();
    });
  }

  #look(): void {
    for (const [destination, from] of [...this.#lives.ended()]) this.#end(destination, from);
    for (const question of this.#questions.due()) {
      const own = question.own!;
      const nowMs = this.#core.now();
      // Whoever has a gateway needs no path.
      const hasDefault = this.#parts.slow.defaultHops.length > 0;
      if (hasDefault || this.#core.table.get(question.id)?.any.primary !== undefined)
        question.own = undefined;
      else if (own.lookedForAtMs === undefined) {
        own.lookedForAtMs = nowMs;
        this.#core.deps.onWaiting?.(question.id);
        // Nobody said again that mail waits.
      } else if (nowMs - own.lookedForAtMs > bound.PATH_FIRST_MS) question.own = undefined;
    }
    this.#questions.sweep();
  }

  forgetNeighbour(neighbour: Neighbour): void {
    this.#questions.forgetNeighbour(neighbour);
    this.#lives.forgetNeighbour(neighbour);
  }

  forgetDestination(destination: Destination): void {
    this.#changed.delete(destination);
    this.#lives.forgetDestination(destination);
  }

  close(): void {
    this.#timer?.cancel();
  }
}
