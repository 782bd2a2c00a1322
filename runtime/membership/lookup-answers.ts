/**
 * What a node tells its slow neighbours that ask for names and records: brief records out of its own book, which their nodes
 * signed, and proofs of the name authority. Owns the questions that wait for airtime, and those that nobody could answer yet:
 * whoever asked is told when an answer comes. Must never ask anybody itself: what this node does not know the mesh tells it, or where it has slow links alone
 * those it asks (lookup-questions.ts).
 * docs/protocol/slow.md "Asking for names" is normative.
 */
import type { Clock, Timer } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { briefOf } from "../identity/brief.ts";
import { locationOf, parseCallsign } from "../identity/address.ts";
import type { NodeRecord } from "../identity/record.ts";
import { TokenBucket } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { encodeLookupReply, type Lookup, type Subject, subjectKey } from "../wire/lookup-messages.ts";

/** Questions of one neighbour that are looked at, a second and at once. */
const QUESTIONS_PER_SECOND = 0.2;
const QUESTIONS_BURST = 8;
/** Answers to one neighbour that wait for airtime. */
export const PENDING_MAX = 4;
/** Questions of one neighbour, and of all, that nobody here could answer. */
export const UNANSWERED_MAX = 16;
export const UNANSWERED_ALL_MAX = 1_024;
/** A neighbour that still wants to know asks again within that, ms. */
export const UNANSWERED_MS = 2 * 3_600_000;
/** No airtime: tried again, ms. */
const AIRTIME_MS = 5_000;
/** Names and records change in crowds: what is not answered is looked at again once for all of them, ms. */
const CHANGES_MS = 2_000;
/** A record that its node signed no brief one of is told whole up to this, bytes: two packets. */
export const WHOLE_BYTES_MAX = 370;
/** Machines of a location that are looked at. */
const MACHINES_LOOKED_AT_MAX = 64;

export interface AnswersDeps {
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, "counter">;
  recordOf(id: NodeId): NodeRecord | undefined;
  /** This node gives and takes nothing of it. */
  isBlocked(id: NodeId): boolean;
  /** Whom a callsign means here; undefined: nobody, or several claim it. */
  holderOf(callsign: string): NodeId | undefined;
  /** In the order of their names. */
  machinesAt(location: string): readonly NodeId[];
  isReachable(id: NodeId): boolean;
  /** The record verifies. */
  isSound(record: Uint8Array): boolean;
  frameBytesMax(to: NodeId): number;
  /** It is asked for beyond: whoever asked hears of an answer, and no no. */
  askOn(by: NodeId, lookup: Lookup): boolean;
  takeAirtime(to: NodeId, bytes: number): boolean;
  send(to: NodeId, frame: Uint8Array): boolean;
}

interface Neighbour {
  readonly questions: TokenBucket;
  /** By subject. */
  readonly pending: Map<string, Lookup>;
  readonly unanswered: Set<string>;
}

interface Unanswered {
  readonly by: NodeId;
  readonly lookup: Lookup;
  readonly untilMs: number;
}

