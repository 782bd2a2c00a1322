/**
 * One machine of the simulated world: what survives (identity, disk, clocks) and at most one life of a node on it.
 * Lives start and end here: crash with unsynced writes lost, restart with old state, loss of the disk, standing still.
 */
import type { Airtime } from "../../runtime/kernel/airtime.ts";
import type { Pipe, Random } from "@godwit/sdk";
import { godwitError } from "../../runtime/kernel/errors.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { formatHex, type NodeId } from "../../runtime/kernel/ids.ts";
import type { Session } from "../../runtime/link/types.ts";
import type { MeshDeps } from "../../runtime/mesh/deps.ts";
import { Mesh } from "../../runtime/mesh/mesh.ts";
import { Hub } from "../../runtime/kernel/hub.ts";
import type { InboxEntry } from "../../runtime/custody/recipient/inbox.ts";
import type { OutboxEntry } from "../../runtime/custody/source/entry.ts";
import type { MeshEvents } from "../../runtime/mesh/events.ts";
import { sentOf } from "../../runtime/custody/testing.ts";
import type { CustodyLimits } from "../../runtime/custody/context.ts";
import type { Life as IdentityLife } from "../../runtime/membership/other-lives.ts";
import { openMemoryStore, SimDisk } from "../../runtime/store/memory.ts";
import { openNodeTime } from "../../runtime/time/kept.ts";
import type { Store } from "../../runtime/store/types.ts";
import { decodePacketHeader } from "../../runtime/wire/packet.ts";
import type { SimIdentity } from "./crypto.ts";
import { createSessions, endpointOf, type Edge, type EndHost, type SimSession } from "./links.ts";
import { SimMetrics } from "./metrics.ts";
import { Lineage, type Mark } from "./lineage.ts";
import { nodeClock, WORLD_START_MS, type SimTime } from "./time.ts";

/** A connection attempt that meets silence gives up after this, as an operating system's would, or after so many times the delay. */
const CONNECT_TIMEOUT_MS = 3_000;
const CONNECT_TIMEOUT_DELAYS = 4;
const RESTART_MS = 1_000;
export const NETWORK = "sim";
/** Copies of one disk that are kept. */
const COPIES_MAX = 8;
/** What damage takes: the mail itself. What counts and remembers is covered by the store's own suite. */
const DAMAGED = ["outbox", "inbox", "transit"] as const;

export interface SimNodeOptions {
  readonly index: number;
  readonly identity: SimIdentity;
  readonly callsign: string;
  readonly location: string;
  readonly seed: number;
  readonly time: SimTime;
  readonly limits: CustodyLimits;
  readonly commitDelayMs: number;
  /** What its next life is told otherwise than all others. */
  readonly settings?: () => Partial<MeshDeps>;
  /** Called once for each life. */
  readonly transport?: (life: Life) => LifeTransport;
}

/** How a life reaches others beside the edges: a transport of some world's own. */
export interface LifeTransport {
  readonly endpoint: string;
  readonly dialTimeoutMs: number;
  readonly airtime: Airtime;
  dials(endpoint: string): boolean;
  dial(endpoint: string, signal: AbortSignal): Pipe | Promise<Pipe>;
  handshake(pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal): Promise<Session>;
  /** Its mesh is open: who dials it from now on is let in. */
  listen(mesh: Mesh): void;
  /** The life is over, and whatever it had there. */
  end(): void;
}

/** What the world hears of its nodes. `mutate` is where tests plant bugs. */
export interface SimNodeEvents {
  delivered(entry: InboxEntry, body: Uint8Array): void;
  changed(entry: OutboxEntry): void;
  routeChanged(destination: NodeId): void;
  quarantined(offender: NodeId): void;
  opened(): void;
  ended(): void;
  /** Its disk was replaced or damaged; what it was `before`. */
  lost(before: SimDisk): void;
  /** What opens mail is gone from its disk, and no mail is. */
  lostKeys(): void;
  /** Opening failed in a way that no fault explains. */
  broken(reason: string): void;
  mutate?(mesh: Mesh): void;
}

