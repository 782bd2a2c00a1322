/**
 * Routing over slow links (LoRa): no table, only beacons about oneself on a Trickle timer (RFC 6206), all within a hard
 * share of the airtime. A gateway (a node with any faster neighbour) speaks for its direct edge neighbours in the mesh
 * once it has their proof; an edge node sends what starts there to its best gateway. docs/protocol/routing.md "Slow links"
 * says what this leaves out.
 */
import type { Timer } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import { gatewayCode } from "../wire/channel-beacon.ts";
import {
  type Beacon,
  decodeBeacon,
  decodeProofFrame,
  encodeBeacon,
  encodeProofFrame,
  MTU_MAX,
  type SeqnoProof,
  UNREACHABLE,
} from "../wire/route-messages.ts";
import { NO_ROW } from "./candidates.ts";
import type { RouteCore } from "./core.ts";
import type { NextHop } from "./decide.ts";
import {
  ANSWERED_GAP_MS,
  BEACON_MAX_MS,
  BEACON_MIN_MS,
  NEXT_HOPS_MAX,
  SLOW_BURST_BYTES,
  SLOW_CONTROL_SHARE,
  SLOW_RATE_BITS,
  TOLD_GAP_MS,
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
  /** Beacons and proofs that were sent on it. */
  readonly said: { beacons: number; proofs: number };
  /** Came before its beacon. */
  early: SeqnoProof | undefined;
  /** Its last beacon; undefined: none came yet. */
  heard: Beacon | undefined;
  /** False: the channel that it shares has been silent about it for long, and nothing leads there. */
  isThere: boolean;
  /** Last beacon to it, and when. */
  told: Beacon | undefined;
  toldAtMs: number;
  /** The far end wants to hear what it was told before. */
  isAsked: boolean;
  /** The far end, a gateway, has said that it lacks this node's proof, and that was not sent since. */
  isProofOwed: boolean;
  /** A beacon to all said otherwise of it. */
  doubt: Timer | undefined;
}

