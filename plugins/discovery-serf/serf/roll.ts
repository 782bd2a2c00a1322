/**
 * What Serf makes of memberlist's table: who is alive, leaving, left or failed, by Lamport times of intents to join and to leave. Keeps the gone
 * for a day, because they are called again and again. Owns the intents about nodes that are not known yet.
 */
import { BoundedMap } from "@godwit/sdk";
import type { At } from "../wire/messages.ts";
import type { Intent } from "../wire/serf-messages.ts";
import { SerfType } from "../wire/types.ts";
import { isSameAt, type Member, MEMBERS_MAX } from "../memberlist/members.ts";
import type { LamportClock } from "./history.ts";

export type Status = "alive" | "leaving" | "left" | "failed";
/** On the wire, in answers about a conflict. */
export const STATUS_NUMBERS = { alive: 1, leaving: 2, left: 3, failed: 4 } as const;

/** So long the gone are kept, and called. */
const GONE_MS = 86_400_000;
const INTENTS_MAX = 1_024;
const INTENT_MS = 300_000;

export interface Entry {
  readonly name: string;
  readonly at: At;
  readonly meta: Uint8Array;
  readonly vsn: readonly number[];
  readonly status: Status;
  /** Of the last intent that counted. */
  readonly ltime: number;
  /** When it went, of the monotonic clock. */
  readonly goneMs: number | undefined;
}

export interface RollEvents {
  /** What is known of it changed; undefined before: it is new, undefined after: it is forgotten. */
  changed(before: Entry | undefined, after: Entry | undefined): void;
  /** This node is said to leave and does not. */
  objected(): void;
}

export class Roll {
  readonly clock: LamportClock;
  readonly #self: string;
  readonly #events: RollEvents;
  readonly #nowMs: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #intents: BoundedMap<string, { readonly intent: Intent; readonly atMs: number }>;
  isLeaving = false;

  constructor(self: string, clock: LamportClock, nowMs: () => number, events: RollEvents) {
    this.#self = self;
    this.clock = clock;
    this.#nowMs = nowMs;
    this.#events = events;
    this.#intents = new BoundedMap({ name: "serf intents", max: INTENTS_MAX });
  }

  get(name: string): Entry | undefined {
    return this.#entries.get(name);
  }

  get size(): number {
    return this.#entries.size;
  }

  *[Symbol.iterator](): IterableIterator<Entry> {
    yield* this.#entries.values();
  }

  count(status: Status): number {
    let count = 0;
    for (const entry of this) if (entry.status === status) count++;
    return count;
  }

  joined(member: Member): void {
    const known = this.#entries.get(member.name);
    const waiting = known === undefined ? this.#takeIntent(member.name) : undefined;
    const status = waiting?.type === SerfType.leave ? "leaving" : "alive";
    if (known === undefined && !this.#makeRoom()) return;
    this.#set({ ...factsOf(member), status, ltime: waiting?.ltime ?? known?.ltime ?? 0, goneMs: undefined });
  }

  updated(member: Member): void {
    const known = this.#entries.get(member.name);
    if (known !== undefined) this.#set({ ...known, ...factsOf(member) });
  }

  left(member: Member): void {
    const known = this.#entries.get(member.name);
    if (known === undefined || known.status === "left" || known.status === "failed") return;
    const status = known.status === "leaving" ? "left" : "failed";
    this.#set({ ...known, status, goneMs: this.#nowMs() });
  }

  /** Whether others should hear of it. */
  intend(intent: Intent): boolean {
    this.clock.witness(intent.ltime);
    const known = this.#entries.get(intent.node);
    if (known === undefined) return this.#keepIntent(intent);
    if (intent.ltime <= known.ltime) return false;
    if (intent.type === SerfType.join) {
      this.#set({
        ...known,
        ltime: intent.ltime,
        status: known.status === "leaving" ? "alive" : known.status,
      });
      return true;
    }
    if (intent.node === this.#self && !this.isLeaving) {
      this.#events.objected();
      return false;
    }
    const status = known.status === "alive" ? "leaving" : known.status === "failed" ? "left" : known.status;
    this.#set({ ...known, ltime: intent.ltime, status });
    if (intent.isPrune && status === "left") this.forget(intent.node);
    return true;
  }

  /** Those who went a day ago are forgotten. */
  reap(): void {
    const nowMs = this.#nowMs();
    for (const { name, goneMs } of [...this])
      if (goneMs !== undefined && nowMs - goneMs > GONE_MS) this.forget(name);
    for (const [name, { atMs }] of [...this.#intents])
      if (nowMs - atMs > INTENT_MS) this.#intents.delete(name);
  }

  forget(name: string): void {
    const known = this.#entries.get(name);
    if (known === undefined || name === this.#self) return;
    this.#entries.delete(name);
    this.#events.changed(known, undefined);
  }

  /** It is remembered from a former life of this node, where it was not heard of yet in this one. */
  recall(entry: Pick<Entry, "name" | "at">): void {
    if (this.#entries.has(entry.name) || entry.name === this.#self || !this.#makeRoom()) return;
    const meta = new Uint8Array(0);
    this.#set({ ...entry, meta, vsn: [], status: "failed", ltime: 0, goneMs: this.#nowMs() });
  }

  #set(entry: Entry): void {
    const before = this.#entries.get(entry.name);
    this.#entries.set(entry.name, entry);
    if (before === undefined || !isSame(before, entry)) this.#events.changed(before, entry);
  }

  #makeRoom(): boolean {
    if (this.#entries.size < MEMBERS_MAX) return true;
    for (const { name, goneMs } of this)
      if (goneMs !== undefined) {
        this.forget(name);
        return true;
      }
    return false;
  }

  #keepIntent(intent: Intent): boolean {
    const kept = this.#intents.get(intent.node)?.intent;
    if (kept !== undefined && intent.ltime <= kept.ltime) return false;
    this.#intents.renew(intent.node, { intent, atMs: this.#nowMs() });
    return true;
  }

  #takeIntent(name: string): Intent | undefined {
    const kept = this.#intents.get(name);
    this.#intents.delete(name);
    return kept === undefined || this.#nowMs() - kept.atMs > INTENT_MS ? undefined : kept.intent;
  }
}

const factsOf = ({ name, at, meta, vsn }: Member): Pick<Entry, "name" | "at" | "meta" | "vsn"> => ({
  name,
  at,
  meta,
  vsn,
});

const isSame = (a: Entry, b: Entry): boolean =>
  a.status === b.status &&
  isSameAt(a.at, b.at) &&
  a.vsn.length === b.vsn.length &&
  Buffer.compare(a.meta, b.meta) === 0;
