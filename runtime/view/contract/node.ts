/**
 * What the API may see and do of a node. The HTTP routes know nothing else; `view/live-view.ts` implements it over the living
 * parts, tests over plain objects. JSON names are the contract of docs/protocol/http.md, hence snake_case.
 */
import type { OutgoingMessage } from "@godwit/sdk";
import type { NodeId } from "../../kernel/ids.ts";
import type { ClosedView, SecretEpochView } from "./closed.ts";
import type { Priority } from "../../wire/constants.ts";

export type TrustLevel = "unknown" | "member" | "trusted" | "blocked";
export type HealthStatus = "ok" | "degraded" | "down";
export type MessageState = "queued" | "relayed" | "delivered" | "expired" | "refused" | "withdrawn";
export type Box = "inbox" | "outbox" | "transit";
/** `pages:NAME` opens what the service NAME shows under `/x/NAME/`, and nothing else of the node. */
export type TokenScope = "read" | "send" | "operate" | "admin" | `pages:${string}`;

export interface HealthView {
  status: HealthStatus;
  checks: { name: string; status: HealthStatus; reason: string }[];
}

export interface StatusView extends RestartView {
  node: {
    id: NodeId;
    callsign: string | null;
    location: string | null;
    version: string;
    uptime_seconds: number;
  };
  /** Mesh IPv6 and prefix: of the overlay that gives the node one to route, else derived from network and id. */
  address: string;
  subnet: string;
  network: string;
  /** True when no network secret is set: whoever completes the handshake is a member. */
  open: boolean;
  /** The key that binds names and revokes nodes; null without one. */
  authority: NodeId | null;
  /** Network secrets that open links, the current one first. */
  secret_epochs: Pick<SecretEpochView, "epoch" | "state" | "links">[];
  revocations: number;
  /** Whether the wall clock is believed, and why; in doubt, what to do. */
  clock: { state: "confirmed" | "unconfirmed" | "doubted"; reason: string };
  transports: {
    name: string;
    type: string;
    state: "starting" | "running" | "degraded" | "down";
    listen: string[];
    reason: string | null;
  }[];
  peers: { connected: number; known: number; trusted: number };
  /** Every node of the mesh by what is concluded about it, this one included. */
  members: { alive: number; suspect: number; failed: number; left: number };
  routes: number;
  queue: { messages: number; bytes: number };
  /** Rows that an earlier release wrote, on their way to the form of today: what is not through yet, and how many were looked at. */
  conversions: { name: string; rows: number }[];
  /** Of a node that was told of nobody: what it could use. Empty on every other. */
  advice: string[];
}

/** A channel that everybody in earshot shares. */
export interface ChannelView {
  /** Instance of the transport. */
  transport: string;
  /** On the air, bits per second. */
  rate: number;
  /** Part of the last minutes in which it was busy, whoever sent. */
  utilisation: number;
  /** Nodes of the mesh that share it, this one among them. */
  nodes: number;
  /** What is neither mail nor receipt, of this node. */
  control: {
    /** Part of the channel that it earns. */
    share: number;
    /** Airtime that is saved; below 0: owed. */
    saved_seconds: number;
    /** Since the start. `refused`: so often there was no airtime. */
    uses: { use: string; seconds: number; refused: number }[];
  };
  /** By their beacons, which prove nothing. */
  heard: { id: NodeId | null; callsign: string | null; address: string; gateway: boolean }[];
}

export interface OverlayView {
  /** Instance and type of the transport that it carries. */
  transport: string;
  type: string;
  address: string;
  subnet: string | null;
  mtu: number | null;
  sessions: number | null;
  /** Neighbours within the overlay, which need not be nodes of the mesh. */
  peers: {
    address: string | null;
    remote: string;
    up: boolean;
    direction: "inbound" | "outbound" | null;
    up_seconds: number | null;
    rtt_ms: number | null;
    bytes_received: number | null;
    bytes_sent: number | null;
  }[];
}

