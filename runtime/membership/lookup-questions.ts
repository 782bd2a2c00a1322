/**
 * What a node that has slow links alone asks its gateways, or without one its neighbours, hop by hop: whom an address means that its mail waits for, and
 * whether there is a newer record of whom it writes to. Owns the questions that are open; the record book and the names keep what is learnt,
 * under their own rules: an answer counts for what is signed in it, whoever gave it. Must never ask for what no mail of this
 * node, or a neighbour's question, needs. docs/protocol/slow.md "Asking for names" is normative.
 */
import type { Clock, Random, Timer } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { locationOf } from "../identity/address.ts";
import type { NameProof, NodeRecord } from "../identity/record.ts";
import { peekRecord } from "../identity/record.ts";
import { TokenBucket } from "../kernel/backoff.ts";
import { GodwitError } from "../kernel/errors.ts";
import { NODE_ID_CHARS, type NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import {
  encodeLookup,
  type Lookup,
  type LookupReply,
  type Subject,
  subjectKey,
} from "../wire/lookup-messages.ts";
import type { OfferOutcome, RecordBook } from "./records.ts";

/** Open questions. What waits beyond is asked for when one of them ends. */
export const QUESTIONS_MAX = 1_024;
/** Questions that wait for their first answer from one gateway, which keeps as many for later: own ones, and all of them when one of others is to be asked. */
export const ASKED_AT_ONCE = 4;
/**
 * No answer: asked again after this, doubled each second time, ms, because slow media lose much; where the medium is carried not before one can
 * come.
 */
export const ANSWER_FIRST_MS = 60_000;
export const ANSWER_CAP_MS = 3_600_000;
/** All gateways know nothing: the first pause until they are asked once more, doubled up to the same, ms. A gateway tells of its own accord before. */
export const NOTHING_FIRST_MS = 600_000;
/** No airtime, or a gateway has enough to answer: looked at again, ms. */
const AIRTIME_MS = 5_000;
/** Questions without mail that waits for them. */
const REFRESH_TRIES = 3;
/** Where there is no gateway, how far a question of this node's own goes over slow links, and after how long it is said again, ms: answers come over as many. */
export const HOPS = 8;
const ANSWER_HOPS_MS = 120_000;
/** Of others, all together, those that are asked on, a second and at once; and open ones, of all and of one neighbour, who is told of no more answers. */
const ON_PER_SECOND = 1 / 30;
const ON_BURST = 8;
export const ON_MAX = 64;
export const ON_EACH_MAX = 16;
/** Asked for again it is asked on again, but not sooner than this; nobody asks for it any more after the other, ms. */
const ON_GAP_MS = 90_000;
const ON_MEMORY_MS = 900_000;
/** A record that no gateway has confirmed for so long may name a prekey that was replaced: docs/protocol/sealing.md "Prekeys". */
export const RECORD_FRESH_MS = 7 * 24 * 3_600_000;
/** Signatures of answers that are checked for one neighbour, a second and at once. */
const CHECKS_PER_SECOND = 1;
const CHECKS_BURST = 16;
const CHECKED_MAX = 256;

export interface QuestionsDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Pick<Metrics, "counter">;
  readonly records: Pick<RecordBook, "get" | "offer" | "confirm">;
  /** Only names that it signed count here. */
  readonly hasAuthority: boolean;
  /** Whether the authority signed that. */
  isGranted(binding: NameProof & { readonly callsign: string; readonly id: NodeId }): boolean;
  /** Takes in what is claimed, proof included. */
  observe(record: NodeRecord): void;
  /** Running time of this node, ms. */
  runMs(): number;
  /** Whom to ask, best first; empty: this node is no edge, or hears none. */
  gateways(): readonly NodeId[];
  /** Whom to ask without a gateway: the far ends of its slow links, best first; empty on a node that has others, and hears of records by the mesh. */
  neighbours(): readonly NodeId[];
  /** From when a question has left until an answer of it can be there, ms, where its medium says so; else 0. */
  answerMs(gateway: NodeId): number;
  /** It answers questions, as far as is known. */
  answers(gateway: NodeId): boolean;
  /** `by`: of the part that this neighbour has, for it asked. */
  takeAirtime(gateway: NodeId, bytes: number, by?: NodeId): boolean;
  send(gateway: NodeId, frame: Uint8Array): boolean;
  /** Whom the address means now; undefined: several claim it, and that is for the operator. */
  nodesOf(address: string): readonly NodeId[] | undefined;
}

