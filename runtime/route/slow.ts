/**
 * Routing over slow links (LoRa): no table, only beacons about oneself on a Trickle timer (RFC 6206), all within a hard
 * share of the airtime. A gateway (a node with any faster neighbour) speaks for its direct edge neighbours in the mesh
 * once it has their proof; an edge node sends what starts there to its best gateway. docs/protocol/routing.md "Slow links"
 * says what this leaves out.
 */
import type { Timer } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import {
  decodeBeacon,
  decodeProofFrame,
  encodeBeacon,
  encodeProofFrame,
  MTU_MAX,
  UNREACHABLE,
} from "../wire/route-messages.ts";
import { NO_ROW } from "./candidates.ts";
import type { RouteCore } from "./core.ts";
import type { NextHop } from "./decide.ts";
import {
  BEACON_MAX_MS,
  BEACON_MIN_MS,
  NEXT_HOPS_MAX,
  SLOW_BURST_BYTES,
  SLOW_CONTROL_SHARE,
  SLOW_RATE_BITS,
} from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Origin } from "./origin.ts";
import type { UpdateReceiver } from "./receive.ts";
import { addCost } from "./select.ts";

interface SlowLink {
  intervalMs: number;
  timer: Timer | undefined;
  /** Token bucket of airtime, bytes. */
  tokens: number;
  tokensAtMs: number;
  /** Its way into the faster mesh; undefined: it is no gateway, or has not spoken. */
  gatewayMetric: number | undefined;
  proofSentAtMs: number;
}

const NO_HOPS: readonly NextHop[] = [];
/** First beacon after the link came up: spread, because a channel is shared. */
const FIRST_BEACON_MS = 2_000;

export class SlowLinks {
  readonly #core: RouteCore;
  readonly #origin: Origin;
  readonly #receiver: UpdateReceiver;
  readonly #onDefaultRoute: (isThere: boolean) => void;
  readonly #links = new Map<Neighbour, SlowLink>();
  #defaultHops: readonly NextHop[] = NO_HOPS;

  constructor(
    core: RouteCore,
    origin: Origin,
    receiver: UpdateReceiver,
    onDefaultRoute: (isThere: boolean) => void,
  ) {
    this.#core = core;
    this.#origin = origin;
    this.#receiver = receiver;
    this.#onDefaultRoute = onDefaultRoute;
    core.watchers.push((destination) => {
      if (destination === core.self) this.changed();
    });
  }

  /** For what starts here and has no route of its own; empty on a gateway. */
  get defaultHops(): readonly NextHop[] {
    return this.#defaultHops;
  }

