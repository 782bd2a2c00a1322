/** Whom a radio knows: its database of nodes, bounded as the firmware's. */
import type { Mesh, Telemetry } from "@meshtastic/protobufs";
import { lastByte } from "./lora-frame.ts";
import { hopsTaken, type Packet } from "./packet.ts";

/** The one heard of longest ago makes room. */
export const NODES_MAX = 200;

export interface KnownNode {
  readonly num: number;
  user: Mesh.User | undefined;
  snr: number;
  /** Seconds since 1970; 0: never. */
  lastHeard: number;
  hopsAway: number | undefined;
  viaMqtt: boolean;
  /** Last byte of whom to go by; 0: nobody is known. */
  nextHop: number;
  /** Index of the channel that it was heard on. */
  channel: number;
  position: Mesh.Position | undefined;
  metrics: Telemetry.DeviceMetrics | undefined;
  hasSigned: boolean;
  isFavorite: boolean;
}

export class NodeDb {
  readonly #nodes = new Map<number, KnownNode>();
  readonly #own: () => number;

  constructor(own: () => number) {
    this.#own = own;
  }

  get size(): number {
    return this.#nodes.size;
  }

  /** Its own first. */
  get all(): readonly KnownNode[] {
    const own = this.#own();
    return [...this.#nodes.values()].sort((a, b) => Number(b.num === own) - Number(a.num === own));
  }

  get(num: number): KnownNode | undefined {
    return this.#nodes.get(num);
  }

  /** Made if it is not there. */
  touch(num: number): KnownNode {
    const known = this.#nodes.get(num);
    if (known !== undefined) return known;
    if (this.#nodes.size >= NODES_MAX) this.#evict();
    const node: KnownNode = {
      num,
      user: undefined,
      snr: 0,
      lastHeard: 0,
      hopsAway: undefined,
      viaMqtt: false,
      nextHop: 0,
      channel: 0,
      position: undefined,
      metrics: undefined,
      hasSigned: false,
      isFavorite: false,
    };
    this.#nodes.set(num, node);
    return node;
  }

  forget(num: number): void {
    this.#nodes.delete(num);
  }

  /** It was heard, directly or not. */
  update(packet: Packet): void {
    if (packet.from === this.#own()) return;
    const node = this.touch(packet.from);
    node.lastHeard = packet.rxTime;
    node.viaMqtt = packet.viaMqtt;
    const hops = hopsTaken(packet);
    if (hops !== undefined) node.hopsAway = hops;
    if (hops === 0) node.snr = packet.rxSnr;
    if (packet.payloadVariant.case === "decoded") node.channel = packet.channel;
  }

  keyOf(num: number): Uint8Array | undefined {
    const key = this.#nodes.get(num)?.user?.publicKey;
    return key?.length === 32 ? key : undefined;
  }

  /** Whether exactly one node that is heard directly, or any at all, ends with this byte. */
  isUnique(byte: number, isDirect: boolean): boolean {
    let found = 0;
    for (const { num, hopsAway } of this.#nodes.values())
      if (num !== this.#own() && lastByte(num) === byte && (!isDirect || hopsAway === 0)) found++;
    return found === 1;
  }

  #evict(): void {
    let oldest: KnownNode | undefined;
    for (const node of this.#nodes.values())
      if (node.num !== this.#own() && (oldest === undefined || node.lastHeard < oldest.lastHeard))
        oldest = node;
    if (oldest !== undefined) this.#nodes.delete(oldest.num);
  }
}
