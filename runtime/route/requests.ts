/**
 * Sequence number requests (RFC 8966 section 3.8): asked when every candidate of a destination is infeasible, or when an
 * infeasible one would be clearly better; passed on towards the originator; answered by whoever has the number. Keeps
 * one request for each destination and never more than the table has. docs/protocol/routing.md "Requests".
 */
import type { Timer } from "@godwit/sdk";
import {
  decodeSeqnoRequest,
  encodeSeqnoRequest,
  METRIC_INFINITE,
  PLANE_ANY,
  PLANE_BULK,
  SEQNO_MAX,
} from "../wire/route-messages.ts";
import { NO_ROW } from "./candidates.ts";
import type { RouteCore } from "./core.ts";
import {
  BEACON_MAX_MS,
  DISTRUST_COST,
  IMPROVE_DELAY_MS,
  profileTimers,
  REQUEST_DEDUPE_MS,
  REQUEST_HOPS,
  REQUEST_IDLE_MS,
  REQUEST_MEMORY_MS,
  REQUEST_TRIES,
  TOLD_GAP_MS,
} from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Origin } from "./origin.ts";
import { isDistrusted, totalAt } from "./select.ts";
import { planeNames, type Destination, type PlaneName } from "./table.ts";

/** What this node itself wants. */
interface OwnRequest {
  seqno: number;
  planes: number;
  isStarving: boolean;
  tries: number;
  nextAtMs: number;
  /** Asked last. */
  target: Neighbour | undefined;
  /** Whom it could ask when it was looked at last. */
  targets: readonly Neighbour[];
}

interface Wish {
  readonly seqno: number;
  readonly planes: number;
}

/** What passed through here: who is to be told at once when his number arrives, whatever others asked for. */
interface Relayed {
  /** Of what was passed on last. */
  seqno: number;
  forwardedAtMs: number;
  readonly askers: Map<Neighbour, Wish>;
}

/** The last request over a shared channel. */
interface AskedSlow {
  readonly to: Neighbour;
  readonly seqno: number;
  readonly atMs: number;
  /** It was asked for that number before. */
  readonly times: number;
}

/** May the frame go out on the slow link? Set by the router. */
export type Airtime = (neighbour: Neighbour, bytes: number) => boolean;

export class SeqnoRequests {
  readonly #core: RouteCore;
  readonly #origin: Origin;
  readonly #mayUseAirtime: Airtime;
  readonly #own = new Map<Destination, OwnRequest>();
  readonly #relayed = new Map<Destination, Relayed>();
  readonly #askedSlow = new Map<Destination, AskedSlow>();
  #timer: Timer | undefined;
  #timerAtMs = 0;
  #memoryTimer: Timer | undefined;

  constructor(core: RouteCore, origin: Origin, mayUseAirtime: Airtime) {
    this.#core = core;
    this.#origin = origin;
    this.#mayUseAirtime = mayUseAirtime;
    core.watchers.push((destination) => {
      this.#watch(destination);
      if (this.#relayed.size > 0) this.#answer(destination);
    });
  }

  /** After each selection: is a newer number needed, still or again? */
  #watch(destination: Destination): void {
    if (destination === this.#core.self) return;
    let planes = 0;
    let seqno = 0;
    let isStarving = false;
    for (const plane of planeNames) {
      const need = this.#needOf(destination, plane);
      if (need === "none") continue;
      planes |= plane === "any" ? PLANE_ANY : PLANE_BULK;
      seqno = Math.max(seqno, destination[plane].fdSeqno + 1);
      isStarving ||= need === "starving";
    }
    if (planes === 0 || seqno > SEQNO_MAX) return void this.#own.delete(destination);
    const held = this.#own.get(destination);
    const nowMs = this.#core.now();
    if (held !== undefined && held.seqno >= seqno && held.isStarving === isStarving) {
      held.planes = planes;
      this.#followTargets(destination, held);
      return;
    }
    const waitMs = isStarving ? 0 : IMPROVE_DELAY_MS * (1 + this.#core.deps.random.float());
    const nextAtMs = nowMs + waitMs;
    const targets = this.#targets(destination, planes);
    this.#own.set(destination, { seqno, planes, isStarving, tries: 0, nextAtMs, target: undefined, targets });
    this.#arm(nextAtMs);
  }

  /** Whoever was asked has retracted: ask the next at once. Somebody new offers: the tries begin again. */
  #followTargets(destination: Destination, request: OwnRequest): void {
    const before = request.targets;
    request.targets = this.#targets(destination, request.planes);
    if (!request.isStarving) return;
    const isNew = request.targets.some((neighbour) => !before.includes(neighbour));
    if (isNew) request.tries = 0;
    const isAbandoned = request.target !== undefined && !request.targets.includes(request.target);
    if (!isNew && (!isAbandoned || request.tries >= REQUEST_TRIES)) return;
    const nowMs = this.#core.now();
    if (isAbandoned || request.nextAtMs > nowMs + REQUEST_DEDUPE_MS)
      request.nextAtMs = nowMs + (isAbandoned ? 0 : REQUEST_DEDUPE_MS);
    this.#arm(request.nextAtMs);
  }

  #needOf(destination: Destination, plane: PlaneName): "none" | "starving" | "better" {
    const state = destination[plane];
    const best = state.infeasible;
    if (best >= METRIC_INFINITE) return "none";
    if (state.primary === undefined) return "starving";
    // A liar's metric has lowered the feasibility distance: only a newer number lets the honest ones in again.
    if (this.#isDistrusted(destination, state.primary) && best < DISTRUST_COST) return "starving";
    const { switchRatio, switchUnits } = this.#core.limits;
    const held = state.selected.metric;
    return best < held && best * switchRatio <= held && best + switchUnits <= held ? "better" : "none";
  }

  #isDistrusted(destination: Destination, neighbour: Neighbour): boolean {
    const { candidates } = this.#core.table;
    const row = candidates.find(destination.list, neighbour);
    return isDistrusted(destination, neighbour, row !== NO_ROW && candidates.isSuspectAt(row));
  }