  up(neighbour: Neighbour): void {
    this.#links.set(neighbour, {
      intervalMs: BEACON_MIN_MS,
      timer: this.#core.after(this.#core.deps.random.float() * FIRST_BEACON_MS, () =>
        this.#beaconDue(neighbour),
      ),
      tokens: SLOW_BURST_BYTES,
      tokensAtMs: this.#core.now(),
      gatewayMetric: undefined,
      proofSentAtMs: Number.NEGATIVE_INFINITY,
    });
  }

  down(neighbour: Neighbour): void {
    this.#links.get(neighbour)?.timer?.cancel();
    if (this.#links.delete(neighbour)) this.#chooseDefault();
  }

  /** Something that beacons carry is different now: Trickle starts over. */
  changed(): void {
    for (const [neighbour, link] of this.#links) this.#beginAnew(neighbour, link);
  }

  #beginAnew(neighbour: Neighbour, link: SlowLink): void {
    if (link.intervalMs === BEACON_MIN_MS) return;
    link.intervalMs = BEACON_MIN_MS;
    this.#schedule(neighbour, link);
  }

  /** As `takeAirtime`, of a frame that is dropped for want of it. */
  mayUseAirtime(neighbour: Neighbour, bytes: number): boolean {
    if (this.takeAirtime(neighbour, bytes)) return true;
    if (this.#links.has(neighbour)) this.#core.drop("airtime");
    return false;
  }

  /** Takes `bytes` of airtime; false: there is none now, and the frame must not be sent. */
  takeAirtime(neighbour: Neighbour, bytes: number): boolean {
    const link = this.#links.get(neighbour);
    if (link === undefined) return false;
    this.#refill(neighbour, link);
    if (link.tokens < Math.min(bytes, SLOW_BURST_BYTES)) return false;
    link.tokens -= bytes;
    return true;
  }

  #refill(neighbour: Neighbour, link: SlowLink): void {
    const rate = neighbour.link.rateBitsPerSecond ?? SLOW_RATE_BITS;
    const nowMs = this.#core.now();
    const earned = ((nowMs - link.tokensAtMs) / 1_000) * (rate / 8) * SLOW_CONTROL_SHARE;
    link.tokens = Math.min(SLOW_BURST_BYTES, link.tokens + earned);
    link.tokensAtMs = nowMs;
  }

  #schedule(neighbour: Neighbour, link: SlowLink): void {
    link.timer?.cancel();
    const waitMs = link.intervalMs * (0.5 + this.#core.deps.random.float() / 2);
    link.timer = this.#core.after(waitMs, () => this.#beaconDue(neighbour));
  }

  #beaconDue(neighbour: Neighbour): void {
    const link = this.#links.get(neighbour);
    if (link === undefined) return;
    this.#sendBeacon(neighbour);
    this.#schedule(neighbour, link);
    link.intervalMs = Math.min(link.intervalMs * 2, BEACON_MAX_MS);
  }

  #sendBeacon(neighbour: Neighbour): void {
    const destination = this.#core.table.get(neighbour.id);
    const frame = encodeBeacon({
      seqno: this.#origin.seqno,
      hasProof: destination?.proof !== undefined && destination.proof.seqno >= destination.verifiedSeqno,
      gatewayMetric: this.#gatewayMetric(),
    });
    if (this.mayUseAirtime(neighbour, frame.length)) this.#core.deps.send(neighbour.id, frame);
  }

  /** Cheapest step into the faster mesh. */
  #gatewayMetric(): number | undefined {
    let best: number | undefined;
    for (const { hasTable, link } of this.#core.neighbours.values())
      if (hasTable) best = Math.min(best ?? link.cost, link.cost);
    return best;
  }

  /** Neighbours came or went: this node may have become a gateway, or be none any more. */
  chooseRole(): void {
    if (this.#links.size === 0) return;
    this.changed();
    this.#chooseDefault();
  }

  handleBeacon(from: Neighbour, frame: Uint8Array): void {
    const link = this.#links.get(from);
    if (link === undefined) return this.#core.drop("unknown-kind");
    const beacon = decodeBeacon(frame);
    const destination = this.#core.table.get(from.id) ?? this.#core.addDestination(from.id, from.id);
    const { proof } = destination;
    // It has forgotten how far it had counted: its own signature reminds it.
    if (proof !== undefined && beacon.seqno < proof.seqno) this.#sendProof(from, link, "receiver");
    // Without a proof nobody was told what it said before, and it counts from where it is now.
    destination.verifiedSeqno =
      proof === undefined ? beacon.seqno : Math.max(destination.verifiedSeqno, beacon.seqno);
    // A number without its proof could not be told to others, so a route that is told keeps the proven one.
    const seqno = proof === undefined ? beacon.seqno : Math.min(proof.seqno, beacon.seqno);
    // What beacons say of its proof is another thing now: it sends the next one when it hears that.
    if (proof !== undefined && beacon.seqno > proof.seqno) this.#beginAnew(from, link);
    const any = { seqno, metric: 0, mtu: MTU_MAX, bottleneck: 0 } as const;
    const bulk = from.link.takesBulk === true ? any : UNREACHABLE;
    const { candidates } = this.#core.table;
    const row = candidates.find(destination.list, from);
    from.newestSerial++;
    if (row === NO_ROW) this.#core.put(destination, from, row, from.newestSerial, any, bulk);
    else if (candidates.anyAt(row).seqno <= seqno)
      this.#core.put(destination, from, row, candidates.serialAt(row), any, bulk);
    if (link.gatewayMetric !== beacon.gatewayMetric) {
      link.gatewayMetric = beacon.gatewayMetric;
      this.#chooseDefault();
    }
    if (beacon.gatewayMetric !== undefined && !beacon.hasProof) this.#sendProof(from, link, "sender");
  }

  #sendProof(to: Neighbour, link: SlowLink, of: "sender" | "receiver"): void {
    const subject = of === "sender" ? this.#core.self : this.#core.table.get(to.id);
    const nowMs = this.#core.now();
    if (subject?.proof === undefined || nowMs - link.proofSentAtMs < BEACON_MIN_MS / 2) return;
    const frame = encodeProofFrame({ of, proof: subject.proof });
    if (!this.mayUseAirtime(to, frame.length)) return;
    link.proofSentAtMs = nowMs;
    this.#core.deps.send(to.id, frame);
  }

  handleProof(from: Neighbour, frame: Uint8Array): void {
    if (!this.#links.has(from)) return this.#core.drop("unknown-kind");
    const { of, proof } = decodeProofFrame(frame);
    if (of === "receiver") return this.#origin.hear(proof);
    const destination = this.#core.table.get(from.id);
    const { candidates } = this.#core.table;
    if (destination === undefined || !candidates.has(destination.list, from)) return;
    if (!this.#receiver.learnProof(destination, proof, from)) return;
    if (destination.proof === undefined) return; // older than what its beacon said
    const { seqno } = destination.proof;
    const { list } = destination;
    const row = candidates.find(list, from);
    const held = candidates.anyAt(row);
    const any = held.seqno < seqno ? { ...held, seqno } : held;
    const bulk = from.link.takesBulk === true ? any : candidates.bulkAt(list, row);
    this.#core.put(destination, from, row, candidates.serialAt(row), any, bulk);
    // The route may look the same, but only now may others be told of it.
    for (const neighbour of this.#core.neighbours.values()) this.#core.tellSoon(destination, neighbour);
    this.changed();
  }

  #chooseDefault(): void {
    const hadSome = this.#defaultHops.length > 0;
    this.#defaultHops = this.#gatewayMetric() !== undefined ? NO_HOPS : this.#rankGateways();
    const hasSome = this.#defaultHops.length > 0;
    if (hadSome !== hasSome) this.#onDefaultRoute(hasSome);
  }

  #rankGateways(): NextHop[] {
    const hops: NextHop[] = [];
    for (const [neighbour, { gatewayMetric }] of this.#links) {
      if (gatewayMetric === undefined) continue;
      const { cost, mtu, bottleneck } = neighbour.link;
      const metric = addCost(gatewayMetric, cost);
      hops.push({ neighbour: neighbour.id, metric, mtu, bottleneck, isDefault: true });
    }
    return hops
      .sort((a, b) => a.metric - b.metric || compareIds(a.neighbour, b.neighbour))
      .slice(0, NEXT_HOPS_MAX);
  }

  close(): void {
    for (const link of this.#links.values()) link.timer?.cancel();
    this.#links.clear();
  }
}

const compareIds = (a: NodeId, b: NodeId): number => (a < b ? -1 : a > b ? 1 : 0);