/** Addresses that mail waits for. */
export interface Awaited {
  readonly addresses: readonly string[];
  has(address: string): boolean;
}

interface Question {
  readonly subject: Subject;
  /** The address whose mail waits for it; undefined: none does. */
  address: string | undefined;
  readonly newerThan: number | undefined;
  tries: number;
  /** Monotonic. */
  dueAtMs: number;
  askedLast: NodeId | undefined;
  askedAtMs: number;
  /** Who was asked and has said nothing yet. */
  awaiting: NodeId | undefined;
  /** They know nothing, since the last pause. */
  readonly empty: Set<NodeId>;
  rounds: number;
  /** Neighbours that asked for it: they are asked for own mail alone. */
  readonly askers: Set<NodeId>;
  /** When one of them asked last, and whether that was not asked on yet. */
  onAtMs: number;
  isAskedAnew: boolean;
  /** How far it goes on from here. */
  hopsLeft: number;
  /** Somebody who asked takes names with a proof alone. */
  wantsProof: boolean;
  /** The authority's word, which came before the record. */
  proof: (NameProof & { readonly callsign: string; readonly id: NodeId }) | undefined;
}

export class LookupQuestions {
  readonly #deps: QuestionsDeps;
  readonly #open = new Map<string, Question>();
  /** Of mail; undefined: there was none yet. */
  #awaited: Awaited | undefined;
  readonly #checks = new BoundedMap<NodeId, TokenBucket>({ name: "tellers of names", max: CHECKED_MAX });
  readonly #asked;
  readonly #refused;
  readonly #onPace: TokenBucket;
  #timer: Timer | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;

