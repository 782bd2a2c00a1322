/**
 * Shared channels joined to the mesh: one budget and one beacon each, and links there only when somebody wants one: mail for a node that is heard, or a
 * gateway where there is none. What a beacon says leads to a dial at most; what counts is what the link proves.
 * docs/protocol/slow.md "One channel, one budget", "Beacons", "Links on demand"
 */
import type { Medium, Urgency } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { Beacons } from "../../channel/beacons.ts";
import type { Channels } from "../../channel/channels.ts";
import type { Heard, Place } from "../../channel/earshot.ts";
import { HeldMail } from "../../channel/held.ts";
import { HEARD_FOR_MS, Presence } from "../../channel/presence.ts";
import { Airtime, airtimeUses, type ChannelBudget } from "../../kernel/airtime.ts";
import { type BackoffOptions, TokenBucket } from "../../kernel/backoff.ts";
import type { NodeId } from "../../kernel/ids.ts";
import type { Observed } from "../../kernel/metrics.ts";
import { networkKeys } from "../../link/hello.ts";
import type { Link } from "../../peer/link.ts";
import { ANY_GATEWAY, gatewayCode, whoIs } from "../../wire/channel-beacon.ts";
import { TEXT } from "../../wire/urgency.ts";
import type { PartContext, PartOf } from "../part.ts";

/** Nodes that mail waited for without a way. */
const WANTS_MAX = 1_024;
/** Places on channels that were dialled. */
const TRIED_MAX = 1_024;
const NAMES_MAX = 4_096;
/** Nodes that mail has no way to, and how often one is asked for on a channel that is too busy for beacons before mail for it must come anew. */
const STUCK_MAX = 64;
const ASKS_MAX = 16;
/** A place is wanted for so long once there is a reason, ms. */
const WANTED_MS = 900_000;
/** Longest pause between calls to a place that leads nowhere, in times of that: where a newer beacon came since, and where none did. */
const PAUSE_FACTOR_HEARD = 4;
const PAUSE_FACTOR_MAX = 16;
/** So long mail may run into debt for its link, ms. */
const OWED_FOR_MS = 180_000;
/** Whoever has no gateway looks for one within this time of a reason, ms: not all in the same second. */
const SEEK_MS = 60_000;
/** A call there costs seconds of everybody's channel: one for each time that it is wanted. */
const BACKOFF: BackoffOptions = { firstMs: 2 * WANTED_MS, capMs: 4 * WANTED_MS };
/** What the operator wrote down is called for ever, within the budget. */
const CONFIGURED: BackoffOptions = { firstMs: 60_000, capMs: WANTED_MS };
/** Calls for one node, and for gateways, whatever places are named for them: so many at once, and then as often as one place is called. */
const CALLS = { burst: 4, perSecond: 1_000 / WANTED_MS };
const HINTS = "channel";

interface Channel {
  readonly budget: ChannelBudget;
  readonly beacons: Beacons;
}

/** What was last seen of a link on a channel. */
interface Seen {
  heardAtMs: number;
  readonly presence: Presence;
  bytesSent: number;
  sentAtMs: number;
}

interface Tried {
  readonly times: number;
  readonly atMs: number;
  readonly isForMail: boolean;
}

export function channelsPart(context: PartContext): PartOf<Channels> {
  const shared = new SharedChannels(context);
  return {
    engine: shared,
    linkUp: (_, link) => shared.onLinkUp(link),
    linkDown: (_, link) => shared.onLinkDown(link),
    peerUp: () => shared.onRole(),
    peerDown: () => shared.onRole(),
    linkMeasured: () => shared.onRole(),
    defaultRouteChanged: (isThere) => shared.onDefaultRoute(isThere),
    stop: () => shared.stop(),
  };
}