export class SimNode {
  readonly index: number;
  readonly id: NodeId;
  readonly callsign: string;
  readonly location: string;
  readonly edges: Edge[] = [];
  disk = new SimDisk();
  /** What the disk can still know. */
  readonly lineage = new Lineage();
  /** Newest last. */
  #copies: { readonly disk: SimDisk; readonly at: Mark }[] = [];
  /** It runs beside this one, with a copy of its state. */
  readonly original: SimNode | undefined;
  readonly identity: SimIdentity;
  readonly #options: SimNodeOptions;
  readonly #resolve: (index: number) => SimNode;
  readonly #eventsOf: (node: SimNode) => SimNodeEvents;
  /** By which it starts; mail is written to `callsign`, which is the same as a rule. */
  startsAs: string;
  /** How often the disk was replaced or damaged. */
  diskEpoch = 0;
  wallOffsetMs = WORLD_START_MS;
  #offsetAtStartMs: number | undefined;
  isPowered = true;
  life: Life | undefined;
  #lives = 0;

  constructor(
    options: SimNodeOptions,
    resolve: (index: number) => SimNode,
    eventsOf: (node: SimNode) => SimNodeEvents,
    original?: SimNode,
  ) {
    this.original = original;
    this.#options = options;
    this.#resolve = resolve;
    this.#eventsOf = eventsOf;
    this.index = options.index;
    this.identity = options.identity;
    this.id = options.identity.id;
    this.callsign = options.callsign;
    this.startsAs = options.callsign;
    this.location = options.location;
  }

  /** Another machine, off, that can run a copy of this one's state. */
  clone(
    index: number,
    resolve: (index: number) => SimNode,
    eventsOf: (node: SimNode) => SimNodeEvents,
  ): SimNode {
    const clone = new SimNode(
      { ...this.#options, index, seed: this.#options.seed + index },
      resolve,
      eventsOf,
      this,
    );
    clone.isPowered = false;
    return clone;
  }

  /** The running mesh, once it is open. */
  get mesh(): Mesh | undefined {
    return this.life?.mesh;
  }

  /** What its outbox has of a message; undefined while it is off. */
  sent(id: string): OutboxEntry | undefined {
    const outbox = this.mesh?.custody.outbox;
    return outbox === undefined ? undefined : sentOf(outbox, this.disk, id);
  }

  /** What it knew of another machine under its identity when it decided to deliver a message, which is before that is durable. */
  lifeAtDelivery(id: string): IdentityLife | undefined {
    return this.life?.deliveries.get(id) ?? this.mesh?.otherLives.life;
  }

  /** An edge node: only slow media lead to it. */
  get isLeaf(): boolean {
    return this.edges.every((edge) => edge.isSlow);
  }

  get isUp(): boolean {
    return this.life?.mesh !== undefined;
  }

  start(): void {
    if (this.life !== undefined) return;
    if (this.#offsetAtStartMs !== undefined) this.wallOffsetMs = this.#offsetAtStartMs;
    this.#offsetAtStartMs = undefined;
    this.isPowered = true;
    const life = new Life(this, this.#options, ++this.#lives);
    this.life = life;
    life.open(this.#eventsOf(this), this.#resolve).catch((error: unknown) => {
      if ((error as { code?: string }).code !== "GODWIT_STORE_FAILED") return this.#onBug(error);
      // A full disk: the supervisor tries again.
      if (this.life !== life) return;
      this.crash("kill");
      this.#options.time.after(RESTART_MS, () => this.start());
    });
  }

  #onBug(error: unknown): void {
    this.#eventsOf(this).broken(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }

  /** `kill`: the machine lives and resets its connections. `power`: silence. Unsynced writes may be lost. */
  crash(how: "kill" | "power"): void {
    const life = this.life;
    if (life === undefined) return;
    this.life = undefined;
    this.isPowered = how === "kill";
    life.end(this.isPowered);
    this.disk.crash();
    this.#eventsOf(this).ended();
  }

  get copies(): number {
    return this.#copies.length;
  }

  /** What is durable now is kept as a copy; of more than `COPIES_MAX` the oldest goes. */
  backUp(): void {
    this.#copies = [...this.#copies, { disk: this.disk.copy(), at: this.lineage.mark() }].slice(-COPIES_MAX);
  }

  /** A copy, the last one unless told, is put back while the node is off; what came after it is gone. False: there is none. */
  restoreBackup(number = this.#copies.length - 1): boolean {
    const copy = this.#copies[number];
    if (copy === undefined) return false;
    const before = this.disk;
    // It stays a copy: it may be put back again.
    this.disk = copy.disk.copy();
    this.lineage.restore(copy.at);
    this.#noteLoss(before);
    return true;
  }

  /** This one, which is off, gets what is durable at its original now. */
  cloneOriginal(): void {
    const { disk, lineage } = this.original!;
    const before = this.disk;
    this.disk = disk.copy();
    this.lineage.restore(lineage.mark());
    this.#noteLoss(before);
  }

  /** The disk is replaced by an empty one while the node is off. */
  destroyDisk(): void {
    const before = this.disk.copy();
    this.disk.destroy();
    this.lineage.restore(undefined);
    this.#noteLoss(before);
  }

  /** Damage takes some rows while the node is off; answers which, as `<collection>/<key>`. */
  loseRows(count: number, random: Random): string[] {
    const before = this.disk.copy();
    const taken = this.disk.lose(DAMAGED, count, random);
    this.lineage.lose(taken);
    this.#noteLoss(before);
    return taken;
  }

  /** Sessions of received mail are gone, and with `andPrekeys` what they were agreed to: no mail is. While it is off. */
  loseSessions(andPrekeys: boolean): void {
    this.disk.forget("session", () => true);
    if (andPrekeys) this.disk.forget("setting", (key) => key.startsWith("prekey/"));
    this.#eventsOf(this).lostKeys();
  }

  #noteLoss(before: SimDisk): void {
    this.diskEpoch++;
    this.#eventsOf(this).lost(before);
  }

  /** Every second machine has a time source; it says the right time, whatever the clock shows. */
  get vouchedMs(): number | undefined {
    return this.index % 2 === 0 ? this.#options.time.nowMs + WORLD_START_MS : undefined;
  }

  /** The clock is set while the machine is off, before its next life. */
  jumpClockAtStart(offsetMs: number): void {
    this.#offsetAtStartMs = offsetMs;
  }

  jumpClock(offsetMs: number): void {
    this.wallOffsetMs = offsetMs;
  }
}

/** From one start to one crash. */
export class Life implements EndHost {
  readonly node: SimNode;
  readonly number: number;
  readonly metrics = new SimMetrics();
  readonly startedAtMs: number;
  readonly #options: SimNodeOptions;
  readonly #random: Random;
  /** What was known of another machine when a message was delivered, by message. */
  readonly deliveries = new Map<string, IdentityLife | undefined>();
  readonly #deferred: { kind: string; fn: () => void }[] = [];
  mesh: Mesh | undefined;
  readonly transport: LifeTransport | undefined;
  bootIdHex = "";
  isAlive = true;
  isFrozen = false;
  /** Routed packets: taken in for others, sent for itself, and of those handed to a neighbour. */
  readonly packets = { relayed: 0, arrived: 0, sent: 0, sentOk: 0 };