export interface PeerView {
  id: NodeId;
  callsign: string | null;
  trust: TrustLevel;
  /** Who decided on the trust, why, and until when (ISO 8601). */
  trust_by: "configuration" | "operator" | "rule" | "manager" | "default";
  trust_reason: string | null;
  trust_until: string | null;
  /** From 0 to 1: how much of the time it was there, times how much of what it was given arrived. */
  score: number;
  /** `silent`: it has links, and none of them gives an answer as soon as usual. */
  state: "connected" | "silent" | "connecting" | "disconnected" | "blocked";
  links: {
    transport: string;
    address: string;
    direction: "inbound" | "outbound";
    rtt_ms: number | null;
    /** Largest frame that it carries now, bytes. */
    mtu: number;
    up_seconds: number;
    /** Epoch of the network secret that the link's handshake used; null in an open mesh. */
    secret_epoch: string | null;
  }[];
  /** For good, by itself or by the network's authority. */
  revoked: boolean;
  /** ISO 8601 by this node's clock; null when never seen. */
  last_seen: string | null;
  /** Its routes are the last resort: why, and until when at least; null: they are not. */
  quarantine: { reason: string; until: string; offences: number } | null;
}

export interface ReloadView extends RestartView {
  /** Plugin instances that were started, stopped or rebuilt. */
  changed: {
    section: "transports" | "discovery" | "services" | "engines" | "heal";
    name: string;
    change: "added" | "removed" | "changed";
  }[];
  /** Settings whose new values count now. */
  applied: string[];
}

/** What the configuration, as it was read last, says otherwise than the node runs with. */
export interface RestartView {
  /** Settings whose new values count from the next start. */
  restart_needed: string[];
  /** Why each of them does; completes "at the next start, because ...". */
  restart_because: Record<string, string>;
}

export interface MemberView {
  id: NodeId;
  callsign: string | null;
  state: "alive" | "suspect" | "failed" | "left";
  /** Only the node itself raises it. 0: only routes speak of it so far. */
  incarnation: number;
  /** In this state since then, by this node's clock. */
  since: string;
  reason: string;
  /** Node that the conclusion rests on; null: this node's own links, routes and pings. */
  source: NodeId | null;
  /** What the node says of its machine; nobody checks it. */
  tags: readonly string[];
  /** When anything proved that it lives; null when nothing has yet. */
  last_heard: string | null;
}

export interface RouteView {
  destination: NodeId;
  callsign: string | null;
  next_hop: NodeId;
  /** Expected time to deliver 256 bytes, in 0.1 ms. */
  metric: number;
  mtu: number;
  bottleneck: "fast" | "medium" | "slow";
  alternates: { next_hop: NodeId; metric: number }[];
}

/** `godwit why NODE`: candidates, costs, feasibility, and what would change the choice. */
export interface WhyView {
  destination: NodeId;
  callsign: string | null;
  reachable: boolean;
  feasibility: { seqno: number; metric: number } | null;
  candidates: {
    next_hop: NodeId;
    callsign: string | null;
    advertised_metric: number;
    link_cost: number;
    metric: number;
    seqno: number;
    feasible: boolean;
    selected: boolean;
    reason: string;
  }[];
  explanation: string[];
  /** Endpoints that it was named under and that this node does not connect to on another's word. */
  skipped: { endpoint: string; reason: string }[];
}

export interface TraceView {
  destination: NodeId;
  reached: boolean;
  rtt_ms: number | null;
  hops: { node: NodeId; callsign: string | null; rtt_ms: number | null; stage: string }[];
}

export interface LogEntryView {
  number: number;
  time: string;
  level: "debug" | "info" | "warn" | "error";
  event: string;
  fields: Record<string, unknown>;
}

export interface LogsView {
  lines: LogEntryView[];
  started_at: string;
  last: number;
  lost: number;
}