export class LookupAnswers {
  readonly #deps: AnswersDeps;
  readonly #neighbours = new Map<NodeId, Neighbour>();
  readonly #unanswered = new BoundedMap<string, Unanswered>({
    name: "unanswered questions",
    max: UNANSWERED_ALL_MAX,
    evicted: (key, { by }) => void this.#neighbours.get(by)?.unanswered.delete(key),
  });
  /** Whether their brief ones verify. */
  readonly #sound = new WeakMap<NodeRecord, boolean>();
  readonly #answered;
  readonly #refused;
  #timer: Timer | undefined;
  #changesTimer: Timer | undefined;

  constructor(deps: AnswersDeps) {
    this.#deps = deps;
    this.#answered = deps.metrics.counter("godwit_lookups_answered_total");
    this.#refused = deps.metrics.counter("godwit_lookups_refused_total");
  }

  get unansweredCount(): number {
    return this.#unanswered.size;
  }

  onLookup(from: NodeId, lookup: Lookup): void {
    const neighbour = this.#neighbourOf(from);
    const refuse = (reason: "rate" | "full") => this.#refused.add(1, { reason });
    if (!neighbour.questions.take()) return refuse("rate");
    const key = subjectKey(lookup.subject);
    if (!neighbour.pending.has(key) && neighbour.pending.size >= PENDING_MAX) return refuse("full");
    neighbour.pending.set(key, lookup);
    this.#pump();
  }

  onGone(id: NodeId): void {
    const neighbour = this.#neighbours.get(id);
    if (neighbour === undefined) return;
    for (const key of neighbour.unanswered) this.#unanswered.delete(key);
    this.#neighbours.delete(id);
  }

  /** Names or records are other ones now: some that nobody could answer may have an answer. */
  onDirectory(): void {
    if (this.#unanswered.size === 0) return;
    this.#changesTimer ??= this.#deps.clock.after(CHANGES_MS, () => {
      this.#changesTimer = undefined;
      this.#lookAgain();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#changesTimer?.cancel();
  }

  #neighbourOf(id: NodeId): Neighbour {
    let neighbour = this.#neighbours.get(id);
    if (neighbour === undefined) {
      const questions = new TokenBucket(this.#deps.clock, QUESTIONS_PER_SECOND, QUESTIONS_BURST);
      neighbour = { questions, pending: new Map(), unanswered: new Set() };
      this.#neighbours.set(id, neighbour);
    }
    return neighbour;
  }

  #lookAgain(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    for (const [key, { by, lookup, untilMs }] of [...this.#unanswered]) {
      const neighbour = this.#neighbours.get(by);
      const isOver = untilMs <= nowMs || neighbour === undefined;
      if (!isOver && (neighbour.pending.size >= PENDING_MAX || this.#framesFor(by, lookup) === undefined))
        continue;
      this.#forget(key, by);
      if (!isOver) neighbour.pending.set(subjectKey(lookup.subject), lookup);
    }
    this.#pump();
  }

  /** Sends what there is airtime for. */
  #pump(): void {
    let isWaiting = false;
    for (const [id, neighbour] of this.#neighbours)
      for (const [key, lookup] of neighbour.pending) {
        if (!this.#answer(id, neighbour, lookup)) {
          isWaiting = true;
          break;
        }
        neighbour.pending.delete(key);
      }
    if (!isWaiting) return;
    this.#timer ??= this.#deps.clock.after(AIRTIME_MS, () => {
      this.#timer = undefined;
      this.#pump();
    });
  }

  /** False: there is no airtime for it now. */
  #answer(to: NodeId, neighbour: Neighbour, lookup: Lookup): boolean {
    const { takeAirtime, send, askOn } = this.#deps;
    const { subject } = lookup;
    const frames = this.#framesFor(to, lookup);
    if (frames === undefined && askOn(to, lookup)) {
      this.#answered.add(1, { found: "asked_on" });
      this.#remember(to, neighbour, lookup);
      return true;
    }
    const reply = frames ?? [encodeLookupReply({ kind: "none", subject })];
    if (
      !takeAirtime(
        to,
        reply.reduce((total, { length }) => total + length, 0),
      )
    )
      return false;
    for (const frame of reply) send(to, frame);
    this.#answered.add(1, { found: frames === undefined ? "no" : "yes" });
    if (frames === undefined) this.#remember(to, neighbour, lookup);
    else this.#forget(`${to} ${subjectKey(subject)}`, to);
    return true;
  }

  /** The record that answers it, by what it says itself. */
  #find({ subject, newerThan = -1 }: Lookup): NodeRecord | undefined {
    const { recordOf, isBlocked } = this.#deps;
    const id = this.#meantBy(subject);
    const record = id === undefined || isBlocked(id) ? undefined : recordOf(id);
    if (record === undefined || record.sequence <= newerThan) return undefined;
    return isAbout(record, subject) ? record : undefined;
  }

  #meantBy(subject: Subject): NodeId | undefined {
    if (subject.kind === "node") return subject.id;
    const { holderOf, machinesAt, recordOf, isReachable } = this.#deps;
    const { name } = subject;
    if (parseCallsign(name) !== undefined) return holderOf(name);
    const machines = machinesAt(name)
      .slice(0, MACHINES_LOOKED_AT_MAX)
      .filter((id) => {
        const record = recordOf(id);
        return record !== undefined && isAbout(record, subject);
      });
    return machines.find((id) => isReachable(id)) ?? machines[0];
  }

  /** At most two; undefined: nothing is known, or nothing that would fit the link. */
  #framesFor(to: NodeId, lookup: Lookup): Uint8Array[] | undefined {
    const record = this.#find(lookup);
    if (record === undefined) return undefined;
    const { frameBytesMax } = this.#deps;
    const brief = this.#soundBriefOf(record);
    if (brief === undefined && record.bytes.length > WHOLE_BYTES_MAX) return undefined;
    const frames = [encodeLookupReply({ kind: "record", record: brief ?? record.bytes })];
    const { id, callsign, nameProof } = record;
    if (lookup.wantsProof && brief !== undefined && callsign !== undefined && nameProof !== undefined)
      frames.push(encodeLookupReply({ kind: "nameProof", id, callsign, ...nameProof }));
    return frames.every(({ length }) => length <= frameBytesMax(to)) ? frames : undefined;
  }

  /** Anybody may have put any bytes there: what does not verify is no use of airtime. */
  #soundBriefOf(record: NodeRecord): Uint8Array | undefined {
    const brief = briefOf(record);
    if (brief === undefined || record.isBrief) return brief;
    const isSound = this.#sound.get(record) ?? this.#deps.isSound(brief);
    this.#sound.set(record, isSound);
    return isSound ? brief : undefined;
  }

  #remember(by: NodeId, { unanswered }: Neighbour, lookup: Lookup): void {
    const key = `${by} ${subjectKey(lookup.subject)}`;
    if (!unanswered.has(key) && unanswered.size >= UNANSWERED_MAX) {
      const [first] = unanswered;
      this.#forget(first!, by);
    }
    unanswered.add(key);
    const untilMs = this.#deps.clock.monotonicMs() + UNANSWERED_MS;
    this.#unanswered.renew(key, { by, lookup, untilMs });
  }

  #forget(key: string, by: NodeId): void {
    this.#unanswered.delete(key);
    this.#neighbours.get(by)?.unanswered.delete(key);
  }
}

/** It says so itself: whoever is asked adds nothing of its own. */
function isAbout({ id, callsign }: NodeRecord, subject: Subject): boolean {
  if (subject.kind === "node") return id === subject.id;
  return callsign === subject.name || (callsign !== undefined && locationOf(callsign) === subject.name);
}