  constructor(node: SimNode, options: SimNodeOptions, number: number) {
    this.node = node;
    this.#options = options;
    this.number = number;
    this.#random = seededRandom(options.seed * 1_000 + number);
    this.startedAtMs = options.time.nowMs;
    this.transport = options.transport?.(this);
  }

  get index(): number {
    return this.node.index;
  }

  get id(): NodeId {
    return this.node.id;
  }

  get isPowered(): boolean {
    return this.node.isPowered;
  }

  get sessions(): SimSession[] {
    return this.node.edges.flatMap((edge) => [...edge.sessions].filter((session) => session.host === this));
  }

  dispatch(kind: string, fn: () => void): void {
    if (!this.isAlive) return;
    if (this.isFrozen) {
      this.#deferred.push({ kind, fn });
      return;
    }
    if (kind === "timer") this.#options.time.note(`${this.#options.time.nowMs} t ${this.index}`);
    fn();
  }

  freeze(): void {
    this.isFrozen = true;
  }

  /** What fell due meanwhile happens now, late, one event each. */
  thaw(): void {
    if (!this.isFrozen) return;
    this.isFrozen = false;
    for (const { kind, fn } of this.#deferred.splice(0))
      this.#options.time.after(0, () => this.dispatch(kind, fn));
    for (const session of this.sessions) session.readUnread();
  }

  end(isReset: boolean): void {
    this.isAlive = false;
    this.transport?.end();
    for (const session of this.sessions) {
      if (isReset) session.resetFar();
      session.vanish();
    }
  }

  #noteDeliveries(store: Store): void {
    const commit = store.commit.bind(store);
    store.commit = (ops) => {
      for (const { in: collection, op, key } of ops)
        if (collection === "inbox" && op === "put" && !this.deliveries.has(key))
          this.deliveries.set(key, this.mesh?.otherLives.life);
      return commit(ops);
    };
  }