class SharedChannels implements Channels {
  readonly airtime: Airtime;
  readonly #context: PartContext;
  readonly #channels = new Map<Medium, Channel>();
  readonly #links = new Map<Link, Seen>();
  /** By the names that its beacons would have. */
  readonly #names = new BoundedMap<NodeId, readonly (readonly [key: Uint8Array, name: string])[]>({
    name: "names on channels",
    max: NAMES_MAX,
  });
  readonly #wants = new BoundedMap<NodeId, true>({ name: "nodes wanted on channels", max: WANTS_MAX });
  readonly #tried = new BoundedMap<string, Tried>({ name: "places tried on channels", max: TRIED_MAX });
  /** Pace of calls; `undefined`: for a gateway, whoever it is. */
  readonly #calls = new BoundedMap<NodeId | undefined, TokenBucket>({
    name: "calls on channels",
    max: WANTS_MAX,
  });
  /** Times that each was asked for. */
  readonly #stuck = new BoundedMap<NodeId, number>({ name: "nodes asked for on channels", max: STUCK_MAX });
  #awaitsNames = (): boolean => false;
  /** Of all channels together: a radio that was away comes back as another medium, to those who heard it before. */
  #beaconNumber = 0;
  #needed = new Set<string>();
  #seekCalls = 0;
  #isSeeking = false;
  #isSoughtForMail = false;
  readonly #counts;
  readonly #held: HeldMail;

  constructor(context: PartContext) {
    this.#context = context;
    const { clock, metrics } = context.deps;
    this.airtime = context.deps.airtime ?? new Airtime(clock);
    this.airtime.isForMail = (endpoint) => {
      const tried = this.#tried.get(endpoint);
      return tried?.isForMail === true && clock.monotonicMs() - tried.atMs < OWED_FOR_MS;
    };
    this.#held = new HeldMail({
      clock,
      media: () => this.#channels.keys(),
      wake: () => context.mesh.custody.onDefaultRoute(true),
    });
    this.#counts = metrics.counter("godwit_channel_beacons_total");
    const each = (valueOf: (budget: ChannelBudget) => number): Observed<"medium">[] =>
      [...this.airtime.channels].map((budget) => [valueOf(budget), { medium: budget.medium.name }]);
    metrics.observedSets("godwit_channel_nodes_heard", () => each(({ nodes }) => nodes - 1));
    metrics.observedSets("godwit_channel_utilisation_ratio", () => each(({ medium }) => medium.utilisation));
    metrics.observedSets("godwit_channel_control_seconds_total", () =>
      this.#eachUse(({ usedMs }) => usedMs / 1_000),
    );
    metrics.observedSets("godwit_channel_control_refused_total", () =>
      this.#eachUse(({ refused }) => refused),
    );
  }

  #eachUse(
    valueOf: (sums: ChannelBudget["sums"][keyof ChannelBudget["sums"]]) => number,
  ): Observed<"medium" | "use">[] {
    return [...this.airtime.channels].flatMap(({ medium, sums }) =>
      airtimeUses.map((use): Observed<"medium" | "use"> => [
        valueOf(sums[use]),
        { medium: medium.name, use },
      ]),
    );
  }

  open(medium: Medium, schemes: readonly string[]): () => void {
    const { deps, kept } = this.#context;
    const { clock, random } = deps;
    const budget = this.airtime.open(medium, schemes);
    this.#channels.get(medium)?.beacons.stop();
    const channel: Channel = {
      budget,
      beacons: new Beacons({
        clock,
        random,
        budget,
        nextNumber: () => kept.boot.bootEpoch * 2 ** 24 + ++this.#beaconNumber,
        keys: () => this.#keys,
        ownName: (key) => this.#namesOf(deps.identity.id).find(([of]) => of === key)![1],
        gateway: () => this.#gateway,
        isNeeded: (who) => this.#needed.has(who),
        isKnownByTraffic: (sinceMs) => this.#isKnownByTraffic(medium, sinceMs),
        heard: (heard) => this.#onHeard(medium, heard),
        passedOver: (heard) => this.#onWanted(medium, heard),
        look: () => this.#look(medium),
        wanted: () => this.#wanted(medium),
        linkedUnheard: () => this.#linkedUnheard(medium),
        count: (outcome) => this.#counts.add(1, { outcome }),
      }),
    };
    this.#channels.set(medium, channel);
    return () => {
      if (this.#channels.get(medium) !== channel) return;
      channel.beacons.stop();
      this.#channels.delete(medium);
      this.airtime.close(medium);
    };
  }

  noteHeld(medium: Medium, urgency: Urgency): void {
    this.#held.note(medium, urgency);
  }

  heardOn(medium: Medium): readonly Heard[] {
    return this.#channels.get(medium)?.beacons.earshot.all ?? [];
  }

  idOf(who: string): NodeId | undefined {
    for (const { session } of this.#links.keys())
      if (this.#isNameOf(who, session.remote)) return session.remote;
    for (const id of this.#names.keys())
      if (this.#names.get(id)?.some(([, name]) => name === who) === true) return id;
    return undefined;
  }

  isWanted(endpoint: string, knownId: NodeId | undefined): boolean {
    if (this.airtime.at(endpoint) === undefined) return true;
    const tried = this.#tried.get(endpoint);
    const isFresh = tried !== undefined && this.#nowMs - tried.atMs < WANTED_MS;
    return isFresh && (knownId === undefined || this.#context.mesh.peers.get(knownId) === undefined);
  }

  backoff(endpoint: string, isPermanent: boolean): BackoffOptions | undefined {
    if (this.airtime.at(endpoint) === undefined) return undefined;
    return isPermanent ? CONFIGURED : BACKOFF;
  }

  want(id: NodeId, isStuck: boolean, urgency: Urgency = TEXT): boolean {
    if (this.#channels.size === 0 || this.#context.mesh.peers.get(id) !== undefined) return false;
    let isHeard = false;
    this.#wants.renew(id, true);
    for (const { beacons, budget } of this.#channels.values())
      for (const [, name] of this.#namesOf(id)) {
        this.#needed.add(name);
        const heard = beacons.earshot.get(name);
        isHeard ||= heard !== undefined;
        // By a gateway it arrives as well: a link of its own is for when there is airtime to spare.
        const mayCall = urgency <= (budget.medium.admits ?? urgency);
        if (heard !== undefined && mayCall && (isStuck || budget.savedMs >= budget.linkMs))
          this.#call(heard, id, isStuck, budget);
      }
    if (!isStuck) return isHeard;
    const busy = [...this.#channels.keys()].filter(({ admits = urgency }) => urgency > admits);
    for (const medium of busy) this.#held.note(medium, urgency);
    if (busy.length < this.#channels.size) {
      if (!this.#stuck.has(id)) this.#stuck.set(id, 0);
      this.#seek(true);
    }
    return isHeard;
  }

  awaitNames(areAwaited: () => boolean): void {
    this.#awaitsNames = areAwaited;
  }

  onLinkUp(link: Link): void {
    const { medium } = link.session;
    if (medium === undefined) return;
    const nowMs = this.#nowMs;
    const beacons = this.#channels.get(medium)?.beacons;
    this.#links.set(link, {
      heardAtMs: nowMs,
      presence: new Presence(beacons?.quietMs ?? 0),
      bytesSent: link.session.bytesSent,
      sentAtMs: nowMs,
    });
    for (const [, name] of this.#namesOf(link.session.remote)) beacons?.earshot.noteSession(name);
    this.#wants.delete(link.session.remote);
    this.#stuck.delete(link.session.remote);
    this.#tried.delete(link.session.remoteEndpoint);
  }

  onLinkDown(link: Link): void {
    this.#links.delete(link);
  }

  /** This node may have become a gateway, or be none any more. */
  onRole(): void {
    for (const { beacons } of this.#channels.values()) beacons.changed();
  }

  onDefaultRoute(isThere: boolean): void {
    if (!isThere) this.#seek();
  }

  stop(): void {
    this.#held.stop();
    for (const { beacons } of this.#channels.values()) beacons.stop();
    this.#channels.clear();
  }

  get #nowMs(): number {
    return this.#context.deps.clock.monotonicMs();
  }

  get #keys(): readonly Uint8Array[] {
    const { network, liveSecrets } = this.#context.deps;
    const secrets = liveSecrets();
    if (secrets.length === 0) return [networkKeys(network, undefined).beaconKey];
    return secrets.map(({ secret }) => networkKeys(network, secret).beaconKey);
  }

  get #gateway(): number | undefined {
    const metric = this.#context.mesh.router.gatewayMetric;
    return metric === undefined ? undefined : gatewayCode(metric);
  }

  /** Under each live key. */
  #namesOf(id: NodeId): readonly (readonly [key: Uint8Array, name: string])[] {
    const keys = this.#keys;
    const known = this.#names.get(id);
    if (known?.length === keys.length && known.every(([key], at) => key === keys[at])) return known;
    const names = keys.map((key) => [key, whoIs(key, id)] as const);
    this.#names.renew(id, names);
    return names;
  }

  #isNameOf(who: string, id: NodeId): boolean {
    return this.#namesOf(id).some(([, name]) => name === who);
  }

  /** Of the neighbours over that channel. */
  #linksOn(medium: Medium): [Link, Seen][] {
    return [...this.#links].filter(([{ session }]) => session.medium === medium);
  }

  #onHeard(medium: Medium, heard: Heard): void {
    const { mesh } = this.#context;
    const linked = this.#linksOn(medium).find(([{ session }]) => this.#isNameOf(heard.who, session.remote));
    if (linked !== undefined) {
      const [{ session }, { presence }] = linked;
      const { beacons } = this.#channels.get(medium)!;
      if (presence.takesHints(beacons.quietMs)) mesh.router.setThere(session.remote, true);
      mesh.router.heardOnChannel(session.remote, heard.gateway !== undefined);
      return;
    }
    this.#onWanted(medium, heard);
  }

  /** Somebody says a name: mail may wait for it, or a gateway be looked for. */
  #onWanted(medium: Medium, heard: Heard): void {
    const { mesh } = this.#context;
    if (this.#linksOn(medium).some(([{ session }]) => this.#isNameOf(heard.who, session.remote))) return;
    for (const id of this.#wants.keys())
      if (this.#isNameOf(heard.who, id)) {
        // What waits for its record looks for no way yet. Mail that is sealed asks for one again, and finds who is heard.
        if (mesh.records.get(id) === undefined) {
          this.#call(heard, id, !mesh.router.reachable(id), this.#channels.get(medium)!.budget);
          return;
        }
        this.#wants.delete(id);
        return mesh.custody.onRoute(id);
      }
    if ([...heard.places.values()].some(({ gateway }) => gateway !== undefined))
      this.#seek(this.#stuck.size > 0 || this.#awaitsNames());
  }

  /** Whom to ask for there: of those that nothing leads to whoever was asked for least, and without one, where mail is for a name, a gateway. */
  #wanted(medium: Medium): string | undefined {
    const { mesh } = this.#context;
    const earshot = this.#channels.get(medium)?.beacons.earshot;
    if (earshot === undefined) return undefined;
    let wanted: NodeId | undefined;
    for (const [id, times] of this.#stuck) {
      if (mesh.peers.get(id) !== undefined || mesh.router.reachable(id) || times >= ASKS_MAX)
        this.#stuck.delete(id);
      else if (!this.#namesOf(id).some(([, name]) => earshot.get(name) !== undefined))
        if (wanted === undefined || times < this.#stuck.get(wanted)!) wanted = id;
    }
    if (wanted !== undefined) {
      this.#stuck.renew(wanted, this.#stuck.get(wanted)! + 1);
      return this.#namesOf(wanted)[0]![1];
    }
    // One that was called in vain may be none.
    const hearsGateway = this.#gatewaysHeard.some(
      ([{ from }, { medium: on }]) => on === medium && !this.#tried.has(from),
    );
    return this.#lacksGateway && !hearsGateway && this.#awaitsNames() ? ANY_GATEWAY : undefined;
  }

  /** Where the node itself says that it is on the channel, where its last beacon came from, and wherever else its name was said. */
  #call({ from, places }: Heard, id: NodeId, isForMail: boolean, on: ChannelBudget): boolean {
    const signed = this.#context.mesh.records.get(id)?.record.endpoints ?? [];
    const others = [...places.keys()].toReversed();
    const spokeAtMs = Math.max(...[...places.values()].map((place) => place.spokeAtMs));
    for (const place of new Set([...signed, from, ...others]))
      if (this.#callAt(place, places.get(place)?.spokeAtMs ?? spokeAtMs, id, isForMail, on)) return true;
    return false;
  }

  /** Again after pauses that double, so that what leads nowhere costs ever less. */
  #callAt(
    place: string,
    spokeAtMs: number,
    id: NodeId | undefined,
    isForMail: boolean,
    on: ChannelBudget,
  ): boolean {
    // A channel names places on it, and no others.
    if (this.airtime.at(place) !== on) return false;
    const tried = this.#tried.get(place);
    const nowMs = this.#nowMs;
    // Mail that waits need not wait for what was begun in vain without need.
    const isMoreUrgent = isForMail && tried?.isForMail === false;
    const times = tried?.times ?? 0;
    const hasSpoken = tried !== undefined && tried.atMs < spokeAtMs;
    const pauseMs = WANTED_MS * Math.min(2 ** times, hasSpoken ? PAUSE_FACTOR_HEARD : PAUSE_FACTOR_MAX);
    if (tried !== undefined && !isMoreUrgent && nowMs - tried.atMs < pauseMs) return false;
    // Of places there is no end.
    if (!this.#paceOf(id).take()) return false;
    this.#tried.renew(place, { times: times + 1, atMs: nowMs, isForMail });
    const hint = { endpoint: place, lifetimeMs: WANTED_MS, ...(id === undefined ? {} : { nodeId: id }) };
    this.#context.mesh.hints.add(HINTS, hint, "plugin");
    return true;
  }

  #paceOf(id: NodeId | undefined): TokenBucket {
    let pace = this.#calls.get(id);
    if (pace === undefined) {
      pace = new TokenBucket(this.#context.deps.clock, CALLS.perSecond, CALLS.burst);
      this.#calls.renew(id, pace);
    }
    return pace;
  }

  /** An edge node without a gateway calls the cheapest one that it hears. */
  #seek(isForMail = false): void {
    const { clock, random } = this.#context.deps;
    this.#isSoughtForMail ||= isForMail;
    if (this.#isSeeking || !this.#lacksGateway) return;
    this.#isSeeking = true;
    clock.after(random.float() * SEEK_MS, () => {
      const isUrgent = this.#isSoughtForMail;
      this.#isSeeking = this.#isSoughtForMail = false;
      if (!this.#lacksGateway) return;
      // Whoever invents gateways names a low cost: every second call is for whom has waited longest for one.
      const isByWait = this.#seekCalls % 2 === 1;
      const waitsSince = ({ from, sinceMs }: Place) => Math.max(sinceMs, this.#tried.get(from)?.atMs ?? 0);
      const gateways = this.#gatewaysHeard.sort(([a], [b]) =>
        isByWait ? waitsSince(a) - waitsSince(b) : a.gateway! - b.gateway!,
      );
      for (const [{ from, spokeAtMs }, budget] of gateways) {
        // Without airtime for all of a link nothing would leave, and count as tried.
        if (!isUrgent && budget.savedMs < budget.linkMs) continue;
        if (this.#callAt(from, spokeAtMs, undefined, isUrgent, budget)) return void this.#seekCalls++;
      }
    });
  }

  /** Without those that are linked. */
  get #gatewaysHeard(): [Place, ChannelBudget][] {
    return [...this.#channels].flatMap(([medium, { beacons, budget }]) => {
      const linked = this.#linksOn(medium);
      return beacons.earshot.all
        .filter(({ who }) => !linked.some(([{ session }]) => this.#isNameOf(who, session.remote)))
        .flatMap(({ places }) => [...places.values()])
        .filter(({ gateway, spokeAtMs }) => gateway !== undefined && this.#nowMs - spokeAtMs < HEARD_FOR_MS)
        .map((place): [Place, ChannelBudget] => [place, budget]);
    });
  }

  get #lacksGateway(): boolean {
    const { router } = this.#context.mesh;
    return this.#channels.size > 0 && !router.hasDefaultRoute && router.gatewayMetric === undefined;
  }

  #isKnownByTraffic(medium: Medium, sinceMs: number): boolean {
    const heard = this.heardOn(medium);
    const linked = this.#linksOn(medium);
    const hasHeard = ({ who }: Heard) =>
      linked.some(([{ session }, { sentAtMs }]) => sentAtMs > sinceMs && this.#isNameOf(who, session.remote));
    return heard.length > 0 && heard.every(hasHeard);
  }

  #linkedUnheard(medium: Medium): number {
    const heard = this.heardOn(medium);
    const quietMs = this.#channels.get(medium)?.beacons.quietMs ?? 0;
    return this.#linksOn(medium).filter(
      ([{ session }, { presence }]) =>
        presence.isProved(quietMs) && !heard.some(({ who }) => this.#isNameOf(who, session.remote)),
    ).length;
  }

  #look(medium: Medium): void {
    const channel = this.#channels.get(medium);
    if (channel === undefined) return;
    const { earshot, quietMs } = channel.beacons;
    const needed = new Set<string>();
    for (const id of this.#wants.keys()) for (const [, name] of this.#namesOf(id)) needed.add(name);
    for (const [{ session }] of this.#links)
      for (const [, name] of this.#namesOf(session.remote)) needed.add(name);
    this.#needed = needed;
    for (const [link, seen] of this.#linksOn(medium)) {
      const { remote, bytesSent } = link.session;
      const names = this.#namesOf(remote);
      if (link.heardAtMs > seen.heardAtMs) {
        seen.heardAtMs = link.heardAtMs;
        seen.presence.prove(quietMs);
        for (const [, name] of names) earshot.noteProof(name);
      }
      if (bytesSent > seen.bytesSent) Object.assign(seen, { bytesSent, sentAtMs: this.#nowMs });
      const isHeard = names.some(([, name]) => earshot.get(name) !== undefined);
      const isShutOut = names.some(([, name]) => earshot.isShutOut(name));
      const { isThere, isAsked } = seen.presence.judge(quietMs, isHeard, isShutOut);
      if (isAsked && this.#context.mesh.router.askWhetherThere(remote)) seen.presence.noteAsked(quietMs);
      this.#context.mesh.router.setThere(remote, isThere);
    }
    if (this.#lacksGateway && this.#gatewaysHeard.length > 0) this.#seek();
  }
}
