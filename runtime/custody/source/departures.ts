/**
 * From a message in memory to bundles with the forwarder: sealed when its address means somebody, held once that is durable, else
 * waiting for names and records. Never decides that a message has ended, but for one that turns out to be for this very node.
 */
import type { Timer } from "@godwit/sdk";
import type { NodeId } from "../../kernel/ids.ts";
import { deadlineOf, type CustodyContext } from "../context.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import type { Relayed } from "../backlog.ts";
import type { OutboxEntries } from "./entries.ts";
import { finalStates, type Live, type OutboxEntry, type OutboxState, type Target } from "./entry.ts";
import { putEntry } from "./entry-row.ts";
import { type OutboxSealer, SEAL_RETRY_MS, SEALED_AT_ONCE } from "./seal.ts";
import { Waiting } from "./waiting.ts";

export interface DeparturesDeps {
  /** It was addressed to this very node. Resolves when it is delivered durably, and ended. */
  deliverHere(live: Live, body: Uint8Array): Promise<void>;
  /** It waited, and its life is over. */
  waitedOut(live: Live): void;
}

export class Departures {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #sealer: OutboxSealer;
  readonly #entries: OutboxEntries;
  readonly #deps: DeparturesDeps;
  readonly #waiting: Waiting;
  readonly #toSeal = new Set<Live>();
  /** Being sealed. One that is to be sealed anew meanwhile comes after that, in `#toSeal`. */
  readonly #sealing = new Set<Live>();
  /** Sealed, and not with the forwarder until that is durable. */
  readonly #unheld = new Set<Live>();
  #isSealing = false;
  #retry: Timer | undefined;

