/**
 * All neighbours. Takes proven sessions, exchanges hellos, resolves duplicate links and restarts, watches liveness, and
 * tells its owner who came, who went and what arrived. Never dials (dialer.ts), never routes. docs/protocol/frames.md.
 */
import type { GodwitError, Log, Random } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import { formatHex, shortId, type NodeId } from "../kernel/ids.ts";
import type { Regard } from "../kernel/room.ts";
import { isPaced, type Session } from "../link/types.ts";
import { FrameType } from "../wire/constants.ts";
import {
  decodeGoodbye,
  decodeHello,
  decodeProbe,
  decodeProbeReply,
  encodeGoodbye,
  encodeProbeReply,
  GoodbyeReason,
  type GoodbyeReasonCode,
  type Hello,
} from "../wire/peer-messages.ts";
import { DIGESTS, urgencyOf } from "../wire/urgency.ts";
import { compacted, type CompactDeps } from "./compact-session.ts";
import { ControlAirtime, type Teller } from "./control-airtime.ts";
import { Crowd } from "./crowd.ts";
import { Doubles } from "./doubles.ts";
import { goodbyeName, readHello } from "./far-hello.ts";
import { Link } from "./link.ts";
import { helloOf, helloTimeoutMs, type OwnHello, sayHello } from "./own-hello.ts";
import { type InterfaceOf, leadsWhere, pathKey } from "./path-key.ts";
import type { PeerEvents } from "./peer-events.ts";
import { type Lane, Peer } from "./peer.ts";

/** Nonce of the probe answer that nobody asked for: over datagrams it says that the hello has come. */
const HELLO_HEARD = 0;
/** What a far end says before its hello has come, frames and bytes kept: where things wait for airtime, who is up first says what counts, once. */
const EARLY_FRAMES_MAX = 8;
const EARLY_BYTES_MAX = 2_048;
/** How long a superseded link stays open, so that the far end has surely seen its replacement. */
const RETIRE_MS = 2_000;
/** A neighbour that loses its store more often on one link is not believed: each time costs offers. */
const STORE_EPOCH_PACE_MS = 5_000;
export const PEERS_MAX = 1_024;
/** Places that callers whom nobody knows do not get: keys cost nothing, and those who are known must find room. */
export const PEERS_KEPT = 64;
/** Of these, for those that were neighbours for long: waiting costs little more than a key, so the others are not for them. */
export const PEERS_KEPT_LONG = 32;

/** `known`: for a reason of this node's own (trust/acquaintances.ts). `long`: it was a neighbour for long. */
export type Welcome = "known" | "long" | "stranger";
export const LINKS_PER_PEER_MAX = 8;
/** Why a link is down that an end closed politely. */
export const CLOSED = "closed";
/** Links and unfinished sessions of one node, retiring ones included; more are refused. */
export const LINKS_OPEN_MAX = 16;

export interface PeersDeps extends OwnHello, CompactDeps {
  readonly random: Random;
  readonly log: Log;
  /** Aborts when the node stops: sessions that come after it are refused. */
  readonly signal: AbortSignal;
  /** No link comes up: the other machine with this identity goes on. */
  isStandingDown(): boolean;
  isBlocked(id: NodeId): boolean;
  readonly interfaceOf: InterfaceOf;
  /** Whose double is found however many strangers run twice. */
  readonly regard: Regard;
  /** Which of the places that are kept it may have. */
  welcomeOf(id: NodeId): Welcome;
  /** How many neighbours this machine has room for now, as far as it does not know them; by default PEERS_MAX. */
  roomFor?(): number;
  readonly events: PeerEvents;
}

export class Peers {
  readonly doubles: Doubles;
  readonly airtime: ControlAirtime;
  readonly #deps: PeersDeps;
  readonly #peers = new Map<NodeId, Peer>();
  readonly #pending = new Set<Session>();
  /** Of both. */
  readonly #crowd: Crowd;
  readonly #protocolErrors;
  readonly #lostFrames;
  readonly #tooWide;
  readonly #superseded;
  readonly #turnedAway;
  readonly #gaveWay;
  readonly #refusedFrames;
  readonly #beforeHello;

