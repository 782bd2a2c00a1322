/**
 * The node as the API sees it: turns the living parts of a mesh into the views of the HTTP contract, resolves the
 * names that people type, and fans events out. Reads; changes go straight to the part that owns them.
 */
import type { Teller } from "../kernel/hub.ts";
import type { ClosedView } from "./contract/closed.ts";
import type {
  Box,
  DiscoveryView,
  HealthView,
  InviteRequest,
  InviteView,
  JoinView,
  MemberView,
  MessageView,
  NameView,
  NodeEvent,
  NodeView,
  ChannelView,
  OverlayView,
  PeerView,
  ProgressView,
  ReloadView,
  RestartView,
  RouteView,
  StatusView,
  TraceView,
  TrustLevel,
  WhyView,
} from "./contract/node.ts";
import { isoTime } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import type { BundleId, MessageId, NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { shownProof } from "../custody/source/proofs.ts";
import { healthOf, type Trouble } from "./health.ts";
import { outboxReason } from "./lives.ts";
import { memberViews } from "./members.ts";
import { channelViews } from "./channels.ts";
import { overlayAddress, overlayViews } from "./overlays.ts";
import { meshAddress } from "../membership/address.ts";
import { metViews, reachableViews } from "./peers.ts";
import { progressView } from "./progress.ts";
import { routeView, whyView } from "./routes.ts";
import { skippedOf } from "./discovery.ts";
import { viewDiscovery } from "./discovery.ts";
import { issueInvite, takeToken } from "./invites.ts";
import type { PluginHost } from "../plugin/host/host.ts";
import type { TransitItem } from "../custody/transit/reader.ts";
import { type TraceEntry, untracedHops } from "../wire/bundle.ts";
import type { InboxEntry } from "../custody/recipient/inbox.ts";
import { finalStates, type OutboxEntry } from "../custody/source/entry.ts";
import type { Clock, OutgoingMessage } from "@godwit/sdk";
import type { Metrics } from "../kernel/metrics.ts";
import type { NodeTime } from "../time/node-time.ts";
import type { HubEvents, NodeEvents } from "./node-events.ts";

export interface ViewDeps {
  readonly self: NodeId;
  readonly mesh: Mesh;
  readonly host: PluginHost;
  readonly hub: Teller<HubEvents>;
  readonly clock: Clock;
  readonly time: NodeTime;
  readonly metrics: Metrics;
  readonly version: string;
  readonly network: string;
  readonly isOpen: boolean;
  readonly closed: ClosedView;
  readonly callsign: string | undefined;
  readonly location: string | undefined;
  reload(): Promise<ReloadView>;
  restart(): RestartView;
  /** Reasons why the node is not well, besides its plugins. */
  troubles(): Trouble[];
  /** What a node that knows nobody could use. */
  advice(): string[];
  /** Of stored rows, those that are not through. */
  conversions(): { readonly name: string; readonly rows: number }[];
}

export class LiveView implements NodeView {
  readonly #deps: ViewDeps;
  readonly #events: NodeEvents;
  /** Hashes; the same for ever. */
  #meshAddress: ReturnType<typeof meshAddress> | undefined;

  constructor(deps: ViewDeps, events: NodeEvents) {
    this.#deps = deps;
    this.#events = events;
  }

  get closed(): ClosedView {
    return this.#deps.closed;
  }

  health(forWhom: "anybody" | "operator" = "anybody"): HealthView {
    const { host, time, troubles } = this.#deps;
    const all = troubles();
    for (const notice of this.#restartNotices()) all.push(notice);
    return healthOf(host.running, time.view, all, forWhom);
  }

  #restartNotices(): Trouble[] {
    return Object.entries(this.#deps.restart().restart_because).map(([setting, because]) => ({
      name: "configuration",
      reason: `${setting} counts from the next start, because ${because}`,
      isNotice: true,
    }));
  }

  status(): StatusView {
    const { self, mesh, host, clock, version, network, isOpen, callsign, location } = this.#deps;
    const nodes = mesh.book.nodes;
    const { authority, epochs } = this.#deps.closed.secrets();
    return {
      node: {
        id: self,
        callsign: callsign ?? null,
        location: location ?? null,
        version,
        uptime_seconds: Math.floor((clock.monotonicMs() - mesh.startedAtMs) / 1000),
      },
      ...(overlayAddress(host.running) ?? (this.#meshAddress ??= meshAddress(network, self))),
      network,
      open: isOpen,
      authority,
      secret_epochs: epochs.map(({ epoch, state, links }) => ({ epoch, state, links })),
      revocations: mesh.records.revocations.size,
      clock: this.#deps.time.view,
      transports: host.running
        .filter(({ instance }) => instance.namespace === "transport")
        .map(({ instance, health, endpoints }) => ({
          name: instance.name,
          type: instance.type,
          state: health.state,
          listen: [...endpoints],
          reason: health.reason ?? null,
        })),
      peers: {
        connected: mesh.peers.count,
        known: Math.max(mesh.records.count - 1, 0),
        trusted: nodes.filter((node) => node.trust === "trusted").length,
      },
      members: mesh.members.counts(),
      routes: mesh.router.routes().length,
      queue: { messages: mesh.custody.queuedCount, bytes: mesh.custody.queuedBytes },
      conversions: this.#deps.conversions().map(({ name, rows }) => ({ name, rows })),
      advice: this.#deps.advice(),
      ...this.#deps.restart(),
    };
  }

  peers(which: "reachable" | "all"): PeerView[] {
    for (const { links } of this.#deps.mesh.peers.connected) for (const link of links) link.askedFor();
    const callsignOf = (id: NodeId) => this.#callsignOf(id);
    return which === "all" ? metViews(this.#deps, callsignOf) : reachableViews(this.#deps, callsignOf);
  }

  overlays(): OverlayView[] {
    return overlayViews(this.#deps.host.running);
  }

  channels(): ChannelView[] {
    return channelViews(this.#deps.mesh.channels, (id) => this.#callsignOf(id));
  }

  members(): MemberView[] {
    return memberViews(this.#deps, (id) => this.#callsignOf(id));
  }

  routes(): RouteView[] {
    return this.#deps.mesh.router.routes().map((row) => routeView(row, (id) => this.#callsignOf(id)));
  }

  why(node: string): WhyView {
    const { mesh } = this.#deps;
    const id = this.resolve(node);
    return whyView(mesh.router.explain(id), skippedOf(mesh, id), (other) => this.#callsignOf(other));
  }

  async trace(node: string, signal: AbortSignal): Promise<TraceView> {
    const destination = this.resolve(node);
    const { reached, hops } = await this.#deps.mesh.packets.trace(destination, signal);
    return {
      destination,
      reached,
      rtt_ms: reached ? round(hops.at(-1)!.rttMs) : null,
      hops: hops.map((hop) => ({
        node: hop.node,
        callsign: this.#callsignOf(hop.node),
        rtt_ms: round(hop.rttMs),
        stage: hop.stage === "reached" ? "deliver" : "forward",
      })),
    };
  }

  async send(message: OutgoingMessage): Promise<{ id: string }> {
    return { id: await this.#deps.mesh.custody.send(message, true) };
  }

  async messages(
    box: Box,
    page: { limit: number; after?: string },
  ): Promise<{ messages: MessageView[]; next: string | null }> {
    const { custody } = this.#deps.mesh;
    // One more than asked for tells whether there is a next page.
    const wanted = { ...page, limit: page.limit + 1, order: "newest-first" } as const;
    const views: MessageView[] =
      box === "inbox"
        ? (await custody.inbox.page(wanted)).map((entry) => this.#inboxView(entry))
        : box === "outbox"
          ? (await custody.outbox.page(wanted)).map((entry) => this.#outboxView(entry))
          : (await custody.transit.reader.page(wanted)).map((item) => this.#transitView(item));
    const isFull = views.length > page.limit;
    const messages = views.slice(0, page.limit);
    return { messages, next: isFull ? messages.at(-1)!.id : null };
  }

  async message(id: string): Promise<MessageView> {
    const { custody } = this.#deps.mesh;
    // At once, so that it is one question to the store.
    const [sent, received] = await Promise.all([
      custody.outbox.get(id as MessageId),
      custody.inbox.get(id as MessageId),
    ]);
    if (sent !== undefined) return this.#outboxView(sent);
    if (received !== undefined) return this.#inboxView(received);
    throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id.slice(0, 40)} here`);
  }

  async messageBody(id: string): Promise<{ bytes: Uint8Array; contentType: string }> {
    const { custody } = this.#deps.mesh;
    const received = await custody.inbox.get(id as MessageId);
    if (received !== undefined)
      return { bytes: await custody.inbox.body(received.id), contentType: received.contentType };
    const sent = await custody.outbox.get(id as MessageId);
    if (sent !== undefined)
      return { bytes: await custody.outbox.body(sent.id), contentType: sent.contentType };
    throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id.slice(0, 40)} here`);
  }

  async deleteMessage(id: string): Promise<void> {
    const { custody } = this.#deps.mesh;
    if ((await custody.inbox.get(id as MessageId)) !== undefined) await custody.inbox.remove(id as MessageId);
    else await custody.outbox.withdraw(id as MessageId);
  }

  setTrust(node: string, level: TrustLevel, reason: string, expiresSeconds?: number): Promise<void> {
    const time = expiresSeconds === undefined ? {} : { forMs: expiresSeconds * 1_000 };
    return this.#deps.mesh.setTrust(this.resolve(node), { level, reason, by: "operator", ...time });
  }

  askPlugin(type: string, instance: string | undefined, request: string, input: unknown): Promise<unknown> {
    return this.#deps.host.ask(type, instance, request, input);
  }

  discovery(): DiscoveryView {
    return viewDiscovery(this.#deps.mesh, this.#deps.host);
  }

  invite(request: InviteRequest): InviteView {
    return issueInvite(this.#deps.mesh, this.#deps.network, request);
  }

  join(token: string): JoinView {
    return takeToken(this.#deps.mesh, this.#deps.network, this.#deps.isOpen, token);
  }

  names(): NameView[] {
    return this.#deps.mesh.names
      .list()
      .map(({ isVouched, isHeld, ...shown }) => ({ ...shown, vouched: isVouched, held: isHeld }));
  }

  async resolveName(name: string, node: string): Promise<void> {
    const id = this.resolve(node);
    const { names, records } = this.#deps.mesh;
    const record = records.get(id)?.record;
    // After `names forget` nobody has the name although its record still claims it.
    if (record !== undefined && !this.#deps.mesh.book.isBlocked(id)) names.observe(record);
    await names.resolveConflict(name, id);
    this.#deps.hub.emit("nameResolved", { name, id });
  }

  reload(): Promise<ReloadView> {
    return this.#deps.reload();
  }

  metrics(): Promise<string> {
    return this.#deps.metrics.render();
  }

  subscribe(onEvent: (event: NodeEvent) => void): { close(): void } {
    return this.#events.subscribe(onEvent);
  }

  #inboxView(entry: InboxEntry): MessageView {
    return {
      id: entry.id,
      from: entry.from,
      from_callsign: this.#callsignOf(entry.from),
      to: entry.to,
      subject: entry.subject === "" ? null : entry.subject,
      content_type: entry.contentType,
      priority: entry.priority,
      size: entry.size,
      state: "delivered",
      reason: entry.isUnconfirmed ? "delivered without an answer from every machine of the location" : null,
      progress: null,
      created_at: isoTime(entry.createdAtMs),
      delivered_at: isoTime(entry.deliveredAtMs),
      expires_in_seconds: null,
      expires_at: null,
      receipt: null,
      trace: this.#trace(entry.trace),
      hops_untraced: entry.hopsUntraced ?? 0,
      forward_secret: entry.forwardSecret,
    };
  }

  #outboxView(entry: OutboxEntry): MessageView {
    const { receipt } = entry;
    const proven = receipt === null ? undefined : shownProof(receipt);
    return {
      id: entry.id,
      from: this.#deps.self,
      from_callsign: this.#deps.callsign ?? null,
      to: entry.to,
      subject: entry.subject === "" ? null : entry.subject,
      content_type: entry.contentType,
      priority: entry.priority,
      size: entry.size,
      state: entry.state,
      reason: outboxReason(this.#deps.mesh, entry),
      progress: this.#progress(entry.targets.map(({ bundle }) => bundle)),
      created_at: isoTime(entry.createdAtMs),
      delivered_at: entry.deliveredAtMs === null ? null : isoTime(entry.deliveredAtMs),
      ...this.#expiryOf(entry),
      receipt:
        receipt === null || proven === undefined
          ? null
          : {
              by: receipt.by,
              by_callsign: this.#callsignOf(receipt.by),
              at: isoTime(receipt.atMs),
              proof: proven.proof,
              signature: proven.signature ?? null,
              unconfirmed: receipt.isUnconfirmed,
            },
      trace: this.#trace(receipt?.trace ?? []),
      hops_untraced: null,
      forward_secret:
        entry.targets.length === 0 ? null : entry.targets.every((target) => target.key !== null),
    };
  }

  #expiryOf({
    state,
    remainingMs,
    atRunMs,
  }: OutboxEntry): Pick<MessageView, "expires_in_seconds" | "expires_at"> {
    if (finalStates.includes(state)) return { expires_in_seconds: null, expires_at: null };
    const { time, clock } = this.#deps;
    const leftMs = Math.max(0, remainingMs - time.ageMs(atRunMs ?? time.runMs));
    return { expires_in_seconds: Math.round(leftMs / 1_000), expires_at: isoTime(clock.wallMs() + leftMs) };
  }

  /** A bundle of others: what it says is not for this node to know. */
  #transitView(holding: TransitItem): MessageView {
    const untraced = untracedHops(holding);
    // Where the first of the trace is not the source, what it says is later.
    const madeAtMs = untraced === 0 ? holding.trace[0]?.atMs : undefined;
    return {
      id: holding.id,
      from: holding.header.source,
      from_callsign: this.#callsignOf(holding.header.source),
      to: holding.header.destination,
      subject: null,
      content_type: "application/octet-stream",
      priority: holding.header.priority,
      size: holding.sealedBytes,
      state: holding.state === "relayed" ? "relayed" : "queued",
      reason: holding.waitReason ?? null,
      progress: this.#progress([holding.id]),
      created_at: isoTime(madeAtMs ?? this.#deps.clock.wallMs() - holding.ageMs),
      delivered_at: null,
      expires_in_seconds: null,
      expires_at: null,
      receipt: null,
      trace: this.#trace(holding.trace),
      hops_untraced: untraced,
      forward_secret: null,
    };
  }

  #trace(entries: readonly TraceEntry[]): MessageView["trace"] {
    return entries.map(({ node, atMs }) => ({ node, callsign: this.#callsignOf(node), at: isoTime(atMs) }));
  }

  #progress(bundles: readonly BundleId[]): ProgressView | null {
    return progressView(this.#deps.mesh, bundles, (id) => this.#callsignOf(id));
  }

  #callsignOf(id: NodeId): string | null {
    const { self, callsign, mesh } = this.#deps;
    return (id === self ? callsign : mesh.records.get(id)?.record.callsign) ?? null;
  }

  /** An id, a callsign or a short id. Throws GODWIT_NAME_UNKNOWN, GODWIT_NAME_CONFLICT, GODWIT_ADDRESS_INVALID. */
  resolve(text: string): NodeId {
    return this.#deps.mesh.custody.directory.nodeOf(text);
  }
}

const round = (ms: number): number => Math.round(ms * 1000) / 1000;
