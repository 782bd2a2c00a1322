/**
 * Who a callsign means. Owns the bindings that were pinned at first sight or proven by the network's name authority, in
 * the store's `name` collection, and the conflicts over them. Must never let a second claimant take a name over, nor
 * stop its mail: the holder keeps it until it gives the name up, and then nobody has it before the operator has decided.
 * Configured bindings outrank all others and are never stored. Specified by docs/protocol/records.md, "Names".
 */
import type { Log } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { loadSound } from "../store/sound.ts";
import type { Store, StoreOp } from "../store/types.ts";
import { locationOf, parseCallsign } from "./address.ts";
import { type Entry, isHeld, isVouched, parseEntry, rowOf } from "./name-rows.ts";
import { hasNameProof, type NodeRecord, type Verify } from "./record.ts";

export {
  formatAddress,
  locationOf,
  parseAddress,
  parseCallsign,
  parseLocation,
  type Address,
} from "./address.ts";

/** Names held at most: a claim lives no longer than the record that made it (`forget`, `retain`), so records share the places. */
export const NAMES_MAX = 16_384;
/** Claimants remembered per name; one more changes nothing about the conflict. */
export const CLAIMANTS_MAX = 4;

/** Behind "NAME is". No decision on the two nodes that both carry a name reaches the others. */
export const OWN_NAME_ADVICE =
  "this node's own callsign, and each other node keeps to whom it saw first or its operator chose: change node.callsign of one of the two";

export type NameSource = "configured" | "authority" | "pinned";

/** One binding for people to look at. */
export interface NameBinding {
  readonly name: string;
  readonly node: NodeId;
  readonly source: NameSource;
  /** As of `NameResolution`. */
  readonly isVouched: boolean;
  /** False: it means nobody, and mail to it waits. */
  readonly isHeld: boolean;
  /** Another claimant. */
  readonly conflict: NodeId | null;
}

/** What `Names.conflicts` tells. */
export interface NameConflicts {
  readonly named: readonly NameBinding[];
  /** All, those that are not named here included. */
  readonly count: number;
  /** Of names that nobody holds: mail to them waits. */
  readonly vacantCount: number;
}

export type NameResolution =
  | {
      readonly kind: "node";
      readonly id: NodeId;
      readonly source: NameSource;
      /** By the configuration, the authority or the operator's decision: a name that rights may hang on. */
      readonly isVouched: boolean;
    }
  | { readonly kind: "unknown" }
  /** Its holder gave it up while others claimed it, or the authority signed it twice. Mail is held until `resolveConflict`. */
  | { readonly kind: "conflict"; readonly ids: readonly NodeId[] };

export interface NamesOptions {
  readonly store: Store;
  /** Canonical callsign to node: the operator's word. */
  readonly configured: ReadonlyMap<string, NodeId>;
  /** With an authority, only names that it signed count, and nothing is pinned. */
  readonly authority?: { readonly id: NodeId; readonly network: string; readonly verify: Verify };
  readonly namesMax?: number;
  readonly log?: Log;
  /** This node's own name: another claimant is told, like one of a configured name. */
  readonly own?: { readonly name: string; readonly id: NodeId };
  /** A second node claims the name, seen for the first time. Synchronous; must not throw. */
  readonly onConflict?: (name: string, holder: NodeId, claimant: NodeId) => void;
  /** Some name may resolve differently now. Synchronous; must not throw. */
  readonly onChange?: () => void;
}

export class Names {
  readonly #options: NamesOptions;
  #configured: ReadonlyMap<string, NodeId>;
  #configuredNodes: ReadonlySet<NodeId>;
  readonly #entries = new Map<string, Entry>();
  /** What each node claims among the entries; at most one name a node. */
  readonly #claimOf = new Map<NodeId, string>();
  readonly #byLocation = new Map<string, Set<string>>();
  /** Who else claims a configured name: shown, and otherwise without effect. */
  readonly #rivals = new Map<string, NodeId[]>();
  /** Names that several claim, and of them those that nobody holds, longest first: health asks without walking all names. */
  readonly #contested = new Set<string>();
  readonly #vacant = new Set<string>();
  /** Rows whose last write failed; they go along with the next. */
  readonly #unwritten = new Set<string>();
  #isFullLogged = false;