const NO_HOPS: readonly NextHop[] = [];
/** First beacon after the link came up: spread, because a channel is shared. */
const FIRST_BEACON_MS = 2_000;
/** What makes a link of use is said so often from what may be owed; then from what is saved. */
const BEGIN_TRIES = 3;
/** So long, and up to twice, a neighbour has to say on its link what its beacon to all said already, ms. */
const DOUBT_MS = 60_000;

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
    origin.onAskedAgain = (neighbour) => this.#sayAgain(neighbour);
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
      said: { beacons: 0, proofs: 0 },
      early: undefined,
      heard: undefined,
      isThere: true,
      told: undefined,
      toldAtMs: Number.NEGATIVE_INFINITY,
      isAsked: false,
      isProofOwed: false,
      doubt: undefined,
    });
  }

  down(neighbour: Neighbour): void {
    this.#cancel(this.#links.get(neighbour));
    if (this.#links.delete(neighbour)) this.#chooseDefault();
  }

  /** Something that beacons carry is different now: Trickle starts over. */
  changed(): void {
    for (const [neighbour, link] of this.#links) this.#beginAnew(neighbour, link);
  }

  #beginAnew(neighbour: Neighbour, link: SlowLink): void {
    if (isShared(neighbour)) return void this.#tellNews(neighbour, link);
    if (link.intervalMs === BEACON_MIN_MS) return;
    link.intervalMs = BEACON_MIN_MS;
    this.#schedule(neighbour, link);
  }

  /** As `takeAirtime`, of a frame that is dropped for want of it. */
  mayUseAirtime(neighbour: Neighbour, bytes: number, need: "control" | "answer" = "control"): boolean {
    if (this.takeAirtime(neighbour, bytes, need)) return true;
    if (this.#links.has(neighbour)) this.#core.drop("airtime");
    return false;
  }

  /** Neighbours that questions for paths go to: there, and with a beacon; gateways first, then the cheapest. */
  askable(except: Neighbour | undefined): Neighbour[] {
    return [...this.#links]
      .filter(
        ([neighbour, { heard, isThere }]) =>
          neighbour !== except && neighbour.link.knowsPaths === true && heard !== undefined && isThere,
      )
      .sort(
        ([a, of], [b, than]) =>
          Number(of.gatewayMetric === undefined) - Number(than.gatewayMetric === undefined) ||
          a.link.cost - b.link.cost ||
          compareIds(a.id, b.id),
      )
      .map(([neighbour]) => neighbour);
  }

  /** Takes `bytes` of airtime; false: there is none now, and the frame must not be sent. */
  takeAirtime(
    neighbour: Neighbour,
    bytes: number,
    need: "begin" | "control" | "answer" | "mail" = "control",
    by?: NodeId,
  ): boolean {
    const link = this.#links.get(neighbour);
    if (link === undefined) return false;
    // Asked of the channel: all its links share one budget, which counts what it denies.
    if (neighbour.link.takeAirtime !== undefined) return neighbour.link.takeAirtime(bytes, need, by);
    this.#refill(neighbour, link);
    if (link.tokens < Math.min(bytes, SLOW_BURST_BYTES)) return false;
    link.tokens -= bytes;
    return true;
  }

  /** For a beacon or a proof: they make the link, and may be owed while the far end lacks them. */
  #mayBegin(neighbour: Neighbour, link: SlowLink, bytes: number, need: "control" | "answer"): boolean {
    if (this.takeAirtime(neighbour, bytes, isBegun(link) ? need : "mail")) return true;
    this.#core.drop("airtime");
    return false;
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
    if (isShared(neighbour) && link.isProofOwed) {
      // To ask would spend what it is saved up for.
      this.#sendProof(neighbour, link, "sender");
      return this.#schedule(neighbour, link);
    }
    this.#sendBeacon(neighbour, link);
    // On a shared channel the beacon to all says who is there: here only what is missing is asked for.
    if (isShared(neighbour) && isSettled(link)) return;
    this.#schedule(neighbour, link);
    link.intervalMs = Math.min(link.intervalMs * 2, BEACON_MAX_MS);
  }

  #sendBeacon(neighbour: Neighbour, link: SlowLink): void {
    const beacon = this.#beaconTo(neighbour);
    const wantsBeacon = isShared(neighbour) && link.told !== undefined && !isSettled(link);
    const frame = encodeBeacon({ ...beacon, wantsBeacon });
    if (!this.#mayBegin(neighbour, link, frame.length, link.isAsked ? "answer" : "control")) return;
    link.told = beacon;
    link.said.beacons++;
    link.toldAtMs = this.#core.now();
    link.isAsked = false;
    this.#core.deps.send(neighbour.id, frame);
  }

  #beaconTo({ id }: Neighbour): Beacon {
    const destination = this.#core.table.get(id);
    return {
      seqno: this.#origin.seqno,
      hasProof: destination?.proof !== undefined && destination.proof.seqno >= destination.verifiedSeqno,
      gatewayMetric: this.gatewayMetric,
    };
  }

  /** On a shared channel: tells it once, and not before the gap is over. False: there is nothing to tell. */
  #tellNews(neighbour: Neighbour, link: SlowLink): boolean {
    if (link.told === undefined || !this.#isNews(link, this.#beaconTo(neighbour))) return false;
    const isMissed = this.#isFresh(link) && !isSettled(link);
    this.#tellIn(
      neighbour,
      link,
      link.toldAtMs + (isMissed ? BEACON_MIN_MS : TOLD_GAP_MS) - this.#core.now(),
    );
    return true;
  }

  /** A number is of use to a gateway alone, which tells others: a flapping wire raises that of a gateway all day. */
  #isNews({ told, heard }: SlowLink, beacon: Beacon): boolean {
    const isNumberNews = heard === undefined || heard.gatewayMetric !== undefined;
    return !isSame(isNumberNews ? told! : { ...told!, seqno: beacon.seqno }, beacon);
  }

  #tellIn(neighbour: Neighbour, link: SlowLink, waitMs: number): void {
    const spreadMs = this.#core.deps.random.float() * FIRST_BEACON_MS;
    link.timer?.cancel();
    link.timer = this.#core.after(Math.max(0, waitMs) + spreadMs, () => {
      // What was new may be so no more: a wire was away for a moment.
      const isNews = link.told === undefined || this.#isNews(link, this.#beaconTo(neighbour));
      if (!isNews && !link.isAsked) return this.#lookAfter(neighbour, link);
      this.#sendBeacon(neighbour, link);
      // There was no airtime: it is still to be told.
      if (this.#core.now() !== link.toldAtMs) this.#tellIn(neighbour, link, TOLD_GAP_MS);
      else this.#lookAfter(neighbour, link);
    });
  }

  /** A beacon to all says otherwise of the neighbour than its own on the link did: it is asked, because only that counts. */
  doubt(id: NodeId, isGateway: boolean): void {
    const neighbour = this.#core.neighbours.get(id);
    const link = neighbour === undefined ? undefined : this.#links.get(neighbour);
    if (neighbour === undefined || link?.heard === undefined || !isShared(neighbour)) return;
    if ((link.heard.gatewayMetric !== undefined) === isGateway || link.doubt !== undefined) return;
    // Whoever has become another thing says so on his links as well, and need not be asked.
    link.doubt = this.#core.after(DOUBT_MS * (1 + this.#core.deps.random.float()), () => {
      link.doubt = undefined;
      if ((link.heard?.gatewayMetric !== undefined) !== isGateway) this.#ask(neighbour, link);
    });
  }

  /** Its next beacon on the link proves that it is there. False: it cannot be asked now. */
  askNeighbour(id: NodeId): boolean {
    const neighbour = this.#core.neighbours.get(id);
    const link = neighbour === undefined ? undefined : this.#links.get(neighbour);
    return neighbour !== undefined && link !== undefined && isShared(neighbour) && this.#ask(neighbour, link);
  }

  #ask(neighbour: Neighbour, link: SlowLink): boolean {
    if (this.#core.now() - link.toldAtMs < TOLD_GAP_MS) return false;
    const frame = encodeBeacon({ ...this.#beaconTo(neighbour), wantsBeacon: true });
    if (!this.#mayBegin(neighbour, link, frame.length, "control")) return false;
    link.toldAtMs = this.#core.now();
    this.#core.deps.send(neighbour.id, frame);
    return true;
  }

  /** The neighbour was not heard on its channel for long, or is again: what its session proved holds only while it is there. */
  setThere(id: NodeId, isThere: boolean): void {
    const neighbour = this.#core.neighbours.get(id);
    const link = neighbour === undefined ? undefined : this.#links.get(neighbour);
    if (neighbour === undefined || link === undefined || link.isThere === isThere) return;
    link.isThere = isThere;
    if (link.heard !== undefined) this.#believe(neighbour, link, link.heard);
  }

  /** Cheapest step into the faster mesh. */
  get gatewayMetric(): number | undefined {
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
    link.heard = beacon;
    link.isThere = true;
    this.#believe(from, link, beacon);
    if (link.early !== undefined) this.#takeProof(from, link.early);
    const { proof } = this.#core.table.get(from.id)!;
    // It has forgotten how far it had counted: its own signature reminds it.
    if (proof !== undefined && beacon.seqno < proof.seqno) this.#sendProof(from, link, "receiver");
    link.isProofOwed = beacon.gatewayMetric !== undefined && !beacon.hasProof;
    if (link.isProofOwed) this.#sendProof(from, link, "sender");
    if (!isShared(from)) return;
    link.isAsked ||= beacon.wantsBeacon === true;
    if (beacon.wantsBeacon === true)
      this.#tellIn(from, link, link.toldAtMs + ANSWERED_GAP_MS - this.#core.now());
    else if (!this.#tellNews(from, link)) this.#lookAfter(from, link);
  }

  /** It asks for a number that it was told: that was lost. */
  #sayAgain(neighbour: Neighbour): void {
    const link = this.#links.get(neighbour);
    if (link?.told === undefined || !isShared(neighbour)) return;
    link.isAsked = true;
    this.#tellIn(neighbour, link, link.toldAtMs + TOLD_GAP_MS - this.#core.now());
  }

  /** Whatever was lost, or had no airtime: asked again, ever less often, until both ends have what they need. */
  #lookAfter(neighbour: Neighbour, link: SlowLink): void {
    if (link.told === undefined) return;
    if (isSettled(link)) return link.timer?.cancel();
    link.intervalMs = Math.max(link.intervalMs, this.#isFresh(link) ? BEACON_MIN_MS : TOLD_GAP_MS);
    this.#schedule(neighbour, link);
  }

  /** Its first words may be lost and are missed at once; who lacks them later is busy or away. */
  #isFresh({ said }: SlowLink): boolean {
    return Math.max(said.beacons, said.proofs) <= BEGIN_TRIES;
  }

  /** Routes as the neighbour's beacon has them, or none where it is not there. */
  #believe(from: Neighbour, link: SlowLink, beacon: Beacon): void {
    const destination = this.#core.table.get(from.id) ?? this.#core.addDestination(from.id, from.id);
    const { proof } = destination;
    // Without a proof nobody was told what it said before, and it counts from where it is now.
    destination.verifiedSeqno =
      proof === undefined ? beacon.seqno : Math.max(destination.verifiedSeqno, beacon.seqno);
    // A number without its proof could not be told to others, so a route that is told keeps the proven one.
    const seqno = proof === undefined ? beacon.seqno : Math.min(proof.seqno, beacon.seqno);
    // What beacons say of its proof is another thing now: it sends the next one when it hears that.
    if (proof !== undefined && beacon.seqno > proof.seqno) this.#beginAnew(from, link);
    const any = link.isThere ? ({ seqno, metric: 0, mtu: MTU_MAX, bottleneck: 0 } as const) : UNREACHABLE;
    const bulk = from.link.takesBulk === true ? any : UNREACHABLE;
    const { candidates } = this.#core.table;
    const row = candidates.find(destination.list, from);
    from.newestSerial++;
    if (row === NO_ROW) this.#core.put(destination, from, row, from.newestSerial, any, bulk);
    else if (!link.isThere || candidates.anyAt(row).seqno <= seqno)
      this.#core.put(destination, from, row, candidates.serialAt(row), any, bulk);
    const gatewayMetric = link.isThere ? beacon.gatewayMetric : undefined;
    if (link.gatewayMetric !== gatewayMetric) {
      link.gatewayMetric = gatewayMetric;
      this.#chooseDefault();
    }
  }

  #sendProof(to: Neighbour, link: SlowLink, of: "sender" | "receiver"): void {
    const subject = of === "sender" ? this.#core.self : this.#core.table.get(to.id);
    const nowMs = this.#core.now();
    if (subject?.proof === undefined || nowMs - link.proofSentAtMs < BEACON_MIN_MS / 2) return;
    const frame = encodeProofFrame({ of, proof: subject.proof });
    if (!this.#mayBegin(to, link, frame.length, "answer")) return;
    link.proofSentAtMs = nowMs;
    link.said.proofs++;
    if (of === "sender") link.isProofOwed = false;
    this.#core.deps.send(to.id, frame);
  }

  handleProof(from: Neighbour, frame: Uint8Array): void {
    if (!this.#links.has(from)) return this.#core.drop("unknown-kind");
    const { of, proof } = decodeProofFrame(frame);
    if (of === "receiver") return this.#origin.hear(proof);
    this.#takeProof(from, proof);
  }

  #takeProof(from: Neighbour, proof: SeqnoProof): void {
    const destination = this.#core.table.get(from.id);
    const { candidates } = this.#core.table;
    const link = this.#links.get(from)!;
    link.early = undefined;
    if (destination === undefined || !candidates.has(destination.list, from)) {
      // Its beacon was lost, or comes behind it.
      const { seqno, recordHash, signature } = proof;
      link.early = { seqno, recordHash: recordHash.slice(), signature: signature.slice() };
      return;
    }
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
    this.#defaultHops = this.gatewayMetric !== undefined ? NO_HOPS : this.#rankGateways();
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
    for (const link of this.#links.values()) this.#cancel(link);
    this.#links.clear();
  }

  #cancel(link: SlowLink | undefined): void {
    link?.timer?.cancel();
    link?.doubt?.cancel();
  }
}

/** Both ends have said what the other one needs. */
const isSettled = ({ heard, told }: SlowLink): boolean =>
  told !== undefined && heard !== undefined && (heard.gatewayMetric === undefined || heard.hasProof);
/**
 * Whoever is there, and can be told of, is known, as far as saying it helps: without that no mail goes over it, and each of it may be lost, once and again.
 */
const isBegun = ({ heard, isAsked, said }: SlowLink): boolean => {
  const { beacons, proofs } = said;
  if (beacons === 0 || ((heard === undefined || isAsked) && beacons < BEGIN_TRIES)) return false;
  return heard?.gatewayMetric === undefined || heard.hasProof || proofs >= BEGIN_TRIES;
};
const isShared = ({ link }: Neighbour): boolean => link.takeAirtime !== undefined;

/** So little changes of a cost are none. */
const codeOf = ({ gatewayMetric }: Beacon): number =>
  gatewayMetric === undefined ? -1 : gatewayCode(gatewayMetric);
const isSame = (a: Beacon, b: Beacon): boolean =>
  a.seqno === b.seqno && a.hasProof === b.hasProof && codeOf(a) === codeOf(b);

const compareIds = (a: NodeId, b: NodeId): number => (a < b ? -1 : a > b ? 1 : 0);