  constructor(deps: QuestionsDeps) {
    this.#deps = deps;
    this.#onPace = new TokenBucket(deps.clock, ON_PER_SECOND, ON_BURST);
    this.#asked = deps.metrics.counter("godwit_lookups_asked_total");
    this.#refused = deps.metrics.counter("godwit_lookups_refused_total");
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Mail waits for whom that address means. `awaited` are all such addresses. */
  onAwaited(address: string, awaited: Awaited): void {
    this.#awaited = awaited;
    if (this.#targets.length === 0) return;
    this.#openFor(address);
    this.#run();
  }

  /**
   * A neighbour asks for what is not known here, and no gateway is: it is asked for beyond, for a while. The answer goes into the books, and whoever asked is
   * told as of anything that comes later. False: there is nobody to ask, or too much is asked.
   */
  askOn(by: NodeId, { subject, newerThan, wantsProof, hopsLeft = 0 }: Lookup): boolean {
    const key = subjectKey(subject);
    const held = this.#open.get(key);
    if (hopsLeft === 0 || !this.#targets.some((id) => id !== by && held?.askers.has(id) !== true))
      return false;
    const others = [...this.#open.values()].filter(isForOthersAlone);
    const isItsFirst = held?.askers.has(by) !== true;
    if (isItsFirst && others.filter(({ askers }) => askers.has(by)).length >= ON_EACH_MAX) return false;
    if (held === undefined) {
      if (others.length >= ON_MAX || !this.#onPace.take()) return false;
      this.#openOne(subject, undefined, newerThan);
    }
    const question = this.#open.get(key);
    if (question === undefined) return false;
    question.askers.add(by);
    question.wantsProof ||= wantsProof;
    question.hopsLeft = Math.max(question.hopsLeft, hopsLeft - 1);
    question.onAtMs = this.#nowMs;
    if (held === undefined || this.#isAskedAnew(question)) {
      question.isAskedAnew = true;
      question.dueAtMs = Math.min(question.dueAtMs, this.#nowMs);
    }
    this.#run();
    return true;
  }

  /** Whether one that is said again is asked on again: it takes a place of the pace, as the first time. */
  #isAskedAnew(question: Question): boolean {
    const { askers, askedAtMs, isAskedAnew, dueAtMs, onAtMs } = question;
    const waits = isAskedAnew && dueAtMs <= onAtMs;
    if (waits || onAtMs - askedAtMs < ON_GAP_MS) return false;
    const next = this.#nextGateway(question);
    // Only own mail asks who asks, and at its own pace: two that hurry each other would do so without end.
    return next !== undefined && !askers.has(next) && this.#onPace.take();
  }

  /** Mail is sealed to that node now: its keys may be old, or not known at all. */
  onWrote(id: NodeId): void {
    const { records, runMs, gateways } = this.#deps;
    if (gateways().length === 0) return;
    const held = records.get(id);
    const { confirmedRunMs } = held ?? {};
    if (held?.record.isRevoked === true) return;
    if (confirmedRunMs !== undefined && runMs() - confirmedRunMs < RECORD_FRESH_MS) return;
    this.#openOne({ kind: "node", id }, undefined, held?.record.sequence);
    this.#run();
  }

  /** There is a gateway again. Of one that comes and goes all the time each question is asked once a minute at most. */
  onGateways(): void {
    for (const question of this.#open.values()) {
      question.dueAtMs = Math.min(question.dueAtMs, question.askedAtMs + ANSWER_FIRST_MS);
      question.empty.clear();
    }
    this.#run();
  }

  /** A gateway is gone: whoever waits for its answer asks the next. */
  onGone(id: NodeId): void {
    for (const [key, question] of this.#open) {
      question.empty.delete(id);
      if (question.askers.delete(id) && question.askers.size === 0 && question.address === undefined)
        this.#open.delete(key);
      if (question.awaiting !== id) continue;
      question.awaiting = undefined;
      question.dueAtMs = this.#nowMs;
    }
    this.#run();
  }

  /** From a neighbour. What was not asked for is dropped. */
  onReply(from: NodeId, reply: LookupReply): void {
    if (reply.kind === "none") this.#onNone(from, reply.subject);
    else if (reply.kind === "nameProof") this.#onProof(from, reply);
    else this.#onRecord(from, reply.record);
    this.#run();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Gateways; without one, on a node that has no other links, those at the other ends of its slow ones. */
  get #targets(): readonly NodeId[] {
    const { gateways, neighbours } = this.#deps;
    const known = gateways();
    return known.length > 0 ? known : neighbours();
  }

  get #nowMs(): number {
    return this.#deps.clock.monotonicMs();
  }

  #openFor(address: string): void {
    if (address.length !== NODE_ID_CHARS) {
      const nodes = this.#deps.nodesOf(address);
      if (nodes === undefined) return;
      if (nodes.length === 0) return this.#openOne({ kind: "name", name: address }, address, undefined);
      // Known by name, and its keys are gone.
      for (const id of nodes) this.#openNewer(id, address);
    } else this.#openNewer(address as NodeId, address);
  }

  #openNewer(id: NodeId, address: string): void {
    this.#openOne({ kind: "node", id }, address, this.#deps.records.get(id)?.record.sequence);
  }

  #openOne(subject: Subject, address: string | undefined, newerThan: number | undefined): void {
    const key = subjectKey(subject);
    const held = this.#open.get(key);
    if (held !== undefined) {
      const rests = isForOthersAlone(held) && held.awaiting === undefined;
      held.address ??= address;
      if (rests && address !== undefined)
        held.dueAtMs = Math.min(held.dueAtMs, held.askedAtMs + ANSWER_FIRST_MS);
      return;
    }
    if (this.#open.size >= QUESTIONS_MAX) return;
    this.#open.set(key, {
      ...{ subject, address, newerThan, tries: 0, rounds: 0, dueAtMs: this.#nowMs },
      ...{ askedLast: undefined, askedAtMs: Number.NEGATIVE_INFINITY, awaiting: undefined },
      ...{
        empty: new Set(),
        askers: new Set(),
        onAtMs: 0,
        isAskedAnew: false,
        hopsLeft: 0,
        wantsProof: false,
        proof: undefined,
      },
    });
  }

  #onNone(from: NodeId, subject: Subject): void {
    const question = this.#open.get(subjectKey(subject));
    if (question === undefined || question.awaiting !== from) return this.#refuse("unasked");
    question.awaiting = undefined;
    question.empty.add(from);
    const { records, runMs } = this.#deps;
    if (subject.kind === "node") {
      // Nothing newer is news as well.
      records.confirm(subject.id, runMs());
      if (question.address === undefined && !isForOthersAlone(question))
        return void this.#open.delete(subjectKey(subject));
    }
    const isLast = this.#nextGateway(question) === undefined;
    question.isAskedAnew = !isLast;
    question.dueAtMs = isLast ? this.#afterNothing(question) : this.#nowMs;
  }