  /** Sends what is due. Called when an event of the router ends, so that requests never wait for coalescing. */
  run(): void {
    if (this.#own.size === 0 || this.#timerAtMs > this.#core.now()) return;
    const nowMs = this.#core.now();
    let nextAtMs = Number.POSITIVE_INFINITY;
    for (const [destination, request] of this.#own) {
      if (request.nextAtMs <= nowMs) this.#try(destination, request, nowMs);
      nextAtMs = Math.min(nextAtMs, request.nextAtMs);
    }
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#arm(nextAtMs);
  }

  #try(destination: Destination, request: OwnRequest, nowMs: number): void {
    const targets = this.#targets(destination, request.planes);
    const target = targets[request.tries % Math.max(targets.length, 1)];
    request.target = target;
    request.tries++;
    const pauseMs =
      target === undefined
        ? REQUEST_IDLE_MS
        : profileTimers[target.link.profile].requestMs * 4 ** (request.tries - 1);
    const jitter = 0.75 + this.#core.deps.random.float() / 2;
    request.nextAtMs = nowMs + (request.tries < REQUEST_TRIES ? pauseMs : REQUEST_IDLE_MS) * jitter;
    if (target !== undefined) this.#send(target, destination, request.seqno, request.planes, REQUEST_HOPS);
  }