  constructor(deps: PeersDeps) {
    this.#deps = deps;
    this.airtime = new ControlAirtime(deps.airtime);
    this.#crowd = new Crowd((id) => deps.welcomeOf(id) === "stranger");
    this.doubles = new Doubles(deps.clock, deps.regard, (id) => deps.events.double?.(id));
    this.#tooWide = deps.metrics.counter("godwit_peer_frames_too_wide_total");
    this.#superseded = deps.metrics.counter("godwit_peer_frames_superseded_total");
    this.#lostFrames = deps.metrics.counter("godwit_peer_frames_lost_total");
    this.#refusedFrames = deps.metrics.counter("godwit_peer_frames_refused_total");
    this.#beforeHello = deps.metrics.counter("godwit_peer_frames_before_hello_total");
    this.#turnedAway = deps.metrics.counter("godwit_peers_refused_total");
    this.#gaveWay = deps.metrics.counter("godwit_gave_way_total");
    this.#protocolErrors = deps.metrics.counter("godwit_link_protocol_errors_total");
    deps.metrics.observedGauge("godwit_peers_connected", () => this.#peers.size);
  }

  get(id: NodeId): Peer | undefined {
    return this.#peers.get(id);
  }

  /**
   * Sends a frame (borrowed) of a part that says it again by itself should it get lost. False: it was dropped, and that is
   * counted.
   */
  tell(to: NodeId, lane: Lane, frame: Uint8Array, part: Teller): boolean {
    const peer = this.get(to);
    const session = peer?.best?.session;
    if (session !== undefined && keepsOutText(session, frame)) {
      this.#refusedFrames.add(1, { part, reason: "busy" });
      return false;
    }
    const hasAirtime = this.airtime.takeFor(part, session, frame.length);
    if (hasAirtime && peer?.send(lane, frame) === true) return true;
    const isNarrow = peer !== undefined && frame.length > peer.frameBytesMax;
    const reason =
      peer?.isUp !== true ? "no_link" : !hasAirtime ? "no_airtime" : isNarrow ? "too_wide" : "full";
    this.#refusedFrames.add(1, { part, reason });
    return false;
  }

  get connected(): Iterable<Peer> {
    return this.#peers.values();
  }

  get count(): number {
    return this.#peers.size;
  }

  /** Takes a proven session. `onClosed` fires once, when it is gone for whatever reason. */
  adopt(proven: Session, onClosed: (error?: GodwitError) => void = () => {}): void {
    const session = compacted(proven, this.#deps);
    const refusal = this.#refusal(session);
    if (refusal !== undefined) {
      session.open({ frame() {}, drain() {}, closed: onClosed });
      session.send(encodeGoodbye(refusal));
      session.close();
      return;
    }
    this.#pending.add(session);
    this.#crowd.enter(session, session);
    let link: Link | undefined;
    let peer: Peer | undefined;
    const helloTimer = this.#deps.clock.after(helloTimeoutMs(session), () => session.close());
    let stopHello = () => {};
    const early: Uint8Array[] = [];
    session.open({
      frame: (bytes) => {
        if (!session.isReliable) {
          if (bytes[0] === FrameType.hello) this.#sayHelloCame(session);
          else stopHello();
          // Its hello is late or lost and comes again; nothing else means anything before it.
          if (link === undefined && bytes[0] !== FrameType.hello && bytes[0] !== FrameType.goodbye) {
            // The answer to our own hello is not of the link, and comes before its hello as often as not.
            if (bytes[0] === FrameType.probeReply) return;
            if (hasRoomForEarly(session, early, bytes)) early.push(bytes.slice());
            else this.#beforeHello.add();
            return;
          }
        }
        if (link === undefined || peer === undefined) {
          helloTimer.cancel();
          const hello = readHello(session, bytes, this.#deps.isBlocked);
          this.#noLongerPending(session);
          link = new Link(session, hello, {
            clock: this.#deps.clock,
            random: this.#deps.random,
            events: {
              dead: (dead) => this.#onDead(dead),
              quiet: () => this.#onQuiet(session.remote),
              doubt: () => this.#onDoubt(session.remote),
              answered: ({ hello: { bootId } }, sentAtMs) =>
                this.doubles.answered(session.remote, formatHex(bootId), sentAtMs),
              measured: () => this.#onMeasured(session.remote),
            },
          });
          peer = this.#install(session.remote, link);
          for (const frame of early.splice(0)) this.#dispatch(peer, link, frame);
          return;
        }
        if (bytes[0] !== FrameType.probe) link.noteHeard();
        this.#dispatch(peer, link, bytes);
      },
      bytes: () => link?.noteBytes(),
      drain: () => {
        if (link === undefined || peer === undefined) return;
        link.noteDrain();
        peer.pump();
        if (peer.hasRoom) this.#deps.events.writable(peer);
      },
      closed: (error) => {
        helloTimer.cancel();
        stopHello();
        this.#noLongerPending(session);
        // The map, should `up` have thrown before it was answered who it is.
        const owner = peer ?? this.#peers.get(session.remote);
        if (link !== undefined && owner !== undefined) this.#remove(owner, link, error);
        onClosed(error);
      },
    });
    const mayTake = (bytes: number, most: number) =>
      this.airtime.has(session, most) && this.airtime.take(session, bytes, "handshakes", "mail");
    stopHello = sayHello(session, { ...this.#deps, mayTake }, (bytes) => this.#tooNarrow(session, bytes));
  }

  #sayHelloCame(session: Session): void {
    const answer = encodeProbeReply(HELLO_HEARD);
    // Without it the hello would come again, and cost more.
    if (this.airtime.take(session, answer.length, "handshakes", "mail")) session.send(answer);
  }

  /** All neighbours hear what this node says of itself once more, over one link each. */
  sayHelloAgain(): void {
    const hello = helloOf(this.#deps);
    const isAffordable = ({ session }: Link) => this.airtime.take(session, hello.length, "handshakes");
    for (const peer of this.#peers.values()) {
      // There it takes the place of an older one that waits still.
      if (peer.best?.isPaced === true) {
        if (isAffordable(peer.best)) peer.send("control", hello);
      } else
        peer.links
          .find((link) => hello.length <= link.session.frameBytesMax && isAffordable(link))
          ?.session.send(hello);
    }
  }

  #hearHello(id: NodeId, { record, wallMs, storeEpoch }: Hello): void {
    const { events, clock } = this.#deps;
    events.record(id, record);
    if (wallMs !== undefined) events.clock?.(id, wallMs);
    const peer = this.#peers.get(id);
    const epoch = formatHex(storeEpoch);
    const nowMs = clock.monotonicMs();
    if (peer === undefined || peer.storeEpoch === epoch || nowMs - peer.storeEpochAtMs < STORE_EPOCH_PACE_MS)
      return;
    peer.storeEpoch = epoch;
    peer.storeEpochAtMs = nowMs;
    events.storeLost?.(peer);
  }

  #tooNarrow(session: Session, helloBytes: number): void {
    this.#deps.log.warn("link refused: its path carries less than a hello", {
      peer: shortId(session.remote),
      remote: session.remoteEndpoint,
      mtu: session.frameBytesMax,
      bytes: helloBytes,
    });
    session.close();
  }

  /** Ends all links to a node, politely. */
  disconnect(id: NodeId, reason: GoodbyeReasonCode): void {
    for (const link of [...(this.#peers.get(id)?.links ?? [])]) {
      link.session.send(encodeGoodbye(reason));
      link.session.close();
    }
  }

  /** Says goodbye on every link; all neighbours are down when it returns. */
  disconnectAll(reason: GoodbyeReasonCode): void {
    for (const peer of [...this.#peers.values()]) this.#end(peer, reason);
    for (const session of [...this.#pending]) session.close();
  }

  #refusal(session: Session): GoodbyeReasonCode | undefined {
    if (this.#deps.signal.aborted) return GoodbyeReason.stopping;
    if (this.#deps.isStandingDown()) return GoodbyeReason.double;
    if (this.#deps.isBlocked(session.remote)) return GoodbyeReason.blocked;
    const peer = this.#peers.get(session.remote);
    if (peer === undefined && !this.#hasPlaceFor(session)) {
      this.#turnedAway.add();
      return GoodbyeReason.duplicate;
    }
    let ofNode = peer?.links.length ?? 0;
    for (const pending of this.#pending) if (pending.remote === session.remote) ofNode++;
    return ofNode >= LINKS_OPEN_MAX ? GoodbyeReason.duplicate : undefined;
  }

  /** It is down when this returns. */
  #end(peer: Peer, reason: GoodbyeReasonCode): void {
    this.disconnect(peer.id, reason);
    for (const link of [...peer.links]) this.#remove(peer, link, undefined);
  }

  #hasPlaceFor(session: Session): boolean {
    const welcome = session.direction === "outbound" ? "known" : this.#deps.welcomeOf(session.remote);
    const kept = welcome === "known" ? 0 : welcome === "long" ? PEERS_KEPT - PEERS_KEPT_LONG : PEERS_KEPT;
    const room = welcome === "known" ? PEERS_MAX : Math.min(PEERS_MAX, this.#deps.roomFor?.() ?? PEERS_MAX);
    const open = Math.floor((room * (PEERS_MAX - kept)) / PEERS_MAX);
    return this.#peers.size + this.#pending.size < open || this.#makePlace(session);
  }

  /** The source address with most strangers gives one up for a caller of another. */
  #makePlace(caller: Session): boolean {
    const yielding = this.#crowd.yielding(caller);
    if (yielding === undefined) return false;
    this.#gaveWay.add(1, { table: "neighbours" });
    if (yielding instanceof Peer) this.#end(yielding, GoodbyeReason.duplicate);
    else {
      this.#noLongerPending(yielding);
      yielding.close();
    }
    return true;
  }

  #noLongerPending(session: Session): void {
    this.#pending.delete(session);
    this.#crowd.leave(session);
  }

  /** Puts a link in place: ends an earlier life of the node, then resolves duplicates over one path. */
  #install(id: NodeId, link: Link): Peer {
    const bootId = formatHex(link.hello.bootId);
    let peer = this.#peers.get(id);
    const isSuccessor = peer !== undefined && peer.bootId !== bootId;
    if (peer !== undefined && isSuccessor) {
      for (const old of [...peer.links]) this.#detach(peer, old, "neighbour restarted");
      this.#forget(peer, "neighbour restarted");
      peer = undefined;
    }
    const isNew = peer === undefined;
    peer ??= new Peer(
      id,
      {
        bootId,
        storeEpoch: formatHex(link.hello.storeEpoch),
        upAtMs: this.#deps.clock.monotonicMs(),
        isSuccessor,
      },
      { tooWide: () => this.#tooWide.add(), superseded: () => this.#superseded.add() },
    );
    this.#peers.set(id, peer);
    peer.addLink(link);
    if (isNew) this.#crowd.enter(peer, link.session);
    this.doubles.heard(id, bootId);
    this.#resolveDuplicates(peer, link);
    this.#hearHello(id, link.hello);
    if (isNew) this.#deps.events.up(peer, link.hello);
    this.#deps.events.linkUp(peer, link);
    this.#deps.log.info("link up", {
      peer: shortId(id),
      remote: link.session.remoteEndpoint,
      direction: link.session.direction,
    });
    return peer;
  }

  /**
   * Two links over the same hosts and scheme carry nothing that one would not. Of two with one initiator the newer is
   * kept; of two with different ones that of the smaller node id, so that both ends choose alike. Nor do two that this node dialled
   * and that leave over one interface; here the older is kept, while it gives answers, and the far end is told.
   */
  #resolveDuplicates(peer: Peer, fresh: Link): void {
    const key = pathKey(fresh.session);
    for (const other of peer.links) {
      if (other === fresh || other.isRetiring || pathKey(other.session) !== key) continue;
      const isOursPreferred = this.#deps.self < peer.id;
      const keepFresh =
        other.session.direction === fresh.session.direction ||
        (fresh.session.direction === "outbound") === isOursPreferred;
      this.#retire(peer, keepFresh ? other : fresh);
    }
    if (!fresh.isRetiring && leadsWhere(fresh, peer.links, this.#deps.interfaceOf)) this.#retire(peer, fresh);
    if (peer.links.length > LINKS_PER_PEER_MAX) this.#retire(peer, peer.links[0]!);
  }

  #retire(peer: Peer, link: Link): void {
    if (link.isRetiring) return;
    link.isRetiring = true;
    peer.reconsider();
    this.#deps.clock.after(RETIRE_MS, () => {
      link.session.send(encodeGoodbye(GoodbyeReason.duplicate));
      link.session.close();
    });
  }

  #dispatch(peer: Peer, link: Link, bytes: Uint8Array): void {
    const type = bytes[0];
    try {
      switch (type) {
        case undefined:
          throw godwitError("GODWIT_DECODE", "empty frame");
        case FrameType.probe:
          return link.answerProbe(decodeProbe(bytes));
        case FrameType.probeReply:
          return link.noteProbeReply(decodeProbeReply(bytes));
        case FrameType.goodbye:
          return this.#onGoodbye(peer, link, decodeGoodbye(bytes));
        case FrameType.hello:
          if (link.mayHearHello()) this.#hearHello(peer.id, decodeHello(bytes));
          return;
        default:
          return this.#deps.events.frame(peer, type, bytes);
      }
    } catch (error) {
      if (asGodwitError(error).kind === "protocol") this.#protocolErrors.add();
      throw error;
    }
  }

  #onGoodbye({ id }: Peer, { session }: Link, reason: number): void {
    this.#deps.log.debug("goodbye", { peer: shortId(id), reason: goodbyeName(reason) });
    if (reason === GoodbyeReason.double) this.doubles.told(id);
    session.close();
  }

  #onDead(link: Link): void {
    this.#deps.log.info("link silent", {
      peer: shortId(link.session.remote),
      remote: link.session.remoteEndpoint,
    });
    // It may hear although it is not heard.
    link.session.send(encodeGoodbye(GoodbyeReason.silent));
    link.session.flush();
    const peer = this.#peers.get(link.session.remote);
    // At once, not when the pipe has finished closing: a pipe to a frozen machine may take its time.
    if (peer?.links.includes(link) === true) this.#remove(peer, link, undefined, "no answer to probes");
    link.session.close();
  }

  #onQuiet(id: NodeId): void {
    const peer = this.#peers.get(id);
    if (peer?.links.length === 1) this.#deps.events.quiet?.(peer);
  }

  /** The other links of a neighbour are asked as well when one gives no answer: it is in doubt when none does. */
  #onDoubt(id: NodeId): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    if (peer.links.some(({ isDoubted }) => isDoubted))
      for (const link of peer.links) if (!link.isDoubted) link.check();
    if (peer.weighDoubt()) this.#deps.events.doubted?.(peer);
  }

  #onMeasured(id: NodeId): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    peer.reconsider();
    this.#deps.events.measured(peer);
  }

  #remove(peer: Peer, link: Link, error: GodwitError | undefined, why?: string): void {
    if (!peer.links.includes(link)) return;
    const reason = why ?? error?.message ?? CLOSED;
    this.#detach(peer, link, reason);
    if (peer.links.length === 0) this.#forget(peer, reason, why !== undefined);
  }

  #detach(peer: Peer, link: Link, reason: string): void {
    link.stop();
    peer.removeLink(link);
    link.session.close();
    // What ended this one may have ended the others, and their next probe is seconds away.
    if (!link.isRetiring) for (const other of peer.links) other.checkBeside();
    this.#onDoubt(peer.id);
    this.#deps.events.linkDown(peer, link, reason);
    this.#deps.log.info("link down", { peer: shortId(peer.id), remote: link.session.remoteEndpoint, reason });
  }

  #forget(peer: Peer, reason: string, isSilent = false): void {
    if (this.#peers.get(peer.id) === peer) this.#peers.delete(peer.id);
    this.#crowd.leave(peer);
    this.#lostFrames.add(peer.drop());
    this.#deps.metrics.counter("godwit_peers_lost_total").add(1, { why: isSilent ? "silent" : "closed" });
    this.#deps.events.down(peer, reason, isSilent);
  }
}

/** Its channel does not admit the digest now: it would wait in the pipe, where what is admitted waits behind it. Whoever told it says it again. */
function keepsOutText({ medium }: Session, frame: Uint8Array): boolean {
  return (medium?.admits ?? DIGESTS) < DIGESTS && urgencyOf(frame) === DIGESTS;
}

/** A hello that was lost comes again after minutes there, and what was said meanwhile may not be said again for as long. */
function hasRoomForEarly(session: Session, early: readonly Uint8Array[], frame: Uint8Array): boolean {
  const bytes = early.reduce((sum, { length }) => sum + length, frame.length);
  return isPaced(session) && early.length < EARLY_FRAMES_MAX && bytes <= EARLY_BYTES_MAX;
}
