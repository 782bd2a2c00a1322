/**
 * Seals the messages of the outbox, one bundle for each machine they may go to. The same message, machine and key give
 * the same bytes, so the store keeps only the plain body and a re-offer after a restart is still the same bundle.
 */
import { STORE_EPOCH_BYTES } from "../../wire/peer-messages.ts";
import { formatHex, idBytes, NODE_ID_CHARS, parseHex, type NodeId } from "../../kernel/ids.ts";
import { bundleIdOf, BundleKind, encodeBundleHeader, type BundleHeader } from "../../wire/bundle.ts";
import { encodeInnerMessage, MACHINES_MAX } from "../../wire/message.ts";
import type { BodyCache } from "../body-cache.ts";
import { type CustodyContext, deadlineOf, type Holding, type SealKey } from "../context.ts";
import type { Live, OutboxEntry, OutboxState, Target } from "./entry.ts";

/** A recipient that loses its keys more often than this for one message does not get it. */
const RESEALS_MAX = 8;
/** What the store could not read or write when it was to be sealed is tried again after this. */
export const SEAL_RETRY_MS = 5_000;
/** Bodies read and sealed at one time. */
export const SEALED_AT_ONCE = 16;

export class OutboxSealer {
  readonly #ctx: CustodyContext;
  readonly #cache: BodyCache;
  readonly #damaged: (entry: OutboxEntry) => void;

  constructor(ctx: CustodyContext, cache: BodyCache, damaged: (entry: OutboxEntry) => void) {
    this.#ctx = ctx;
    this.#cache = cache;
    this.#damaged = damaged;
  }

  /** Why a message cannot be sealed now, in words; null when it can. */
  whyNotYet({ to, failover, lostKeys }: OutboxEntry): string | null {
    const resolution = this.#ctx.directory.resolve(to, failover);
    switch (resolution.kind) {
      case "unknown":
        return `nobody called ${to} has been heard of yet`;
      case "conflict":
        return `nobody holds the name ${to}, and others claim it: settle it with godwit names resolve`;
      case "nodes": {
        const isLost = (node: NodeId): boolean => {
          const key = lostKeys === undefined ? undefined : this.#ctx.sealer.keyFor(node);
          return key !== undefined && lostKeys!.includes(formatHex(key.publicKey));
        };
        return resolution.nodes.some(isLost)
          ? "the recipient has lost its keys: waiting for its new record"
          : null;
      }
    }
  }

  /** Whoever it is for keeps a place in every table, or its record might find none and the mail would wait for it for ever. */
  wrote({ to, targets }: OutboxEntry): void {
    if (to.length === NODE_ID_CHARS) this.#ctx.regard.wrote(to as NodeId);
    const nodes = targets.map(({ node }) => node);
    for (const one of addressed(to, nodes)) this.#ctx.regard.wrote(one);
  }

  /** Seals to each machine under its current key; the bytes stay in the cache for the first offer. */
  seal(entry: OutboxEntry, machines: readonly NodeId[], body: Uint8Array): Target[] {
    const nodes = machines.slice(0, MACHINES_MAX);
    for (const node of addressed(entry.to, nodes)) this.#ctx.regard.wrote(node);
    return nodes.map((node) => {
      const key = this.#ctx.sealer.keyFor(node);
      const sealed = this.#sealTo(entry, node, nodes, key, body);
      const bundle = bundleIdOf(encodeBundleHeader(this.header(entry, node)), sealed);
      this.#cache.put(bundle, sealed);
      return {
        node,
        bundle,
        sealedBytes: sealed.length,
        key: key === undefined ? null : { id: key.keyId, publicHex: formatHex(key.publicKey) },
      };
    });
  }