  /** Neighbours with any finite candidate, cheapest first: they are nearer to the originator, or were. */
  #targets(destination: Destination, planes: number): Neighbour[] {
    const plane: PlaneName = (planes & PLANE_ANY) !== 0 ? "any" : "bulk";
    const { candidates } = this.#core.table;
    const targets: { neighbour: Neighbour; total: number }[] = [];
    candidates.forEach(destination.list, (row) => {
      const total = totalAt(candidates, destination, row, plane);
      const neighbour = candidates.neighbourAt(row);
      // Paths over slow links are asked for anew, when mail needs them (paths.ts).
      const isAsked = neighbour.hasTable || neighbour.id === destination.id;
      if (isAsked && total < METRIC_INFINITE) targets.push({ neighbour, total });
    });
    return targets.sort((a, b) => a.total - b.total).map(({ neighbour }) => neighbour);
  }

  #send(to: Neighbour, destination: Destination, seqno: number, planes: number, hopsLeft: number): void {
    const frame = encodeSeqnoRequest({
      tag: to.peerTag,
      destination: destination.id,
      seqno,
      planes,
      hopsLeft,
    });
    if (to.hasTable ? to.peerTag === 0 : !this.#maySendSlow(to, destination, seqno, frame.length)) return;
    this.#core.deps.send(to.id, frame);
  }

  /**
   * A neighbour on a shared channel tells its number once in five minutes. Whoever in the mesh asks, and however often, it is asked no more often than
   * that, and for the same number ever less often.
   */
  #maySendSlow(to: Neighbour, destination: Destination, seqno: number, bytes: number): boolean {
    if (to.link.takeAirtime === undefined) return this.#mayUseAirtime(to, bytes);
    const nowMs = this.#core.now();
    const last = this.#askedSlow.get(destination);
    // A larger number that somebody asked for says nothing of this one: it may be none that there ever is.
    const isAgain = last !== undefined && last.to === to && last.seqno === seqno;
    const pauseMs = isAgain ? Math.min(BEACON_MAX_MS, TOLD_GAP_MS * 2 ** last.times) : TOLD_GAP_MS;
    if (last?.to === to && nowMs - last.atMs < pauseMs) return false;
    if (!this.#mayUseAirtime(to, bytes)) return false;
    this.#askedSlow.set(destination, { to, seqno, atMs: nowMs, times: isAgain ? last.times + 1 : 0 });
    return true;
  }

  /** For a neighbour that is not in the table: it is answered when the number comes, as by any other change. */
  ask(target: Neighbour, destination: Destination, seqno: number): void {
    this.#send(target, destination, seqno, PLANE_ANY, REQUEST_HOPS);
  }

  /** `from` was admitted by its tag, or is a slow neighbour, which has none. */
  handle(from: Neighbour, frame: Uint8Array): void {
    const { destination: id, seqno, planes, hopsLeft } = decodeSeqnoRequest(frame);
    const destination = this.#core.table.get(id);
    if (destination === undefined || planes === 0) return;
    if (destination === this.#core.self) return this.#origin.request(seqno, from);
    if (this.#satisfies(destination, seqno, planes)) return this.#core.tellNow(destination, from);
    if (hopsLeft <= 1) return;
    const target = this.#relayTarget(destination, planes, from);
    if (target === undefined) return;
    const nowMs = this.#core.now();
    const held = this.#relayed.get(destination);
    if (held === undefined) {
      const askers = new Map([[from, { seqno, planes }]]);
      this.#relayed.set(destination, { seqno, forwardedAtMs: nowMs, askers });
      this.#memoryTimer ??= this.#core.after(REQUEST_MEMORY_MS, () => this.#expire());
    } else {
      held.askers.set(from, { seqno, planes });
      if (seqno <= held.seqno && nowMs - held.forwardedAtMs < REQUEST_DEDUPE_MS) return;
      held.seqno = seqno;
      held.forwardedAtMs = nowMs;
    }
    this.#send(target, destination, seqno, planes, hopsLeft - 1);
  }

  #satisfies(destination: Destination, seqno: number, planes: number): boolean {
    return planeNames.every((plane) => {
      if ((planes & (plane === "any" ? PLANE_ANY : PLANE_BULK)) === 0) return true;
      const { selected } = destination[plane];
      return selected.metric < METRIC_INFINITE && selected.seqno >= seqno;
    });
  }

  #relayTarget(destination: Destination, planes: number, asker: Neighbour): Neighbour | undefined {
    const plane: PlaneName = (planes & PLANE_ANY) !== 0 ? "any" : "bulk";
    const { primary } = destination[plane];
    if (primary !== undefined && primary !== asker) return primary;
    return this.#targets(destination, planes).find((neighbour) => neighbour !== asker);
  }

  #answer(destination: Destination): void {
    const relayed = this.#relayed.get(destination);
    if (relayed === undefined) return;
    for (const [asker, { seqno, planes }] of relayed.askers) {
      if (!this.#satisfies(destination, seqno, planes)) continue;
      this.#core.tellNow(destination, asker);
      relayed.askers.delete(asker);
    }
    if (relayed.askers.size === 0) this.#relayed.delete(destination);
  }

  #expire(): void {
    this.#memoryTimer = undefined;
    const beforeMs = this.#core.now() - REQUEST_MEMORY_MS;
    for (const [destination, relayed] of this.#relayed)
      if (relayed.forwardedAtMs <= beforeMs) this.#relayed.delete(destination);
    if (this.#relayed.size > 0) this.#memoryTimer = this.#core.after(REQUEST_MEMORY_MS, () => this.#expire());
  }

  #arm(atMs: number): void {
    if (!Number.isFinite(atMs)) return;
    if (this.#timer !== undefined && this.#timerAtMs <= atMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    // The timer's event ends with `run`, which does the work.
    this.#timer = this.#core.after(Math.max(atMs - this.#core.now(), 0), () => {
      this.#timer = undefined;
    });
  }

  forgetNeighbour(neighbour: Neighbour): void {
    for (const [destination, { to }] of this.#askedSlow)
      if (to === neighbour) this.#askedSlow.delete(destination);
    for (const relayed of this.#relayed.values()) relayed.askers.delete(neighbour);
  }

  forgetDestination(destination: Destination): void {
    this.#own.delete(destination);
    this.#relayed.delete(destination);
    this.#askedSlow.delete(destination);
  }

  close(): void {
    this.#timer?.cancel();
    this.#memoryTimer?.cancel();
  }
}
