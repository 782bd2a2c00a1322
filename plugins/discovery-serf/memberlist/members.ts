/**
 * Who is in the cluster: the table and what alive, suspect and dead messages make of it. Owns incarnations, suspicions and what is told on.
 * Sends nothing by itself. Its bound is `MEMBERS_MAX`: a stranger who knows the key may claim any number of names.
 */
import { type Random, TokenBucket } from "@godwit/sdk";
import {
  type Accusation,
  type Alive,
  type At,
  encodeAlive,
  encodeDead,
  encodeSuspect,
  type NodeEntry,
} from "../wire/messages.ts";
import { NodeState, OWN_VSN } from "../wire/types.ts";
import type { Broadcasts } from "./broadcasts.ts";
import { Suspicion } from "./suspicion.ts";
import type { Timers } from "./timers.ts";
import { type Awareness, suspicionBounds, type Timing } from "./timing.ts";

/** This node among them. With 512 bytes of tags each that is some 5 MiB. */
export const MEMBERS_MAX = 4_096;
/**
 * Members that are new or say something new, which all others are to be told: some tens of microseconds each, and a state of seven kilobytes holds a
 * thousand. The whole of the largest cluster comes at once.
 */
const NEWS = { perSecond: 1_000, burst: 2 * MEMBERS_MAX } as const;
/** The last incarnation that fits its field. A liar who goes there, and holds the key, leaves nothing to refute with; what others can read is still said. */
export const INCARNATION_MAX = 0xffff_ffff;

export interface Member {
  readonly name: string;
  readonly at: At;
  readonly meta: Uint8Array;
  readonly vsn: readonly number[];
  readonly incarnation: number;
  readonly state: NodeState;
  /** When the state became what it is, of the monotonic clock. */
  readonly changedMs: number;
}

const PICK_TRIES = 64;

/** What the table tells. Called synchronously; must not throw. */
export interface MemberEvents {
  joined(member: Member): void;
  left(member: Member): void;
  updated(member: Member): void;
  /** Another machine claims the name of one that is alive. */
  conflict(member: Member, other: At, meta: Uint8Array): void;
  dropped(reason: "members" | "protocol" | "rate"): void;
}

export interface MembersDeps {
  readonly timers: Timers;
  readonly random: Random;
  readonly timing: Timing;
  readonly awareness: Awareness;
  readonly broadcasts: Broadcasts;
  readonly events: MemberEvents;
}

export const isGone = ({ state }: Pick<Member, "state">): boolean =>
  state === NodeState.dead || state === NodeState.left;
export const isSameAt = (a: At, b: At): boolean => a.address === b.address && a.port === b.port;

export class Members {
  readonly #deps: MembersDeps;
  readonly #members = new Map<string, Member>();
  readonly #suspicions = new Map<string, Suspicion>();
  readonly #name: string;
  readonly #news: TokenBucket;
  /** In the order of probing: shuffled at each round. */
  #order: string[] = [];
  #next = 0;
  /** Whose turn it still is to be told the news in this round. */
  #untold = new Set<string>();
  #hasLeft = false;
  #goneCount = 0;