export interface ProgressView {
  next_hop: NodeId;
  next_hop_callsign: string | null;
  /** Sealed bytes that the next hop said it has, and of all of it. */
  bytes: number;
  bytes_total: number;
  /** A mean of some ten seconds; null: it is too early to say. */
  bits_per_second: number | null;
  /** Until the next hop has all of it; null: nobody knows. */
  seconds_left: number | null;
}

export interface MessageView {
  id: string;
  from: NodeId;
  /** As this node knows it now; null when it knows none. */
  from_callsign: string | null;
  to: string;
  subject: string | null;
  content_type: string;
  priority: Priority;
  size: number;
  state: MessageState;
  /** Why it is where it is, in words: "no route to swcm5ymtg4 yet", "refused by swcm5ymtg4: it is full, and takes it when there is room"; null when there is nothing to say. */
  reason: string | null;
  /** How far it is on its way to the next hop, while that fetches it in pieces; null: it is not being sent, or goes in one. */
  progress: ProgressView | null;
  created_at: string;
  delivered_at: string | null;
  /** Left of the life of an own message that is still open, by running time; null for all others. */
  expires_in_seconds: number | null;
  /** The same as a moment of this node's clock, ISO 8601; it moves when that is set. */
  expires_at: string | null;
  receipt: {
    by: NodeId;
    by_callsign: string | null;
    at: string;
    /** What shows it: the recipient's signature, to anybody; the session that the message was sealed in, to this node alone; nothing any more, because this disk damaged it. */
    proof: "signature" | "session" | "lost";
    /** Ed25519, hex; null unless that is its proof. */
    signature: string | null;
    unconfirmed: boolean;
  } | null;
  trace: { node: NodeId; callsign: string | null; at: string }[];
  /** Links before the first of the trace that nobody noted, as over slow links; null where only the receipt, which does not tell it, says the way. */
  hops_untraced: number | null;
  /** False when it was sealed to an identity key because no prekey was known, null when not yet sealed. */
  forward_secret: boolean | null;
}

export interface NameView {
  name: string;
  node: NodeId;
  source: "configured" | "authority" | "pinned";
  /** By the configuration, the authority or `names resolve`: rights may hang on it. */
  vouched: boolean;
  /** False: it means nobody and mail to it waits; `node` is who had it. */
  held: boolean;
  conflict: NodeId | null;
}

/** One event of `GET /events`. `type` is `<family>.<what>`; data is flat JSON. */
export interface NodeEvent {
  family:
    | "link"
    | "peer"
    | "member"
    | "route"
    | "message"
    | "heal"
    | "plugin"
    | "name"
    | "join"
    | "discovery"
    | "clock"
    | "store";
  type: string;
  at: string;
  data: Record<string, string | number | boolean | null>;
}

/** What became of a hint; `waiting`: its turn has not come, `backing_off`: failed, tried again soon. */
export type HintVerdict =
  "linked" | "dialling" | "waiting" | "backing_off" | "unreachable" | "refused" | "ignored";

export interface DiscoveryView {
  hints: {
    endpoint: string;
    id: NodeId | null;
    source: string;
    age_seconds: number;
    expires_in_seconds: number | null;
    verdict: HintVerdict;
    reason: string | null;
    next_try_seconds: number | null;
  }[];
}

export interface InviteRequest {
  ttl_seconds?: number | undefined;
  uses?: number | undefined;
  callsign?: string | undefined;
}

export interface InviteView {
  token: string;
  network: string;
  open: boolean;
  invite: string | null;
  expires_at: string | null;
  uses: number | null;
  addresses: string[];
  note: string | null;
}

export interface JoinView {
  network: string;
  hints: number;
}