  async open(events: SimNodeEvents, resolve: (index: number) => SimNode): Promise<void> {
    const { time, identity, location, limits, commitDelayMs } = this.#options;
    const { node } = this;
    const callsign = node.startsAs;
    const clock = nodeClock({
      time,
      node: this.index,
      dispatch: (kind, fn) => this.dispatch(kind, fn),
      wallOffsetMs: () => node.wallOffsetMs,
    });
    const random = this.#random;
    const store: Store = await openMemoryStore(node.disk, { clock, random, commitDelayMs });
    this.#noteDeliveries(store);
    const nodeTime = await openNodeTime({ store, clock, log: silentLog, vouched: () => node.vouchedMs });
    const mesh = await Mesh.open({
      identity,
      network: NETWORK,
      liveSecrets: () => [],
      callsign,
      location,
      clock,
      time: nodeTime,
      random,
      log: silentLog,
      metrics: this.metrics,
      store,
      limits,
      names: new Map(),
      trust: new Map(),
      trustRules: [],
      promoteAfterMs: undefined,
      linksWanted: 0,
      canDial: () => true,
      addresses: () => [],
      dialNetworks: [],
      hopCostMs: 0,
      verify: (id, bytes, signature) => identity.verify(id, bytes, signature),
      openSealing: (recordOf) =>
        identity.openSealing(
          { store, clock, random, network: NETWORK, callsign, onRotate: () => this.mesh?.onPrekey() },
          recordOf,
        ),
      ...(this.transport === undefined ? {} : { airtime: this.transport.airtime }),
      dialTimeoutMs: (endpoint) => this.#transportTo(endpoint)?.dialTimeoutMs,
      dial: (endpoint, signal) => {
        const transport = this.#transportTo(endpoint);
        if (transport === undefined) return this.#dial(endpoint, signal, resolve);
        return Promise.resolve().then(() => transport.dial(endpoint, signal));
      },
      handshake: (pipe, remote, signal) =>
        this.#transportTo(pipe.remote)?.handshake(pipe, remote, signal) ??
        this.#handshake(pipe, remote, signal, resolve),
      events: hubOf(events),
      system: () => Promise.resolve(),
      ...this.#options.settings?.(),
    });
    if (!this.isAlive) return;
    this.#countPackets(mesh);
    this.mesh = mesh;
    this.bootIdHex = formatHex(mesh.bootId);
    events.mutate?.(mesh);
    events.opened();
    this.transport?.listen(mesh);
    mesh.setEndpoints([
      ...(this.transport === undefined ? [] : [this.transport.endpoint]),
      ...node.edges.slice(0, 4).map((edge) => endpointOf(edge, this.index)),
    ]);
    for (const edge of node.edges) {
      // One end always dials; both may, and then they resolve the duplicate.
      if (edge.a !== this.index && edge.random.float() < 0.5) continue;
      mesh.hints.add(
        "static",
        { endpoint: endpointOf(edge, edge.other(this.index)), permanent: true },
        "operator",
      );
    }
    mesh.start();
  }

  #countPackets(mesh: Mesh): void {
    const { packets } = mesh;
    const onFrame = packets.onFrame.bind(packets);
    packets.onFrame = (from, frame) => {
      if (decodePacketHeader(frame).destination === this.id) this.packets.arrived++;
      else this.packets.relayed++;
      onFrame(from, frame);
    };
    // What the workload sends and what membership pings: both go out here.
    const send = packets.send.bind(packets);
    packets.send = (destination, kind, payload, options) => {
      const isSent = send(destination, kind, payload, options);
      if (destination === this.id) return isSent;
      this.packets.sent++;
      if (isSent) this.packets.sentOk++;
      return isSent;
    };
  }

