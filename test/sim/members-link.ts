/**
 * One connection of the membership world: two real links (runtime/peer/link.ts) over a stream that loses packets and
 * sends them again the way TCP does, so that loss becomes delay.
 */
import type { Random } from "@godwit/sdk";
import type { ManualClock } from "../../runtime/kernel/clock.ts";
import { Link } from "../../runtime/peer/link.ts";
import type { Hello } from "../../runtime/wire/peer-messages.ts";
import type { Session } from "../../runtime/link/types.ts";
import type { MemberNode } from "./members-world.ts";

/** First retransmission of TCP on Linux, ms; doubled at each loss. */
const RTO_MS = 200;
const BASE_DELAY_MS = { least: 0.3, most: 3 } as const;
const HELLO: Hello = {
  versionMin: 1,
  versionMax: 1,
  bootId: new Uint8Array(8),
  storeEpoch: new Uint8Array(8),
  record: new Uint8Array(0),
};

/** Delay of one packet over a path that loses this share of them. */
export function streamDelayMs(random: Random, loss: number, hops = 1): number {
  let delayMs = 0;
  for (let hop = 0; hop < hops; hop++) {
    delayMs += BASE_DELAY_MS.least + random.float() * (BASE_DELAY_MS.most - BASE_DELAY_MS.least);
    for (let rtoMs = RTO_MS; random.float() < loss; rtoMs *= 2) delayMs += rtoMs;
  }
  return delayMs;
}

export class Connection {
  readonly a: MemberNode;
  readonly b: MemberNode;
  readonly links = new Map<MemberNode, Link>();
  readonly #clock: ManualClock;
  readonly #random: Random;
  readonly #loss: () => number;
  readonly #ended: (connection: Connection) => void;
  readonly #lastAtMs = new Map<MemberNode, number>();
  isCut = false;

  constructor(
    ends: readonly [MemberNode, MemberNode],
    deps: { clock: ManualClock; random: Random; loss(): number; ended(connection: Connection): void },
  ) {
    [this.a, this.b] = ends;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#loss = () => deps.loss();
    this.#ended = (connection) => deps.ended(connection);
    for (const node of ends) this.links.set(node, this.#openLink(node, this.other(node)));
  }

  other(node: MemberNode): MemberNode {
    return node === this.a ? this.b : this.a;
  }

  /** Both processes still hold the connection. */
  get isUp(): boolean {
    return this.links.size === 2;
  }

  send(from: MemberNode, frame: Uint8Array): void {
    if (!this.links.has(from) || this.isCut) return;
    const to = this.other(from);
    const nowMs = this.#clock.monotonicMs();
    const atMs = Math.max(this.#lastAtMs.get(to) ?? 0, nowMs + streamDelayMs(this.#random, this.#loss()));
    this.#lastAtMs.set(to, atMs);
    this.#clock.after(atMs - nowMs, () => {
      if (this.isCut) return;
      to.dispatch(() => {
        const link = this.links.get(to);
        if (link !== undefined) to.onFrame(this, link, frame);
      });
    });
  }

  /** One end lets go: its process died, or it heard nothing. The other end is told by a reset, if it can hear. */
  end(by: MemberNode, how: "closed" | "silent"): void {
    if (!this.#detach(by, how)) return;
    const far = this.other(by);
    if (!this.isCut) this.#clock.after(1, () => far.dispatch(() => this.#detach(far, "closed")));
    this.#ended(this);
  }

  #detach(node: MemberNode, how: "closed" | "silent"): boolean {
    const link = this.links.get(node);
    if (link === undefined) return false;
    link.stop();
    this.links.delete(node);
    node.onLinkDown(this, how);
    return true;
  }

  #openLink(node: MemberNode, far: MemberNode): Link {
    const session: Session = {
      remote: far.id,
      direction: node === this.a ? "outbound" : "inbound",
      remoteEndpoint: "sim://far",
      localEndpoint: "sim://near",
      version: 1,
      linkClass: "fast",
      rateBitsPerSecond: 1e8,
      isReliable: true,
      frameBytesMax: 61_440,
      bufferedBytes: 0,
      bytesSent: 0,
      bytesReceived: 0,
      open() {},
      send: (frame) => (this.send(node, frame.slice()), true),
      flush() {},
      pause() {},
      close() {},
    };
    return new Link(session, HELLO, {
      clock: node.clock,
      random: this.#random,
      events: {
        dead: () => this.end(node, "silent"),
        quiet: () => node.members.neighbourQuiet(far.id),
        measured() {},
      },
    });
  }
}