  /** What was accepted; undefined, and told, when what is stored is something else. Rejects with GODWIT_STORE_FAILED. */
  async body(entry: OutboxEntry): Promise<Uint8Array | undefined> {
    const body = (await this.#ctx.store.body("outbox", entry.id)) ?? new Uint8Array(0);
    if (body.length === entry.size) return body;
    this.#damaged(entry);
    return undefined;
  }

  /** The sealed bytes, from memory or made again; undefined, and told, when they are not those that were sealed before. */
  load(entry: OutboxEntry, target: Target): Uint8Array | Promise<Uint8Array | undefined> {
    return this.#cache.get(target.bundle) ?? this.#reseal(entry, target);
  }

  async #reseal(entry: OutboxEntry, target: Target): Promise<Uint8Array | undefined> {
    const body = await this.body(entry);
    // Ended or sealed anew meanwhile.
    if (body === undefined || !entry.targets.includes(target)) return undefined;
    const nodes = entry.targets.map(({ node }) => node);
    const { key, node, bundle } = target;
    const sealKey = key === null ? undefined : { keyId: key.id, publicKey: parseHex(key.publicHex, 32)! };
    const sealed = this.#sealTo(entry, node, nodes, sealKey, body);
    if (bundleIdOf(encodeBundleHeader(this.header(entry, node)), sealed) === bundle) return sealed;
    this.#damaged(entry);
    return undefined;
  }

  /** What the forwarder holds of a message for one machine. */
  holding({ entry }: Live, target: Target, state: OutboxState): Holding {
    const { clock, limits, random } = this.#ctx;
    // After a restart it is not known who held it: offer again soon, but not all at once.
    const isRelayed = state === "relayed";
    return {
      id: target.bundle,
      header: this.header(entry, target.node),
      sealedBytes: target.sealedBytes,
      role: "source",
      messageId: entry.id,
      trace: [],
      hops: 0,
      deadlineMs: deadlineOf(this.#ctx, entry),
      lifetime: entry,
      state: isRelayed ? "relayed" : "ready",
      wakeAtMs: isRelayed
        ? clock.monotonicMs() + limits.reofferFirstMs * random.float()
        : Number.POSITIVE_INFINITY,
      load: () => this.load(entry, target),
      waitReason: undefined,
    };
  }

  forget(target: Target): void {
    this.#cache.delete(target.bundle);
  }

  header(entry: OutboxEntry, node: NodeId): BundleHeader {
    const { priority, lifetimeMs } = entry;
    return { kind: BundleKind.message, priority, source: this.#ctx.self, destination: node, lifetimeMs };
  }

  #sealTo(
    entry: OutboxEntry,
    node: NodeId,
    nodes: readonly NodeId[],
    key: SealKey | undefined,
    body: Uint8Array,
  ): Uint8Array {
    const plaintext = encodeInnerMessage({
      mailEpoch: parseHex(entry.epoch, STORE_EPOCH_BYTES)!,
      counter: entry.counter,
      to: entry.to,
      createdAtMs: entry.createdAtMs,
      machines: nodes.length > 1 ? nodes : [],
      failoverDelayMs: entry.failoverDelayMs,
      subject: entry.subject,
      contentType: entry.contentType,
      body,
    });
    const associated = encodeBundleHeader(this.header(entry, node));
    return this.#ctx.sealer.seal(node, key, plaintext, associated, idBytes(entry.id));
  }
}

/**
 * The recipient signed that it cannot open what it got: its store is gone, and its prekeys with it. Nobody else could have opened it,
 * so it may be sealed anew to the next key. False where no other key would help.
 */
export function loseKey(entry: OutboxEntry): boolean {
  const { targets, lostKeys = [] } = entry;
  const key = targets[0]?.key;
  if (targets.length !== 1 || key === null || key === undefined || lostKeys.length >= RESEALS_MAX)
    return false;
  entry.lostKeys = [...lostKeys, key.publicHex];
  return true;
}

/** Whom a sender means: of an address of one machine that one, and not those that may take its place. Locations have no hyphen. */
const addressed = (to: string, nodes: readonly NodeId[]): readonly NodeId[] =>
  to.includes("-") || to.length === NODE_ID_CHARS ? nodes.slice(0, 1) : nodes;