  constructor(
    deps: MembersDeps,
    self: { readonly name: string; readonly at: At; readonly meta: Uint8Array },
  ) {
    this.#deps = deps;
    this.#name = self.name;
    const clock = { monotonicMs: () => deps.timers.nowMs() };
    this.#news = new TokenBucket(clock, NEWS.perSecond, NEWS.burst);
    this.#store({
      ...self,
      vsn: OWN_VSN,
      incarnation: 1,
      state: NodeState.alive,
      changedMs: deps.timers.nowMs(),
    });
  }

  get self(): Member {
    return this.#members.get(this.#name)!;
  }

  get size(): number {
    return this.#members.size;
  }

  /** Alive or suspect, this node among them. */
  get liveCount(): number {
    return this.#members.size - this.#goneCount;
  }

  get hasLeft(): boolean {
    return this.#hasLeft;
  }

  get(name: string): Member | undefined {
    return this.#members.get(name);
  }

  *[Symbol.iterator](): IterableIterator<Member> {
    yield* this.#members.values();
  }

  /** Whether one of them is there, alive or not. */
  isAt(at: At): boolean {
    for (const member of this.#members.values()) if (isSameAt(member.at, at)) return true;
    return false;
  }

  entries(): NodeEntry[] {
    return [...this.#members.values()].map(entryOf);
  }

  /** Up to `count` others, at random. */
  pick(count: number, accepts: (member: Member) => boolean): Member[] {
    const found: Member[] = [];
    const names = this.#order;
    if (names.length === 0) return found;
    // Of few each is looked at once; of many so many that one of a tenth is still found.
    const few = names.length <= PICK_TRIES ? this.#shuffled([...names]) : undefined;
    const tries = few?.length ?? PICK_TRIES;
    for (let i = 0; i < tries && found.length < count; i++) {
      const name = few?.[i] ?? names[this.#deps.random.below(names.length)]!;
      const member = this.#members.get(name);
      if (member !== undefined && member.name !== this.#name && accepts(member) && !found.includes(member))
        found.push(member);
    }
    return found;
  }

  /**
   * Up to `count` others who are told the news next, in rounds that reach each once. Where everybody is drawn anew each time, as memberlist does it,
   * a few tellings go to the same ones again and again: of five members one in 140 queries did not reach all.
   */
  nextToTell(count: number, accepts: (member: Member) => boolean): Member[] {
    const found: Member[] = [];
    let tries = PICK_TRIES;
    // What is left of this round, and of the next what is missing.
    for (let rounds = 0; rounds < 2 && found.length < count && tries > 0; rounds++) {
      if (this.#untold.size === 0) this.#untold = new Set(this.#shuffled([...this.#members.keys()]));
      for (const name of this.#untold) {
        this.#untold.delete(name);
        const member = this.#members.get(name);
        if (member !== undefined && name !== this.#name && accepts(member) && !found.includes(member))
          found.push(member);
        if (found.length >= count || --tries <= 0) break;
      }
    }
    return found;
  }

  /** The next one to probe; undefined: nobody. At each round's end the long dead are forgotten. */
  nextToProbe(accepts: (member: Member) => boolean): Member | undefined {
    for (let looked = 0; looked <= this.#order.length; looked++) {
      if (this.#next >= this.#order.length) this.#beginRound();
      const member = this.#members.get(this.#order[this.#next++] ?? "");
      if (member !== undefined && member.name !== this.#name && !isGone(member) && accepts(member))
        return member;
    }
    return undefined;
  }

  /** Tags or address of this node changed: told under the next incarnation. */
  updateSelf(change: { readonly meta?: Uint8Array; readonly at?: At; readonly incarnation?: number }): void {
    const { self } = this;
    this.#store({
      ...self,
      ...(change.meta === undefined ? {} : { meta: change.meta }),
      ...(change.at === undefined ? {} : { at: change.at }),
      incarnation: Math.min(INCARNATION_MAX, Math.max(self.incarnation + 1, change.incarnation ?? 0)),
    });
    this.announce();
  }

  /** Tells everybody that this node is here. */
  announce(): void {
    this.#deps.broadcasts.add(encodeAlive(aliveOf(this.self)), this.#name);
  }

  /** This node leaves: from now on it refutes nothing. `sent`: when that was told as often as such things are. */
  leave(sent: () => void): void {
    this.#hasLeft = true;
    const { incarnation, name } = this.self;
    this.#deps.broadcasts.add(encodeDead({ incarnation, node: name, from: name }), name, sent);
  }

  alive(alive: Alive): void {
    const known = this.#members.get(alive.node);
    if (alive.node === this.#name) return this.#aboutSelf(alive);
    if (isForeign(alive.vsn)) return this.#deps.events.dropped("protocol");
    if (known === undefined && !this.#makeRoom()) return this.#deps.events.dropped("members");
    const isMoved = known !== undefined && !isSameAt(known.at, alive.at);
    // Whoever is gone may come back from elsewhere at once: waiting would only keep a replaced machine out.
    if (isMoved && !isGone(known)) return this.#deps.events.conflict(known, alive.at, alive.meta);
    if (known !== undefined && !isMoved && alive.incarnation <= known.incarnation) return;
    if (!this.#news.take()) return this.#deps.events.dropped("rate");
    this.#endSuspicion(alive.node);
    const wasGone = known === undefined || isGone(known);
    const member: Member = {
      name: alive.node,
      at: alive.at,
      // A copy: the packet that it came in is not kept for it.
      meta: alive.meta.slice(),
      vsn: alive.vsn,
      incarnation: alive.incarnation,
      state: NodeState.alive,
      changedMs: known?.state === NodeState.alive ? known.changedMs : this.#deps.timers.nowMs(),
    };
    this.#store(member);
    this.#deps.broadcasts.add(encodeAlive(alive), alive.node);
    if (wasGone) this.#deps.events.joined(member);
    else if (Buffer.compare(known.meta, member.meta) !== 0) this.#deps.events.updated(member);
  }

  suspect(suspect: Accusation): void {
    const known = this.#members.get(suspect.node);
    if (known === undefined || suspect.incarnation < known.incarnation) return;
    const running = this.#suspicions.get(suspect.node);
    if (running !== undefined) {
      if (running.confirm(suspect.from))
        this.#deps.broadcasts.add(encodeSuspect(suspect), `${suspect.node}\0${suspect.from}`);
      return;
    }
    if (known.state !== NodeState.alive) return;
    if (suspect.node === this.#name) return this.#refute(suspect.incarnation);
    this.#deps.broadcasts.add(encodeSuspect(suspect), suspect.node);
    this.#store({
      ...known,
      incarnation: suspect.incarnation,
      state: NodeState.suspect,
      changedMs: this.#deps.timers.nowMs(),
    });
    const { timers, timing } = this.#deps;
    // Only the living count: memberlist counts the dead for half a minute, and then waits for confirmations that nobody can give.
    const bounds = suspicionBounds(timing, this.liveCount);
    const end = () => {
      const now = this.#members.get(suspect.node);
      if (now?.state === NodeState.suspect)
        this.dead({ incarnation: now.incarnation, node: now.name, from: this.#name });
    };
    this.#suspicions.set(suspect.node, new Suspicion(timers, bounds, suspect.from, end));
  }

  dead(dead: Accusation): void {
    const known = this.#members.get(dead.node);
    if (known === undefined || dead.incarnation < known.incarnation) return;
    this.#endSuspicion(dead.node);
    if (isGone(known)) return;
    if (dead.node === this.#name) {
      if (!this.#hasLeft) this.#refute(dead.incarnation);
      return;
    }
    const member: Member = {
      ...known,
      incarnation: dead.incarnation,
      state: dead.from === dead.node ? NodeState.left : NodeState.dead,
      changedMs: this.#deps.timers.nowMs(),
    };
    this.#store(member);
    this.#deps.broadcasts.add(encodeDead(dead), dead.node);
    this.#deps.events.left(member);
  }

  /** What another said of everybody. It is not believed that somebody is dead, only that it may be. */
  merge(entries: readonly NodeEntry[]): void {
    for (const entry of entries) {
      const { incarnation, node } = entry;
      if (entry.state === NodeState.alive) this.alive(entry);
      else if (entry.state === NodeState.left) this.dead({ incarnation, node, from: node });
      else this.suspect({ incarnation, node, from: this.#name });
    }
  }

  /** Why these cannot be of one cluster with ours; undefined: they can. */
  protocolFault(entries: readonly NodeEntry[]): string | undefined {
    const all = [...[...this.#members.values()].filter((one) => !isGone(one)), ...entries.filter(isAlive)];
    const least = (of: number) => Math.max(...all.map(({ vsn }) => vsn[of]!));
    const most = (of: number) => Math.min(...all.map(({ vsn }) => vsn[of]!));
    for (const [of, what] of [
      [0, "memberlist"],
      [3, "Serf"],
    ] as const) {
      const [from, to] = [least(of), most(of + 1)];
      const odd = all.find(({ vsn }) => vsn[of + 2]! < from || vsn[of + 2]! > to);
      if (odd !== undefined) return `a member speaks ${what} ${odd.vsn[of + 2]}, the others ${from} to ${to}`;
    }
    return undefined;
  }

  forget(name: string): void {
    const member = this.#members.get(name);
    if (member === undefined || name === this.#name) return;
    this.#endSuspicion(name);
    if (isGone(member)) this.#goneCount--;
    this.#members.delete(name);
  }

  #aboutSelf(alive: Alive): void {
    const { self } = this;
    if (this.#hasLeft || alive.incarnation < self.incarnation) return;
    if (!isSameAt(alive.at, self.at)) return this.#deps.events.conflict(self, alive.at, alive.meta);
    const isSame =
      alive.incarnation === self.incarnation &&
      Buffer.compare(alive.meta, self.meta) === 0 &&
      alive.vsn.join() === self.vsn.join();
    if (!isSame) this.#refute(alive.incarnation);
  }

  #refute(accused: number): void {
    const { self } = this;
    const incarnation = Math.min(INCARNATION_MAX, Math.max(self.incarnation, accused) + 1);
    this.#store({ ...self, incarnation });
    this.#deps.awareness.apply(1);
    this.announce();
  }

  #endSuspicion(name: string): void {
    this.#suspicions.get(name)?.cancel();
    this.#suspicions.delete(name);
  }

  #store(member: Member): void {
    const known = this.#members.get(member.name);
    if (known !== undefined && isGone(known)) this.#goneCount--;
    if (isGone(member)) this.#goneCount++;
    this.#members.set(member.name, member);
    if (known !== undefined) return;
    // The next round begins at once, with the new one in it.
    this.#untold.clear();
    // Names that came and went within a round.
    if (this.#order.length >= 2 * MEMBERS_MAX) this.#beginRound();
    // Into a random place of the round, so that when it is first probed says nothing of when it came.
    const at = this.#deps.random.below(this.#order.length + 1);
    this.#order.push(member.name);
    [this.#order[at], this.#order[this.#order.length - 1]] = [
      this.#order[this.#order.length - 1]!,
      this.#order[at]!,
    ];
  }

  /** The gone give way to the new, the alive do not. */
  #makeRoom(): boolean {
    if (this.#members.size < MEMBERS_MAX) return true;
    if (this.#goneCount === 0) return false;
    for (const member of this.#members.values())
      if (isGone(member)) {
        this.forget(member.name);
        return true;
      }
    return false;
  }

  #beginRound(): void {
    const nowMs = this.#deps.timers.nowMs();
    for (const member of [...this.#members.values()])
      if (isGone(member) && nowMs - member.changedMs > this.#deps.timing.gossipToTheDeadMs)
        this.forget(member.name);
    this.#order = this.#shuffled([...this.#members.keys()]);
    this.#next = 0;
  }

  #shuffled(names: string[]): string[] {
    for (let i = names.length - 1; i > 0; i--) {
      const j = this.#deps.random.below(i + 1);
      [names[i], names[j]] = [names[j]!, names[i]!];
    }
    return names;
  }
}

/** Of memberlist or of Serf. In the table such a one would stand against every exchange of states. */
const isForeign = (vsn: readonly number[]): boolean =>
  [0, 3].some(
    (of) =>
      vsn[of + 2]! < OWN_VSN[of]! ||
      vsn[of + 2]! > OWN_VSN[of + 1]! ||
      OWN_VSN[of + 2]! < vsn[of]! ||
      OWN_VSN[of + 2]! > vsn[of + 1]!,
  );

const isAlive = ({ state }: NodeEntry): boolean => state === NodeState.alive;

const aliveOf = ({ incarnation, name, at, meta, vsn }: Member): Alive => ({
  incarnation,
  node: name,
  at,
  meta,
  vsn,
});

export const entryOf = (member: Member): NodeEntry => ({ ...aliveOf(member), state: member.state });