  #transportTo(endpoint: string): LifeTransport | undefined {
    return this.transport?.dials(endpoint) === true ? this.transport : undefined;
  }

  #edgeTo(endpoint: string): Edge | undefined {
    return this.node.edges.find((edge) => endpointOf(edge, edge.other(this.index)) === endpoint);
  }

  #dial(endpoint: string, signal: AbortSignal, resolve: (index: number) => SimNode): Promise<Pipe> {
    const edge = this.#edgeTo(endpoint);
    if (edge === undefined)
      return Promise.reject(godwitError("GODWIT_DIAL_FAILED", `no medium leads to ${endpoint}`));
    const far = resolve(edge.other(this.index));
    return this.#roundTrip(edge, signal, (answer, refuse) => {
      if (!far.isPowered) return;
      // A frozen process still has its listening socket: the kernel accepts.
      if (far.isUp || far.life?.isFrozen === true) answer(() => pipeTo(edge, this.index, endpoint));
      else refuse("connection refused");
    });
  }

  #handshake(
    pipe: Pipe,
    remote: NodeId | undefined,
    signal: AbortSignal,
    resolve: (index: number) => SimNode,
  ): Promise<Session> {
    const edge = this.#edgeTo(pipe.remote)!;
    const far = resolve(edge.other(this.index));
    return this.#roundTrip(edge, signal, (answer, refuse) => {
      const life = far.life;
      if (life === undefined) return far.isPowered ? refuse("connection reset") : undefined;
      if (remote !== undefined && remote !== far.id) return refuse("another node answered");
      return life.dispatch("handshake", () => {
        if (life.mesh === undefined || !this.isAlive) return;
        const ends = createSessions({ edge, initiator: this, responder: life });
        life.mesh.adopt(ends.responder);
        answer(
          () => ends.initiator,
          () => ends.initiator.close(),
        );
      });
    });
  }

  /** There and back over the medium. `onLate` cleans up when nobody waits for the answer any more. */
  #roundTrip<T>(
    edge: Edge,
    signal: AbortSignal,
    atFarEnd: (answer: (value: () => T, onLate?: () => void) => void, refuse: (why: string) => void) => void,
  ): Promise<T> {
    const { time } = this.#options;
    const { delayMs } = edge.params;
    const isHeard = (from: number) => !edge.isBlocked(from);
    return new Promise<T>((resolve, reject) => {
      let isOver = false;
      const fail = (reason: string) => {
        isOver = true;
        signal.removeEventListener("abort", onAbort);
        reject(godwitError("GODWIT_DIAL_FAILED", reason));
      };
      const onAbort = () => fail("gave up waiting");
      signal.addEventListener("abort", onAbort, { once: true });
      time.after(Math.max(CONNECT_TIMEOUT_MS, CONNECT_TIMEOUT_DELAYS * delayMs), () =>
        this.dispatch("dial", () => (isOver ? undefined : fail("no answer"))),
      );
      const back = (fn: () => void, onLate: () => void = () => {}) => {
        time.after(delayMs, () => {
          if (!isHeard(edge.other(this.index))) return;
          this.dispatch("dial", () => {
            if (isOver) return onLate();
            fn();
          });
        });
      };
      time.after(delayMs, () => {
        if (!isHeard(this.index)) return;
        atFarEnd(
          (value, onLate) =>
            back(() => {
              isOver = true;
              signal.removeEventListener("abort", onAbort);
              resolve(value());
            }, onLate),
          (why) => back(() => fail(why)),
        );
      });
    });
  }
}

/** Only a token: the simulated handshake makes the session, and no byte flows over the pipe itself. */
function pipeTo(edge: Edge, self: number, endpoint: string): Pipe {
  const { kind, linkClass, rateBitsPerSecond } = edge.params;
  return {
    kind,
    direction: "outbound",
    remote: endpoint,
    local: endpointOf(edge, self),
    linkClass,
    rateBitsPerSecond,
    mtu: kind === "stream" ? 0 : 1_452,
    bufferedBytes: 0,
    open() {},
    write: () => true,
    pause() {},
    close() {},
  };
}

function hubOf(events: SimNodeEvents): Hub<MeshEvents> {
  const hub = new Hub<MeshEvents>((_, error) => {
    throw error;
  });
  hub.on("delivered", ({ entry, body }) => events.delivered(entry, body));
  hub.on("outboxChanged", (entry) => events.changed(entry));
  hub.on("routeChanged", ({ destination }) => events.routeChanged(destination));
  hub.on("peerQuarantined", ({ neighbour }) => events.quarantined(neighbour));
  return hub;
}