  constructor(
    ctx: CustodyContext,
    forwarder: Forwarder,
    sealer: OutboxSealer,
    entries: OutboxEntries,
    deps: DeparturesDeps,
  ) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#sealer = sealer;
    this.#entries = entries;
    this.#deps = deps;
    this.#waiting = new Waiting(ctx.clock, (id) => {
      const live = entries.get(id);
      if (live !== undefined) deps.waitedOut(live);
    });
  }

  /** Open messages that are sealed to `node`, and may go to whom their address means now. */
  sealedTo(node: NodeId): Live[] {
    const lives = new Set(this.#unheld);
    for (const { messageId } of this.#forwarder.toward(node)) {
      const live = messageId === undefined ? undefined : this.#entries.get(messageId);
      if (live !== undefined) lives.add(live);
    }
    return [...lives].filter(
      ({ entry }) =>
        !finalStates.includes(entry.state) &&
        entry.targets.some((target) => target.node === node) &&
        !this.isElsewhere(entry, node),
    );
  }

  /** It waits for a name, is being sealed, or that is being written. */
  isBusy(live: Live): boolean {
    const { to, id } = live.entry;
    if (this.#unheld.has(live) || this.#toSeal.has(live) || this.#sealing.has(live)) return true;
    return this.#waiting.has(to, id);
  }

  /** A location that this machine is part of: any machine there will do, and none is nearer. */
  isForHere({ to, failover }: OutboxEntry): boolean {
    const resolution = this.#ctx.directory.resolve(to, failover);
    return resolution.kind === "nodes" && resolution.nodes.includes(this.#ctx.self);
  }

  /** Fills `targets` when the address resolves. */
  seal({ entry }: Live, body: Uint8Array): void {
    const resolution = this.#ctx.directory.resolve(entry.to, entry.failover);
    if (resolution.kind === "nodes")
      this.#entries.setTargets(entry, this.#sealer.seal(entry, resolution.nodes, body));
  }

  /** Seals and hands to the forwarder if the address means somebody now; else it waits. `relayed`: it was handed on before. */
  activate(live: Live, state: OutboxState, relayed?: Relayed): void {
    const { entry } = live;
    if (entry.targets.length > 0) return this.hold(live, state, relayed);
    const reason = this.#sealer.whyNotYet(entry);
    entry.reason = reason;
    if (reason !== null) {
      this.#wait(live);
      return this.#ctx.regard.waits(entry.to, this.#waiting);
    }
    this.#waiting.delete(entry.to, entry.id);
    this.#toSeal.add(live);
    void this.#sealQueued();
  }

  /** What it is sealed to comes in a while. */
  holdOnceSealed(live: Live, sealed: Promise<readonly Target[]>): void {
    void this.#sealAlone(live, sealed).then(() => this.#sealQueued());
  }

  hold(live: Live, state: OutboxState, relayed?: Relayed): void {
    this.#unheld.delete(live);
    for (const target of live.entry.targets) {
      const holding = this.#sealer.holding(live, target, state);
      if (relayed === undefined) this.#forwarder.add(holding);
      else {
        const { via, relays } = relayed;
        const before = via === undefined ? {} : { relayedTo: via, offeredTo: [via] };
        const wakeAtMs = Number.POSITIVE_INFINITY;
        this.#forwarder.add({ ...holding, ...before, relays, state: "ready", wakeAtMs });
      }
    }
  }

  /** It has ended, or lies on the disk: nothing here has to do with it any more. */
  release(live: Live): void {
    const { entry } = live;
    this.#unheld.delete(live);
    this.#toSeal.delete(live);
    this.#waiting.delete(entry.to, entry.id);
    this.releaseTargets(entry);
  }

  /** Nobody is to get what it was sealed into. */
  releaseTargets({ targets }: OutboxEntry): void {
    for (const target of targets) {
      this.#forwarder.remove(target.bundle);
      this.#sealer.forget(target);
    }
  }

  /** One machine of several cannot open its copy: that copy goes, the message lives while another is under way. */
  isElsewhere({ targets }: OutboxEntry, refuser: NodeId): boolean {
    if (targets.length < 2) return false;
    for (const { node, bundle } of targets) if (node === refuser) this.#forwarder.remove(bundle);
    return targets.some(({ bundle }) => this.#forwarder.get(bundle) !== undefined);
  }

  /** Names or records changed: what waited for them may go now. */
  onDirectory(): void {
    for (const address of this.#waiting.addresses) {
      if (this.#ctx.directory.resolve(address, false).kind === "unknown") continue;
      for (const id of this.#waiting.under(address)) {
        const live = this.#entries.get(id);
        if (live !== undefined) this.activate(live, "queued");
      }
    }
  }

  /** Time off was confirmed: what is not with the forwarder ends sooner. */
  onTimePassed(): void {
    for (const { entry } of this.#entries.values())
      this.#waiting.bringForward(entry.to, entry.id, deadlineOf(this.#ctx, entry));
  }

  /** Why an open message is still here, in words. */
  waitReason(entry: OutboxEntry): string | null {
    if (entry.reason !== null || finalStates.includes(entry.state)) return entry.reason;
    let isQueued = this.#entries.get(entry.id) === undefined;
    for (const target of entry.targets) {
      const holding = this.#forwarder.get(target.bundle);
      if (holding?.waitReason !== undefined) return holding.waitReason;
      isQueued ||= holding?.state === "ready";
    }
    if (!isQueued || entry.state === "relayed") return null;
    for (const { node } of entry.targets) {
      const first = firstToward(this.#forwarder, node);
      if (first !== undefined) return `behind others: ${first}`;
    }
    return this.#sealer.whyNotYet(entry) ?? "behind others to the same address";
  }

  stop(): void {
    this.#waiting.stop();
    this.#retry?.cancel();
  }

  /** A name that comes to mean somebody may set thousands free: their bodies pass through memory a few at a time. */
  async #sealQueued(): Promise<void> {
    if (this.#isSealing) return;
    this.#isSealing = true;
    for (;;) {
      const free = this.#toSeal.values().filter((live) => !this.#sealing.has(live));
      const some = [...free.take(SEALED_AT_ONCE)];
      if (some.length === 0) break;
      for (const live of some) this.#toSeal.delete(live);
      await Promise.all(some.map((live) => this.#sealAlone(live)));
    }
    this.#isSealing = false;
  }

  async #sealAlone(live: Live, sealed?: Promise<readonly Target[]>): Promise<void> {
    this.#sealing.add(live);
    await this.#sealOne(live, sealed);
    this.#sealing.delete(live);
  }

  /** `sealed`: what it was sealed to meanwhile; else from the store. */
  async #sealOne(live: Live, sealed?: Promise<readonly Target[]>): Promise<void> {
    const { entry } = live;
    try {
      if (sealed !== undefined) return await this.#takeSealed(live, await sealed);
      const body = await this.#sealer.body(entry);
      if (body === undefined || !isToBeSealed(live)) return;
      if (this.isForHere(entry)) return await this.#deps.deliverHere(live, body);
      const slowly = this.#sealer.sealMeanwhile(entry, body);
      if (slowly !== undefined) return await this.#takeSealed(live, await slowly);
      this.seal(live, body);
      await this.#holdSealed(live);
    } catch (error) {
      entry.reason = "the store cannot read it now";
      this.#ctx.log.warn("sealing failed", {
        message: entry.id,
        error: error instanceof Error ? error : String(error),
      });
      this.#wait(live);
      this.#retry ??= this.#ctx.clock.after(SEAL_RETRY_MS, () => {
        this.#retry = undefined;
        this.onDirectory();
      });
    }
  }

  async #holdSealed(live: Live): Promise<void> {
    const { entry } = live;
    const { targets } = entry;
    if (targets.length === 0) return this.#wait(live);
    this.#unheld.add(live);
    await this.#ctx.store.commit([putEntry(entry)]);
    // What it is sealed to by now may not be durable.
    if (!finalStates.includes(entry.state) && entry.targets === targets) this.hold(live, entry.state);
  }

  async #takeSealed(live: Live, targets: readonly Target[]): Promise<void> {
    const { entry } = live;
    if (!isToBeSealed(live)) return;
    // Its address means others by now.
    if (!this.#sealer.isStillFor(entry, targets)) return this.activate(live, "queued");
    this.#entries.setTargets(entry, targets);
    await this.#holdSealed(live);
  }

  #wait({ entry }: Live): void {
    this.#waiting.add(entry.to, entry.id, deadlineOf(this.#ctx, entry));
  }
}

/** Neither sealed nor ended, nor is its withdrawal on its way to the disk: a row that says that it is open must not come after that. */
const isToBeSealed = ({ entry, isEnding }: Live): boolean =>
  !finalStates.includes(entry.state) && entry.targets.length === 0 && isEnding !== true;

function firstToward(forwarder: Forwarder, node: NodeId): string | undefined {
  for (const { waitReason } of forwarder.toward(node)) return waitReason;
  return undefined;
}
