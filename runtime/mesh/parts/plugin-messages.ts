/**
 * Small messages between the plugins of two linked nodes. Bounded in size and, for what comes in, in rate; what is
 * beyond is dropped and counted. Never answers, never forwards. docs/protocol/frames.md.
 */
import type { Clock } from "@godwit/sdk";
import type { NodeId } from "../../kernel/ids.ts";
import type { Metrics } from "../../kernel/metrics.ts";
import type { Regard } from "../../kernel/room.ts";
import { SharedMap } from "../../kernel/shared-map.ts";
import { FrameType, PLUGIN_MESSAGE_BYTES_MAX } from "../../wire/constants.ts";
import type { PartOf, PartContext } from "../part.ts";
import { decodePluginMessage, encodePluginMessage } from "../../wire/plugin-messages.ts";

/** Taken from one neighbour: at once, and after that each second. */
const MESSAGES_AT_ONCE = 32;
const MESSAGES_PER_SECOND = 1;
/** Neighbours, and those that went with less than they may have: throw-away ones push out their own kind. */
export const SENDERS_MAX = 4_096;

export interface PluginMessagesDeps {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly regard: Regard;
  /** False: no link, or no room. */
  send(to: NodeId, frame: Uint8Array): boolean;
}

export type MessageHandler = (from: NodeId, message: Uint8Array) => void;

export class PluginMessages {
  readonly #deps: PluginMessagesDeps;
  readonly #handlers = new Map<string, Set<MessageHandler>>();
  /** By neighbour, while it is one, and until it might send all of it again. */
  readonly #allowance = new SharedMap<NodeId, { left: number; atMs: number }>({
    name: "senders to plugins",
    max: SENDERS_MAX,
    worthOf: (id) => this.#deps.regard.worthOf(id),
  });
  readonly #messages;

  constructor(deps: PluginMessagesDeps) {
    this.#deps = deps;
    this.#messages = deps.metrics.counter("godwit_plugin_messages_total");
  }

  /** Neighbours of which it is remembered how much they sent. */
  get size(): number {
    return this.#allowance.size;
  }

  /** Borrows `message`. False: no link, too long, or no room. */
  send(to: NodeId, plugin: string, message: Uint8Array): boolean {
    return (
      message.length <= PLUGIN_MESSAGE_BYTES_MAX && this.#deps.send(to, encodePluginMessage(plugin, message))
    );
  }

  /** Answers what ends it. */
  subscribe(plugin: string, handler: MessageHandler): () => void {
    const handlers = this.#handlers.get(plugin) ?? new Set();
    this.#handlers.set(plugin, handlers.add(handler));
    return () => {
      handlers.delete(handler);
      if (handlers.size === 0 && this.#handlers.get(plugin) === handlers) this.#handlers.delete(plugin);
    };
  }

  /** Throws GODWIT_DECODE. */
  onFrame(from: NodeId, frame: Uint8Array): void {
    if (!this.#spend(from)) return this.#messages.add(1, { outcome: "limited" });
    const { plugin, message } = decodePluginMessage(frame);
    const handlers = this.#handlers.get(plugin);
    if (handlers === undefined) return this.#messages.add(1, { outcome: "unwanted" });
    this.#messages.add(1, { outcome: "taken" });
    for (const handler of [...handlers]) handler(from, new Uint8Array(message));
  }

  onPeerDown(id: NodeId): void {
    // A neighbour that comes and goes gains nothing by it while its bucket would be full anyway.
    if (this.#refilled(id).left >= MESSAGES_AT_ONCE) this.#allowance.delete(id);
  }

  #refilled(id: NodeId): { left: number; atMs: number } {
    const nowMs = this.#deps.clock.monotonicMs();
    const known = this.#allowance.get(id) ?? { left: MESSAGES_AT_ONCE, atMs: nowMs };
    const gained = ((nowMs - known.atMs) / 1_000) * MESSAGES_PER_SECOND;
    return { left: Math.min(MESSAGES_AT_ONCE, known.left + gained), atMs: nowMs };
  }

  #spend(id: NodeId): boolean {
    const { left, atMs } = this.#refilled(id);
    this.#allowance.set(id, { left: left >= 1 ? left - 1 : left, atMs }, this.#deps.regard.shareOf(id));
    return left >= 1;
  }
}

/** Priority of what plugins say to each other. */
const PRIORITY = 1;

export function pluginMessagesPart({ mesh, deps, kept }: PartContext): PartOf<PluginMessages> {
  const { clock, metrics } = deps;
  const messages = new PluginMessages({
    clock,
    metrics,
    regard: kept.acquaintances,
    send(to, frame) {
      const peer = mesh.peers.get(to);
      if (peer?.best === undefined || !mesh.peers.airtime.take(peer.best.session, frame.length, "other"))
        return false;
      return peer.send(PRIORITY, frame);
    },
  });
  return {
    engine: messages,
    frames: [
      {
        types: [FrameType.pluginMessage, FrameType.pluginMessage],
        take: (from, _type, frame) => messages.onFrame(from, frame),
      },
    ],
    peerDown: ({ id }) => messages.onPeerDown(id),
  };
}
