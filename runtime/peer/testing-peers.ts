/** A node of peers alone, linked with others of its kind. For tests only. */
import type { Airtime } from "../kernel/airtime.ts";
import type { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { EARLIER_RUN } from "../kernel/room.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { GoodbyeReason } from "../wire/peer-messages.ts";
import { Peers, PEERS_MAX } from "./peers.ts";

export const id = (n: number): NodeId => {
  const bytes = new Uint8Array(32).fill(n & 255);
  bytes[0] = n >> 8;
  bytes[1] = n >> 16;
  return formatNodeId(bytes);
};

export class Node {
  readonly id: NodeId;
  readonly log: string[] = [];
  readonly warnings: string[] = [];
  readonly blocked = new Set<NodeId>();
  /** Of this machine, by address. */
  readonly interfaces = new Map<string, string>();
  /** Records of others that it holds. */
  readonly known = new Map<NodeId, Uint8Array>();
  readonly welcome = new Set<NodeId>();
  metrics = new Metrics();
  peers: Peers;
  scope = new Scope("peers");
  throwsOnUp = false;
  isStandingDown = false;
  toldMs: number | undefined;
  room = PEERS_MAX;
  readonly #clock: ManualClock;
  readonly #airtime: Airtime | undefined;

  constructor(clock: ManualClock, n: number, boot = n, airtime?: Airtime) {
    this.#clock = clock;
    this.#airtime = airtime;
    this.id = id(n);
    this.peers = this.restart(boot);
  }

  restart(boot: number): Peers {
    this.scope = new Scope("peers");
    this.metrics = new Metrics();
    this.peers = new Peers({
      self: this.id,
      clock: this.scope.clock(this.#clock),
      random: seededRandom(boot),
      log: { ...silentLog, warn: (event) => void this.warnings.push(event) },
      metrics: this.metrics,
      signal: this.scope.signal,
      bootId: new Uint8Array(8).fill(boot),
      helloEpoch: () => new Uint8Array(8).fill(1),
      isStandingDown: () => this.isStandingDown,
      ownRecord: () => new Uint8Array(3),
      toldMs: () => this.toldMs,
      recordOf: (node) => this.known.get(node),
      isBlocked: (node) => this.blocked.has(node),
      interfaceOf: (address) => this.interfaces.get(address),
      regard: { worthOf: () => "none", shareOf: () => EARLIER_RUN },
      welcomeOf: (node) => (this.welcome.has(node) ? "known" : "stranger"),
      roomFor: () => this.room,
      airtime: this.#airtime,
      events: {
        up: (peer) => {
          this.log.push(`up ${peer.bootId.slice(0, 2)}`);
          if (this.throwsOnUp) throw new Error("bug");
        },
        doubted: ({ isDoubted }) => this.log.push(isDoubted ? "in doubt" : "in doubt no more"),
        down: (_peer, reason) => this.log.push(`down: ${reason}`),
        linkUp: () => this.log.push("link up"),
        linkDown: (_peer, _link, reason) => this.log.push(`link down: ${reason}`),
        measured() {},
        frame: (_peer, type) => {
          if (type === 0x7f) throw new Error("bad frame");
          this.log.push(`frame ${type}`);
        },
        double: () => this.log.push("double"),
        storeLost: () => this.log.push("store lost"),
        record: () => this.log.push("record"),
        clock: (node, wallMs) => this.log.push(`clock of ${node === id(1) ? 1 : 2}: ${wallMs}`),
        writable: () => this.log.push("writable"),
      },
    });
    const { peers } = this;
    this.scope.own(() => peers.disconnectAll(GoodbyeReason.stopping));
    return peers;
  }
}