  constructor(options: NamesOptions) {
    this.#options = options;
    this.#configured = options.configured;
    this.#configuredNodes = new Set(options.configured.values());
    for (const name of options.configured.keys()) this.#index(name);
  }

  /**
   * The operator's word anew. Answers the names that mean somebody else by it, or may: what claims them has to be observed again by the
   * caller, who tells of the change as well.
   */
  configure(configured: ReadonlyMap<string, NodeId>): ReadonlySet<string> {
    const before = this.#configured;
    this.#configured = configured;
    this.#configuredNodes = new Set(configured.values());
    const names = [...before.keys(), ...configured.keys()];
    const changed = new Set(names.filter((name) => before.get(name) !== configured.get(name)));
    for (const name of changed) {
      this.#rivals.delete(name);
      if (configured.has(name)) this.#index(name);
      else if (!this.#entries.has(name)) this.#unindex(name);
      this.#noteConflict(name);
    }
    return changed;
  }

  /** The configuration has bound a name to it. */
  isConfigured(id: NodeId): boolean {
    return this.#configuredNodes.has(id);
  }

  /** Reads what was persisted; called once, before anything else. Unreadable rows are skipped. */
  async load(): Promise<void> {
    const rows = await loadSound(this.#options.store, "name", ({ key, meta }) => parseEntry(key, meta));
    for (const entry of rows) {
      // Where an authority was set up since, first sight does not count any more.
      if (this.#options.authority !== undefined && entry.source !== "authority") continue;
      this.#hold(entry);
      for (const id of entry.claimants) this.#claimOf.set(id, entry.name);
    }
  }

  /** Takes in a verified record, the newest known of its node. Of this node itself: none, its name is configured. */
  observe(record: NodeRecord): void {
    const { id } = record;
    const name = record.isRevoked ? undefined : record.callsign;
    const before = this.#claimOf.get(id);
    for (const [contested, rivals] of this.#rivals)
      if (contested !== name && rivals.includes(id))
        this.#rivals.set(
          contested,
          rivals.filter((rival) => rival !== id),
        );
    if (record.isRevoked) this.forget(id);
    else if (before !== undefined && before !== name) this.#withdraw(id, before);
    if (name === undefined) return;
    const { authority, own } = this.#options;
    const bound = this.#configured.get(name) ?? (own?.name === name ? own.id : undefined);
    if (bound !== undefined) {
      if (bound !== id) this.#noteRival(name, bound, id);
    } else if (authority === undefined) this.#claimAtSight(name, id);
    else if (hasNameProof(record, authority.id, authority.network, authority.verify))
      this.#claimByProof(name, id, record.nameProof!.serial);
  }

  /** The node claims nothing any more: revoked or blocked. Configured bindings stay. */
  forget(id: NodeId): void {
    for (const [name, rivals] of this.#rivals)
      this.#rivals.set(
        name,
        rivals.filter((rival) => rival !== id),
      );
    const name = this.#claimOf.get(id);
    if (name !== undefined) this.#withdraw(id, name);
  }

  /**
   * The record of the node gave its place to another: its claim goes, and with it a pin that it holds, whoever else claims that.
   * Nobody gave the name up, so nobody who waits for it gets it either: the next claim counts.
   */
  drop(id: NodeId): void {
    const entry = this.#entries.get(this.#claimOf.get(id) ?? "");
    if (entry?.source === "pinned" && entry.claimants[0] === id && !entry.isSettled) {
      for (const claimant of entry.claimants.slice(1)) this.#claimOf.delete(claimant);
      entry.claimants = [id];
    }
    this.forget(id);
  }

  /** Drops the claims of nodes that nothing is known of: those of throw-away keys would fill the table for good. */
  retain(isKept: (id: NodeId) => boolean): void {
    for (const [id, name] of [...this.#claimOf])
      if (!isKept(id) && this.#entries.get(name)?.isSettled !== true) this.drop(id);
  }

  /** Holds a name by the word of the authority or the operator. */
  isSigned(id: NodeId): boolean {
    const entry = this.#entries.get(this.#claimOf.get(id) ?? "");
    return entry?.claimants[0] === id && isVouched(entry);
  }

  /** The configuration or the authority has bound a name to it. */
  isBound(id: NodeId): boolean {
    const entry = this.#entries.get(this.#claimOf.get(id) ?? "");
    if (entry?.source === "authority" && entry.claimants[0] === id) return true;
    return this.isConfigured(id);
  }

  /** `name` in any case. */
  resolve(name: string): NameResolution {
    const canonical = parseCallsign(name);
    if (canonical === undefined) return { kind: "unknown" };
    const bound = this.#configured.get(canonical);
    if (bound !== undefined) return { kind: "node", id: bound, source: "configured", isVouched: true };
    const entry = this.#entries.get(canonical);
    const holder = entry?.claimants[0];
    if (entry === undefined || holder === undefined) return { kind: "unknown" };
    if (!isHeld(entry)) return { kind: "conflict", ids: [...entry.claimants] };
    return { kind: "node", id: holder, source: entry.source, isVouched: isVouched(entry) };
  }

  /**
   * The machines of a location whose name holds, in the order of their names, each once. Names in conflict have none. Where the configuration,
   * the authority or the operator said of any of them that it is there, or `isTrusted` of its node, only of those: who claims a name at the
   * location of another would else read what is for that, and could say that it has delivered it.
   */
  machinesAt(location: string, isTrusted: (id: NodeId) => boolean = () => false): NodeId[] {
    const vouched = new Set<NodeId>();
    const pinned = new Set<NodeId>();
    for (const name of [...(this.#byLocation.get(location.toUpperCase()) ?? [])].sort()) {
      const found = this.resolve(name);
      if (found.kind !== "node") continue;
      (found.isVouched || isTrusted(found.id) ? vouched : pinned).add(found.id);
    }
    return [...(vouched.size > 0 ? vouched : pinned)];
  }

  /**
   * The operator's decision: `id` has the name for good, until it gives it up itself. Resolves when durable. Rejects
   * with GODWIT_NAME_UNKNOWN, GODWIT_NAME_CONFLICT for a configured name and this node's own, or GODWIT_STORE_FAILED.
   */
  async resolveConflict(name: string, id: NodeId): Promise<void> {
    const canonical = parseCallsign(name);
    this.#refuseFixed(canonical);
    const entry = canonical === undefined ? undefined : this.#entries.get(canonical);
    if (entry === undefined)
      throw godwitError("GODWIT_NAME_UNKNOWN", `nobody claims ${JSON.stringify(name.slice(0, 40))}`);
    const settled: Entry = { ...entry, claimants: [id], isSettled: true, vacatedBy: undefined };
    await this.#options.store.commit([rowOf(settled)]);
    // What came in meanwhile is overruled too.
    for (const claimant of this.#entries.get(entry.name)?.claimants ?? []) this.#claimOf.delete(claimant);
    const elsewhere = this.#claimOf.get(id);
    if (elsewhere !== undefined) this.#withdraw(id, elsewhere);
    this.#hold(settled);
    this.#claimOf.set(id, settled.name);
    this.#options.onChange?.();
  }

  /**
   * Drops what was pinned at first sight, so that the next claim counts. Resolves when durable. Rejects with
   * GODWIT_NAME_UNKNOWN, or GODWIT_NAME_CONFLICT for this node's own name and one that the configuration or the authority binds.
   */
  async forgetPin(name: string): Promise<void> {
    const canonical = parseCallsign(name);
    const entry = canonical === undefined ? undefined : this.#entries.get(canonical);
    this.#refuseFixed(canonical);
    if (entry === undefined)
      throw godwitError("GODWIT_NAME_UNKNOWN", `nobody claims ${JSON.stringify(name.slice(0, 40))}`);
    // Its serial keeps older proofs from counting again: the authority moves the name, nobody else.
    if (entry.source === "authority")
      throw godwitError("GODWIT_NAME_CONFLICT", `${entry.name} is bound by the network's authority`);
    await this.#options.store.commit([{ op: "delete", in: "name", key: entry.name }]);
    for (const claimant of entry.claimants) this.#claimOf.delete(claimant);
    this.#entries.delete(entry.name);
    this.#unindex(entry.name);
    this.#noteConflict(entry.name);
    this.#isFullLogged = false;
    this.#options.onChange?.();
  }

  /** What the configuration says is changed there. */
  #refuseFixed(name: string | undefined): void {
    const { own } = this.#options;
    if (name === undefined) return;
    if (this.#configured.has(name))
      throw godwitError(
        "GODWIT_NAME_CONFLICT",
        `${name} is bound by the configuration; change [names] there`,
      );
    if (own?.name === name) throw godwitError("GODWIT_NAME_CONFLICT", `${name} is ${OWN_NAME_ADVICE}`);
  }

  /** Every binding, by name. */
  list(): NameBinding[] {
    const configured = [...this.#configured].map(([name, node]): NameBinding => {
      return { name, node, ...fixed, conflict: this.#rivals.get(name)?.[0] ?? null };
    });
    const held = [...this.#entries.values()].flatMap((entry) => this.#bindingOf(entry) ?? []);
    return [...configured, ...this.#ownContested(), ...held].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * The conflicts, at most `max` of them by name: those over which mail waits first, then the oldest. Costs as much as is asked for and what the
   * operator configured, however many names strangers claim.
   */
  conflicts(max: number): NameConflicts {
    // Whoever asks for health asks for this.
    if (this.#rivals.size + this.#vacant.size + this.#contested.size === 0) return NO_CONFLICTS;
    const configured = [...this.#rivals].flatMap(([name, [conflict]]): NameBinding[] => {
      const node = this.#configured.get(name);
      return node === undefined || conflict === undefined ? [] : [{ name, node, ...fixed, conflict }];
    });
    const bound = [...configured, ...this.#ownContested()];
    const names = new Set([...firstOf(this.#vacant, max), ...firstOf(this.#contested, max)]);
    const held = [...names].flatMap((name) => this.#bindingOf(this.#entries.get(name)!) ?? []);
    const vacant = held.filter(({ name }) => this.#vacant.has(name));
    const others = held.filter(({ name }) => !this.#vacant.has(name));
    return {
      named: [...vacant, ...bound, ...others].slice(0, max),
      count: bound.length + this.#contested.size,
      vacantCount: this.#vacant.size,
    };
  }

  #bindingOf(entry: Entry): NameBinding | undefined {
    const { name, claimants, source, vacatedBy } = entry;
    const [node, rival = null] = claimants;
    if (node === undefined || this.#configured.has(name)) return undefined;
    return vacatedBy === undefined
      ? { name, node, source, isVouched: isVouched(entry), isHeld: isHeld(entry), conflict: rival }
      : { name, node: vacatedBy, source, isVouched: false, isHeld: false, conflict: node };
  }

  #ownContested(): NameBinding[] {
    const { own } = this.#options;
    const rival = own === undefined ? undefined : this.#rivals.get(own.name)?.[0];
    return rival === undefined || this.#configured.has(own!.name)
      ? []
      : [{ name: own!.name, node: own!.id, ...fixed, conflict: rival }];
  }

  #claimAtSight(name: string, id: NodeId): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return this.#create({ ...blank, name, source: "pinned", claimants: [id] });
    if (entry.claimants.includes(id)) return;
    if (entry.vacatedBy === id) {
      // Nothing moved to another key meanwhile.
      entry.vacatedBy = undefined;
      entry.claimants.unshift(id);
      this.#claimOf.set(id, name);
      return this.#changed(entry);
    }
    if (entry.claimants.length === 0) {
      // Left from a time with an authority: the name is free.
      entry.source = "pinned";
      this.#add(entry, id);
    } else if (!entry.isSettled) this.#contest(entry, id);
  }

  #claimByProof(name: string, id: NodeId, serial: number): void {
    const entry = this.#entries.get(name);
    if (entry === undefined)
      return this.#create({ ...blank, name, source: "authority", claimants: [id], serial });
    if (serial < entry.serial) return;
    if (serial > entry.serial) {
      for (const claimant of entry.claimants) this.#claimOf.delete(claimant);
      this.#claimOf.set(id, name);
      Object.assign(entry, { claimants: [id], serial, isSettled: false, vacatedBy: undefined });
      return this.#changed(entry);
    }
    if (entry.claimants.includes(id)) return;
    if (entry.claimants.length === 0) this.#add(entry, id);
    else if (!entry.isSettled) this.#contest(entry, id);
  }

  #create(entry: Entry): void {
    if (this.#entries.size >= (this.#options.namesMax ?? NAMES_MAX)) {
      if (!this.#isFullLogged) this.#options.log?.warn("name table is full", { names: this.#entries.size });
      this.#isFullLogged = true;
      return;
    }
    this.#hold(entry);
    this.#claimOf.set(entry.claimants[0]!, entry.name);
    this.#changed(entry);
  }

  #add(entry: Entry, id: NodeId): void {
    entry.claimants.push(id);
    this.#claimOf.set(id, entry.name);
    this.#changed(entry);
  }

  #contest(entry: Entry, id: NodeId): void {
    if (entry.claimants.length >= CLAIMANTS_MAX) return;
    const holder = entry.claimants[0]!;
    this.#add(entry, id);
    this.#options.onConflict?.(entry.name, holder, id);
  }

  #withdraw(id: NodeId, name: string): void {
    this.#claimOf.delete(id);
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    const isHolder = entry.claimants[0] === id && entry.vacatedBy === undefined;
    entry.claimants = entry.claimants.filter((claimant) => claimant !== id);
    if (entry.claimants.length === 0) entry.isSettled = false;
    else if (isHolder && entry.source === "pinned") entry.vacatedBy = id;
    // The serial of a proof must outlive its holder, or an older proof would count again.
    if (entry.claimants.length === 0 && entry.source === "pinned") {
      this.#entries.delete(name);
      this.#isFullLogged = false;
      if (!this.#configured.has(name)) this.#unindex(name);
    }
    this.#changed(entry);
  }

  #noteRival(name: string, holder: NodeId, claimant: NodeId): void {
    const rivals = this.#rivals.get(name) ?? [];
    if (rivals.includes(claimant) || rivals.length >= CLAIMANTS_MAX) return;
    this.#rivals.set(name, [...rivals, claimant]);
    this.#options.onConflict?.(name, holder, claimant);
  }

  #hold(entry: Entry): void {
    this.#entries.set(entry.name, entry);
    this.#index(entry.name);
    this.#noteConflict(entry.name);
  }

  /** Call after every change of an entry. */
  #noteConflict(name: string): void {
    const entry = this.#entries.get(name);
    const isContested =
      entry !== undefined &&
      !this.#configured.has(name) &&
      entry.claimants.length > (entry.vacatedBy === undefined ? 1 : 0);
    if (isContested) this.#contested.add(name);
    else this.#contested.delete(name);
    if (isContested && !isHeld(entry)) this.#vacant.add(name);
    else this.#vacant.delete(name);
  }

  #index(name: string): void {
    const location = locationOf(name);
    const names = this.#byLocation.get(location) ?? new Set();
    this.#byLocation.set(location, names.add(name));
  }

  #unindex(name: string): void {
    const location = locationOf(name);
    const names = this.#byLocation.get(location);
    names?.delete(name);
    if (names?.size === 0) this.#byLocation.delete(location);
  }

  /** Nobody waits: a pin lost in a crash is made again at the next sight. */
  #changed(entry: Entry): void {
    this.#noteConflict(entry.name);
    const names = [...this.#unwritten, entry.name];
    this.#unwritten.clear();
    const ops = names.map((name): StoreOp => {
      const held = this.#entries.get(name);
      return held === undefined ? { op: "delete", in: "name", key: name } : rowOf(held);
    });
    this.#options.store.commit(ops).catch(() => {
      for (const name of names) if (this.#unwritten.size < NAMES_MAX) this.#unwritten.add(name);
    });
    this.#options.onChange?.();
  }
}

const NO_CONFLICTS: NameConflicts = { named: [], count: 0, vacantCount: 0 };

function* firstOf<T>(all: Iterable<T>, max: number): Generator<T, void> {
  let left = max;
  for (const one of all) {
    if (left-- <= 0) return;
    yield one;
  }
}

const fixed = { source: "configured", isVouched: true, isHeld: true } as const;
const blank = { isSettled: false, serial: 0, vacatedBy: undefined };