export interface NodeView {
  readonly closed: ClosedView;
  /** Only the operator is told whom this node writes to. */
  health(forWhom?: "anybody" | "operator"): HealthView;
  status(): StatusView;
  members(): MemberView[];
  /** The neighbours that can be reached now, or all nodes that this one has met or is told of. */
  peers(which: "reachable" | "all"): PeerView[];
  /** Networks that carry transports, with their own neighbours. */
  overlays(): OverlayView[];
  /** Channels that all in earshot share, and who is heard there. */
  channels(): ChannelView[];
  routes(): RouteView[];
  /** `node` is an id, a callsign or a 10-character short id. Throws GODWIT_NAME_UNKNOWN or GODWIT_ADDRESS_INVALID. */
  why(node: string): WhyView;
  trace(node: string, signal: AbortSignal): Promise<TraceView>;
  /** Resolves only after the durable commit (for `transient`: once it left this node). The same idempotency key gives the same id. `body` is given away. */
  send(message: OutgoingMessage): Promise<{ id: string }>;
  /** Newest first; `after` is the id of the last row of the page before. */
  messages(
    box: Box,
    page: { limit: number; after?: string },
  ): Promise<{ messages: MessageView[]; next: string | null }>;
  /** Throws GODWIT_MESSAGE_UNKNOWN. */
  message(id: string): Promise<MessageView>;
  messageBody(id: string): Promise<{ bytes: Uint8Array; contentType: string }>;
  /** Removes from the inbox, or withdraws from the outbox. Resolves after the commit. */
  deleteMessage(id: string): Promise<void>;
  /** `expiresSeconds`: then as if nothing had been decided. */
  setTrust(node: string, level: TrustLevel, reason: string, expiresSeconds?: number): Promise<void>;
  /** Reads the configuration anew. Rejects with GODWIT_CONFIG_INVALID, and then nothing changed. */
  reload(): Promise<ReloadView>;
  /** Rejects with GODWIT_NOT_FOUND, GODWIT_REQUEST_INVALID, or as the plugin refuses. */
  askPlugin(type: string, instance: string | undefined, request: string, input: unknown): Promise<unknown>;
  discovery(): DiscoveryView;
  /** Throws GODWIT_REQUEST_INVALID when no member has an address that others can dial. */
  invite(request: InviteRequest): InviteView;
  /** Throws GODWIT_TOKEN_INVALID, GODWIT_JOIN_REFUSED. */
  join(token: string): JoinView;
  names(): NameView[];
  /** Settles a conflict for good: `node` gets the name. */
  resolveName(name: string, node: string): Promise<void>;
  metrics(): Promise<string>;
  /**
   * Calls `onEvent` synchronously, at once, and never after `close`. The API bounds each subscriber's queue itself: a
   * slow one loses the oldest and is told `events.lost` with their count.
   */
  subscribe(onEvent: (event: NodeEvent) => void): { close(): void };
}

/** A TCP port here that leads to a target at another node. */
export interface ForwardView {
  id: string;
  listen: string;
  to: string;
  target: string;
  source: "configuration" | "api";
  connections: number;
  connections_total: number;
  bytes_sent: number;
  bytes_received: number;
  failures: number;
  /** False while its address is not there; `last_error` says why. */
  listening: boolean;
  last_error: string | null;
}

export interface ForwardTable {
  list(): ForwardView[];
  /** Listens at once. Throws GODWIT_REQUEST_INVALID, GODWIT_LISTEN_FAILED. */
  add(request: { listen: string; to: string; target: string }): ForwardView;
  remove(id: string): boolean;
}

/** API tokens; only hashes are kept. Separate from the node because they guard the door, not the mesh. */
export interface TokenStore {
  /** `secret` is shown once and never again. */
  create(scopes: readonly TokenScope[], label: string): Promise<{ id: string; secret: string }>;
  /** `created_at` is null for a token of the configuration. */
  list(): { id: string; label: string; scopes: readonly TokenScope[]; created_at: string | null }[];
  revoke(id: string): Promise<boolean>;
  /** Constant-time. Undefined when no token matches. */
  scopesOf(secret: string): readonly TokenScope[] | undefined;
  /** Calls `ended` once, when the token that the secret opens ends or may do other things than before. Until the returned function is called. */
  watch(secret: string, ended: () => void): () => void;
}