  #afterNothing(question: Question): number {
    question.empty.clear();
    return this.#nowMs + this.#jittered(Math.min(ANSWER_CAP_MS, NOTHING_FIRST_MS * 2 ** question.rounds++));
  }

  #onProof(from: NodeId, proof: LookupReply & { readonly kind: "nameProof" }): void {
    const { hasAuthority, records, isGranted, observe } = this.#deps;
    const question = this.#questionsAbout(proof.id, proof.callsign).find(
      ({ subject }) => subject.kind === "name",
    );
    if (question === undefined || !hasAuthority) return this.#refuse("unasked");
    if (!this.#checksOf(from).take()) return this.#refuse("rate");
    if (!isGranted(proof)) return this.#refuse("invalid");
    question.proof = proof;
    const held = records.get(proof.id)?.record;
    if (held?.callsign === proof.callsign) observe({ ...held, nameProof: proof });
  }

  #onRecord(from: NodeId, bytes: Uint8Array): void {
    const claimed = peek(bytes);
    if (claimed === undefined) return this.#refuse("invalid");
    const questions = this.#questionsAbout(claimed.id, claimed.callsign);
    if (questions.length === 0) return this.#refuse("unasked");
    if (!this.#checksOf(from).take()) return this.#refuse("rate");
    const { records, runMs, observe } = this.#deps;
    const source = { teller: from, expected: claimed.id, confirmedRunMs: runMs() };
    const outcome = records.offer(bytes, source);
    for (const question of questions) this.#onOutcome(from, question, claimed, outcome);
    const held = records.get(claimed.id)?.record;
    if (held === undefined) return;
    for (const { proof } of questions)
      if (proof?.id === held.id && proof.callsign === held.callsign) observe({ ...held, nameProof: proof });
  }

  #onOutcome(from: NodeId, question: Question, { id, sequence }: NodeRecord, outcome: OfferOutcome): void {
    if (outcome === "invalid" || outcome === "full") this.#refuse(outcome);
    const wasAsked = question.awaiting === from;
    if (wasAsked) question.awaiting = undefined;
    const { records, runMs } = this.#deps;
    const { newerThan = -1, subject, address } = question;
    const isAnswered = (outcome === "new" || outcome === "known") && sequence > newerThan;
    if (wasAsked && outcome === "known") records.confirm(id, runMs());
    if (isAnswered && address === undefined) return void this.#open.delete(subjectKey(subject));
    // Who was not asked sends nobody on, or each forged answer would cost a question.
    if (isAnswered || !wasAsked) return;
    // No better than silence: the others first, and this one only after a pause.
    question.empty.add(from);
    question.dueAtMs = this.#nextGateway(question) === undefined ? this.#afterNothing(question) : this.#nowMs;
  }

  /** Those that a record of that node, with that callsign, may answer. */
  #questionsAbout(id: NodeId, callsign: string | undefined): Question[] {
    const keys = [subjectKey({ kind: "node", id })];
    if (callsign !== undefined)
      for (const name of [callsign, locationOf(callsign)]) keys.push(subjectKey({ kind: "name", name }));
    return keys.flatMap((key) => this.#open.get(key) ?? []);
  }

  #checksOf(teller: NodeId): TokenBucket {
    const { clock } = this.#deps;
    const checks = this.#checks.get(teller) ?? new TokenBucket(clock, CHECKS_PER_SECOND, CHECKS_BURST);
    this.#checks.renew(teller, checks);
    return checks;
  }

  #refuse(reason: "unasked" | "rate" | "invalid" | "full"): void {
    this.#refused.add(1, { reason });
  }

  /** Ends what no mail waits for any more, takes up what does, and asks what is due. */
  #run(): void {
    for (const [key, { address }] of this.#open)
      if (address !== undefined && this.#awaited?.has(address) !== true) this.#open.delete(key);
    if (this.#targets.length === 0) return;
    for (const address of this.#awaited?.addresses ?? []) {
      if (this.#open.size >= QUESTIONS_MAX) break;
      this.#openFor(address);
    }
    this.#askDue();
    this.#arm();
  }

  #askDue(): void {
    const nowMs = this.#nowMs;
    const [own, all] = [new Map<NodeId, number>(), new Map<NodeId, number>()];
    const isBusy = (gateway: NodeId, isForOthers: boolean) =>
      ((isForOthers ? all : own).get(gateway) ?? 0) >= ASKED_AT_ONCE;
    const note = (gateway: NodeId, isForOthers: boolean) => {
      for (const counts of isForOthers ? [all] : [own, all])
        counts.set(gateway, (counts.get(gateway) ?? 0) + 1);
    };
    const due: [string, Question][] = [];
    for (const [key, question] of this.#open) {
      const { awaiting, dueAtMs } = question;
      if (dueAtMs <= nowMs) due.push([key, question]);
      else if (awaiting !== undefined) note(awaiting, isForOthersAlone(question));
    }
    due.sort(([, a], [, b]) => Number(isForOthersAlone(a)) - Number(isForOthersAlone(b)));
    /** Gateways that own questions lack airtime to: it is left to them. And pairs of gateway and neighbour, whose part is spent. */
    const short = new Set<string>();
    for (const [key, question] of due) {
      question.awaiting = undefined;
      const isForOthers = isForOthersAlone(question);
      const endsAtMs = question.onAtMs + ON_MEMORY_MS;
      if (isForOthers && (!question.isAskedAnew || endsAtMs <= nowMs)) {
        question.dueAtMs = endsAtMs;
        if (endsAtMs <= nowMs) this.#open.delete(key);
        continue;
      }
      const isGivenUp = question.address === undefined && !isForOthers && question.tries >= REFRESH_TRIES;
      const gateway = isGivenUp ? undefined : this.#nextGateway(question);
      if (isGivenUp) this.#open.delete(key);
      else if (gateway === undefined) question.dueAtMs = this.#afterNothing(question);
      else if (short.has(gateway) || isBusy(gateway, isForOthers)) continue;
      else if (this.#ask(gateway, question, short)) note(gateway, isForOthers);
      else if (!isForOthers) short.add(gateway);
    }
  }

  /** False: there is no airtime for it. */
  #ask(gateway: NodeId, question: Question, short: Set<string>): boolean {
    const { hasAuthority, takeAirtime, send, answerMs, gateways } = this.#deps;
    const { subject, newerThan } = question;
    const wantsProof = (hasAuthority || question.wantsProof) && subject.kind === "name";
    // A gateway has the whole mesh behind it, and asks nobody.
    const isGateway = gateways().includes(gateway);
    const hopsLeft = isGateway ? 0 : question.address === undefined ? question.hopsLeft : HOPS;
    const frame = encodeLookup({ subject, newerThan, wantsProof, hopsLeft });
    // Whoever of them has some left, or one that asks for everything would keep back the others' as well.
    const payers = isForOthersAlone(question) ? [...question.askers] : [undefined];
    const isPaid = payers.some((by) => {
      const pair = `${gateway} ${by}`;
      if (short.has(pair)) return false;
      const has = takeAirtime(gateway, frame.length, by);
      if (!has) short.add(pair);
      return has;
    });
    if (!isPaid || !send(gateway, frame)) return false;
    this.#asked.add();
    question.askedLast = gateway;
    question.isAskedAnew = false;
    question.askedAtMs = this.#nowMs;
    question.awaiting = gateway;
    const firstMs = isGateway ? ANSWER_FIRST_MS : ANSWER_HOPS_MS;
    const pauseMs = Math.min(ANSWER_CAP_MS, firstMs * 2 ** (question.tries++ >> 1));
    question.dueAtMs = this.#nowMs + this.#jittered(Math.max(pauseMs, answerMs(gateway)));
    return true;
  }

  /**
   * One that has not said that it knows nothing: behind the one that was asked last, in their order. Who asked for it may hear of it elsewhere, or know and
   * ask all the same: mail of this node's own does not do without that neighbour.
   */
  #nextGateway({ address, askedLast, empty, askers }: Question): NodeId | undefined {
    const all = this.#targets.filter(
      (id) => (address !== undefined || !askers.has(id)) && this.#deps.answers(id),
    );
    const at = askedLast === undefined ? -1 : all.indexOf(askedLast);
    return [...all.slice(at + 1), ...all.slice(0, at + 1)].find((id) => !empty.has(id));
  }

  #jittered(ms: number): number {
    return ms * (1 + this.#deps.random.float() / 4);
  }

  #arm(): void {
    let nextAtMs = Number.POSITIVE_INFINITY;
    for (const { dueAtMs } of this.#open.values()) nextAtMs = Math.min(nextAtMs, dueAtMs);
    if (nextAtMs <= this.#nowMs) nextAtMs = this.#nowMs + AIRTIME_MS;
    if (nextAtMs === this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerAtMs = nextAtMs;
    if (!Number.isFinite(nextAtMs)) return;
    this.#timer = this.#deps.clock.after(Math.max(1, nextAtMs - this.#nowMs), () => {
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      this.#run();
    });
  }
}

/** No mail of this node waits for it. */
const isForOthersAlone = ({ address, askers }: Question): boolean => address === undefined && askers.size > 0;

function peek(bytes: Uint8Array): NodeRecord | undefined {
  try {
    return peekRecord(bytes);
  } catch (error) {
    if (error instanceof GodwitError) return undefined;
    throw error;
  }
}
