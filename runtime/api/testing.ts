/** A plain fake of the node for tests of the API and the CLI: state in fields, every call recorded, no behaviour. */
import type { OutgoingMessage } from "@godwit/sdk";
import { ManualClock, type Clock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog, type Log } from "../kernel/log.ts";
import { RecentLog } from "../kernel/recent-log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { createApi, type Api } from "./app.ts";
import { pluginAnswer } from "./testing-plugins.ts";
import type { PagesDesk } from "../view/contract/pages.ts";
import type { PluginDesk } from "../view/contract/plugins.ts";
import type { ClosedView, RotateRequest } from "../view/contract/closed.ts";
import type {
  ForwardTable,
  ForwardView,
  HealthView,
  InviteRequest,
  MessageView,
  NameView,
  NodeEvent,
  NodeView,
  ReloadView,
  TokenScope,
  TokenStore,
  TraceView,
} from "../view/contract/node.ts";

export const nodeA: NodeId = formatNodeId(new Uint8Array(32).fill(1));
export const nodeB: NodeId = formatNodeId(new Uint8Array(32).fill(2));
export const nodeC: NodeId = formatNodeId(new Uint8Array(32).fill(3));
export const messageId1 = "0123456789abcdef0123456789abcdef";

export const sampleMessage: MessageView = {
  id: messageId1,
  from: nodeC,
  from_callsign: "NYC-C",
  to: "DUN-A",
  subject: "greetings",
  content_type: "text/plain; charset=utf-8",
  priority: 2,
  size: 5,
  state: "delivered",
  reason: null,
  progress: null,
  created_at: "2026-01-01T00:00:00.000Z",
  delivered_at: "2026-01-01T00:00:01.000Z",
  expires_in_seconds: null,
  expires_at: null,
  receipt: {
    by: nodeA,
    by_callsign: "DUN-A",
    at: "2026-01-01T00:00:01.000Z",
    proof: "signature",
    signature: "c2ln",
    unconfirmed: false,
  },
  trace: [
    { node: nodeC, callsign: "NYC-C", at: "2026-01-01T00:00:00.000Z" },
    { node: nodeB, callsign: null, at: "2026-01-01T00:00:00.500Z" },
    { node: nodeA, callsign: "DUN-A", at: "2026-01-01T00:00:01.000Z" },
  ],
  hops_untraced: 0,
  forward_secret: true,
};

export class FakeNode implements NodeView {
  healthNow: HealthView = { status: "ok", checks: [{ name: "store", status: "ok", reason: "" }] };
  readonly healthAskedBy: string[] = [];
  readonly sent: OutgoingMessage[] = [];
  readonly trusts: { node: string; level: string; reason: string; expiresSeconds?: number }[] = [];
  readonly resolved: { name: string; node: string }[] = [];
  readonly deleted: string[] = [];
  readonly joins: string[] = [];
  readonly published: string[] = [];
  readonly rotations: RotateRequest[] = [];
  readonly closed: ClosedView = {
    revocations: () => [{ id: nodeC, by: nodeB, by_authority: true, reason: "stolen" }],
    publishRevocation: async (text) => {
      this.published.push(text);
      return { id: nodeC, by: nodeB, by_authority: true, reason: "stolen" };
    },
    secrets: () => ({ rotate: "members", authority: null, network: "telex", generation: 1, epochs: [] }),
    rotateSecret: async (request) => {
      this.rotations.push(request);
      return { epoch: "0a1b2c3d", generation: request.generation, sent: [nodeB], left_out: [] };
    },
    retireSecrets: () => ["0a1b2c3d"],
    adoptName: async () => ({ name: "DUN-A", serial: 1 }),
    forgetName: async () => {},
  };
  readonly boxed = new Map<string, { view: MessageView; body: Uint8Array; contentType?: string }>([
    [messageId1, { view: sampleMessage, body: new TextEncoder().encode("hello") }],
  ]);
  readonly #subscribers = new Set<(event: NodeEvent) => void>();
  /** Of stored rows, those that are not through. */
  conversions: { name: string; rows: number }[] = [];
  /** Thrown by every call when set. */
  failure: Error | undefined;
  /** What `trace` does; by default it answers at once. */
  onTrace: (signal: AbortSignal) => Promise<void> = () => Promise.resolve();

  get subscribers(): number {
    return this.#subscribers.size;
  }

  emit(event: NodeEvent): void {
    for (const onEvent of this.#subscribers) onEvent(event);
  }

  health(forWhom: "anybody" | "operator" = "anybody") {
    this.#fail();
    this.healthAskedBy.push(forWhom);
    return this.healthNow;
  }

  status() {
    this.#fail();
    return {
      node: { id: nodeA, callsign: "DUN-A", location: "DUN", version: "0.1.0", uptime_seconds: 93 },
      address: "fd00::1",
      subnet: "fd00::/64",
      network: "telex",
      open: true,
      authority: null,
      secret_epochs: [],
      revocations: 0,
      clock: { state: "confirmed" as const, reason: "its time source vouches for it" },
      transports: [
        { name: "lan", type: "tcp", state: "running" as const, listen: ["tcp://0.0.0.0:4860"], reason: null },
      ],
      peers: { connected: 1, known: 2, trusted: 1 },
      members: { alive: 2, suspect: 0, failed: 1, left: 0 },
      routes: 2,
      queue: { messages: 3, bytes: 4096 },
      conversions: this.conversions,
      advice: [],
      restart_needed: [],
      restart_because: {},
    };
  }

  channels() {
    return [
      {
        transport: "lora",
        rate: 1_074,
        utilisation: 0.034,
        nodes: 3,
        control: {
          share: 0.002,
          saved_seconds: 3.5,
          uses: [
            { use: "handshakes", seconds: 4.2, refused: 1 },
            { use: "beacons", seconds: 1.5, refused: 0 },
          ],
        },
        heard: [
          { id: null, callsign: null, address: "meshtastic://0a1b2c3d", gateway: true },
          { id: null, callsign: null, address: "meshtastic://0a1b2c3e", gateway: false },
        ],
      },
    ];
  }

  overlays() {
    return [
      {
        transport: "overlay",
        type: "yggdrasil",
        address: "200:1::2",
        subnet: "300:1::/64",
        mtu: 65535,
        sessions: 1,
        peers: [
          {
            address: "200:3::4",
            remote: "tls://192.0.2.7:9001",
            up: true,
            direction: "outbound" as const,
            up_seconds: 7,
            rtt_ms: 1.5,
            bytes_received: 10,
            bytes_sent: 20,
          },
        ],
      },
    ];
  }

  peers(which: "reachable" | "all") {
    this.#fail();
    const link = {
      transport: "lan",
      address: "tcp://192.0.2.1:4860",
      direction: "outbound" as const,
      rtt_ms: 1.25,
      mtu: 61_440,
      up_seconds: 60,
      secret_epoch: null,
    };
    const rows = [
      {
        id: nodeB,
        callsign: "LON-B",
        trust: "member" as const,
        trust_by: "default" as const,
        trust_reason: null,
        trust_until: null,
        score: 1,
        state: "connected" as const,
        links: [link],
        revoked: false,
        last_seen: "2026-01-01T00:00:00.000Z",
        quarantine: null,
      },
      {
        id: nodeC,
        callsign: null,
        trust: "unknown" as const,
        trust_by: "default" as const,
        trust_reason: null,
        trust_until: null,
        score: 0,
        state: "disconnected" as const,
        links: [],
        revoked: false,
        last_seen: null,
        quarantine: { reason: "lost mail", until: "2026-01-01T00:00:00.000Z", offences: 1 },
      },
    ];
    return which === "all" ? rows : rows.slice(0, 1);
  }

  members() {
    this.#fail();
    const since = "2026-01-01T00:00:00.000Z";
    const own = { callsign: "DUN-A", state: "alive" as const, incarnation: 16_777_216, reason: "this node" };
    const gone = { callsign: null, state: "failed" as const, incarnation: 33_554_433, reason: "link closed" };
    return [
      { id: nodeA, ...own, since, source: null, tags: ["arch-x64", "storage"], last_heard: since },
      { id: nodeC, ...gone, since, source: nodeB, tags: [], last_heard: null },
    ];
  }

  routes() {
    this.#fail();
    return [
      {
        destination: nodeC,
        callsign: "NYC-C",
        next_hop: nodeB,
        metric: 40,
        mtu: 61_440,
        bottleneck: "fast" as const,
        alternates: [{ next_hop: nodeC, metric: 90 }],
      },
    ];
  }

  why(node: string) {
    this.#known(node);
    return {
      destination: nodeC,
      callsign: "NYC-C",
      reachable: true,
      feasibility: { seqno: 7, metric: 40 },
      candidates: [
        {
          next_hop: nodeB,
          callsign: "LON-B",
          advertised_metric: 20,
          link_cost: 20,
          metric: 40,
          seqno: 7,
          feasible: true,
          selected: true,
          reason: "lowest metric",
        },
      ],
      explanation: ["LON-B is the only feasible next hop"],
      skipped: [
        { endpoint: "ws://127.0.0.1:80/any", reason: "a loopback address of whoever is not on this machine" },
      ],
    };
  }

  async trace(node: string, signal: AbortSignal): Promise<TraceView> {
    this.#known(node);
    await this.onTrace(signal);
    const hop = { node: nodeB, callsign: "LON-B", rtt_ms: 1.5, stage: "route/forward" };
    return { destination: nodeC, reached: true, rtt_ms: 3.25, hops: [hop] };
  }

  async send(request: OutgoingMessage) {
    this.#fail();
    // Bodies are borrowed until the promise settles.
    this.sent.push({ ...request, body: request.body.slice() });
    return { id: messageId1 };
  }

  async messages(_box: string, page: { limit: number; after?: string }) {
    this.#fail();
    const rows = [...this.boxed.values()].map(({ view }) => view);
    const from = page.after === undefined ? 0 : rows.findIndex((row) => row.id === page.after) + 1;
    const slice = rows.slice(from, from + page.limit);
    return { messages: slice, next: from + page.limit < rows.length ? slice.at(-1)!.id : null };
  }

  async message(id: string) {
    return this.#boxed(id).view;
  }

  async messageBody(id: string) {
    const { body, view, contentType } = this.#boxed(id);
    return { bytes: body, contentType: contentType ?? view.content_type };
  }

  async deleteMessage(id: string) {
    this.#boxed(id);
    this.deleted.push(id);
  }

  async setTrust(node: string, level: string, reason: string, expiresSeconds?: number) {
    this.#known(node);
    this.trusts.push({ node, level, reason, ...(expiresSeconds === undefined ? {} : { expiresSeconds }) });
  }

  discovery() {
    this.#fail();
    const hint = {
      endpoint: "tcp://192.0.2.1:4860",
      id: nodeB,
      source: "discovery.neighbours",
      age_seconds: 3,
      expires_in_seconds: null,
      verdict: "linked" as const,
      reason: null,
      next_try_seconds: null,
    };
    return { hints: [hint] };
  }

  invite({ uses = 1 }: InviteRequest) {
    this.#fail();
    return {
      token: "godwit1test",
      network: "telex",
      open: false,
      invite: "0102030405060708",
      expires_at: "2026-01-01T01:00:00.000Z",
      uses,
      addresses: ["tcp://192.0.2.1:4860"],
      note: null,
    };
  }

  join(token: string) {
    this.#fail();
    this.joins.push(token);
    return { network: "telex", hints: 1 };
  }

  names(): NameView[] {
    this.#fail();
    return [{ name: "NYC-C", node: nodeC, source: "pinned", vouched: false, held: true, conflict: nodeB }];
  }

  async askPlugin(type: string, instance: string | undefined, request: string, input: unknown) {
    this.#fail();
    return pluginAnswer(type, instance, request, input);
  }

  async reload(): Promise<ReloadView> {
    this.#fail();
    return {
      changed: [{ section: "services", name: "telex", change: "added" }],
      applied: ["node.log_level"],
      restart_needed: ["node.network"],
      restart_because: { "node.network": "links are made for one mesh" },
    };
  }

  async resolveName(name: string, node: string) {
    this.#fail();
    this.resolved.push({ name, node });
  }

  async metrics() {
    this.#fail();
    return "godwit_up 1\n";
  }

  subscribe(onEvent: (event: NodeEvent) => void) {
    this.#subscribers.add(onEvent);
    return { close: () => void this.#subscribers.delete(onEvent) };
  }

  #fail(): void {
    if (this.failure !== undefined) throw this.failure;
  }

  #known(node: string): void {
    this.#fail();
    if (node === "NOBODY") throw godwitError("GODWIT_NAME_UNKNOWN", `no node is known as "${node}"`);
  }

  #boxed(id: string) {
    this.#fail();
    const row = this.boxed.get(id);
    if (row === undefined) throw godwitError("GODWIT_MESSAGE_UNKNOWN", `no message ${id}`);
    return row;
  }
}

/** Tokens by their secret; `read-secret` has scope read, and so on. */
export function fakeTokens(): TokenStore & { readonly revoked: string[]; end(secret: string): void } {
  const ends = new Map<string, Set<() => void>>();
  const scopes = new Map<string, readonly TokenScope[]>(
    (["read", "send", "operate", "admin"] as const).map((scope) => [`${scope}-secret`, [scope]]),
  );
  const revoked: string[] = [];
  return {
    revoked,
    create: async () => ({ id: "t1", secret: "gwt_secret" }),
    list: () => [{ id: "t1", label: "bot", scopes: ["send"], created_at: "2026-01-01T00:00:00.000Z" }],
    async revoke(id) {
      revoked.push(id);
      return id === "t1";
    },
    scopesOf: (secret) => scopes.get(secret),
    watch(secret, ended) {
      const all = ends.get(secret) ?? new Set();
      ends.set(secret, all.add(ended));
      return () => void all.delete(ended);
    },
    /** It opens nothing any more. */
    end(secret) {
      scopes.delete(secret);
      for (const ended of ends.get(secret) ?? []) ended();
    },
  };
}

function fakeForwards(): ForwardTable {
  const counts = { connections: 0, connections_total: 0, bytes_sent: 0, bytes_received: 0, failures: 0 };
  const rowOf = (id: string, request: { listen: string; to: string; target: string }): ForwardView => ({
    id,
    ...request,
    source: "api",
    ...counts,
    listening: true,
    last_error: null,
  });
  const rows = [rowOf("f0", { listen: "127.0.0.1:8080", to: "DUN-A", target: "127.0.0.1:80" })];
  return {
    list: () => rows,
    add(request) {
      const made = rowOf(`f${rows.length}`, request);
      rows.push(made);
      return made;
    },
    remove: (id) => rows.some((known) => known.id === id),
  };
}

function fakePlugins(): PluginDesk {
  const entryOf = (key: string) => ({ key, value_base64: "aGk=", revision: "1" });
  const steps = ["it would restart the radio"];
  return {
    list: () => [
      {
        namespace: "heal-action",
        name: "radio",
        type: "restart-radio",
        state: "running",
        reason: null,
        guarantee: null,
        actions: [{ name: "restart-radio", summary: "restarts a radio that is stuck" }],
      },
    ],
    read: async (_engine, key) => entryOf(key),
    write: async (_engine, key) => entryOf(key),
    plan: async () => steps,
    heal: async () => steps,
  };
}

export interface Rig {
  readonly app: Api;
  readonly node: FakeNode;
  readonly tokens: ReturnType<typeof fakeTokens>;
  readonly plugins: PluginDesk;
  readonly clock: ManualClock;
  readonly metrics: Metrics;
  readonly recent: RecentLog;
  readonly stop: AbortController;
}

/** No instance has pages. */
export const noPages: PagesDesk = {
  reachOf: () => undefined,
  call: () => Promise.reject(godwitError("GODWIT_NOT_FOUND", "no plugin runs here that has pages")),
};

const fakeProfile = {
  cpu: {
    nodes: [
      {
        id: 1,
        callFrame: { functionName: "(root)", url: "", lineNumber: -1, columnNumber: -1 },
        hitCount: 6,
      },
      {
        id: 2,
        callFrame: { functionName: "onFrame", url: "file:///a/session.ts", lineNumber: 41, columnNumber: 3 },
        hitCount: 2,
      },
    ],
    startTime: 0,
    endTime: 10_000,
    samples: [1, 1, 1, 1, 1, 1, 2, 2],
    timeDeltas: [],
  },
  heap: {
    bytes: 2_097_152,
    capacityBytes: 4_194_304,
    extraBytes: 1_024,
    objects: 30,
    byType: [{ type: "Array", count: 20 }],
  },
};

interface RigOptions {
  /** In place of the manual one, where real sockets are involved. */
  readonly clock?: Clock;
  readonly log?: Log;
  readonly pages?: PagesDesk;
  readonly isReadPublic?: boolean;
  readonly isProfiledOverTcp?: boolean;
}

/** An API over a fake node. */
export function createRig(options: RigOptions = {}): Rig {
  const node = new FakeNode();
  const tokens = fakeTokens();
  const plugins = fakePlugins();
  const clock = new ManualClock();
  const metrics = new Metrics();
  const recent = new RecentLog(options.clock ?? clock);
  const stop = new AbortController();
  const app = createApi({
    view: node,
    tokens,
    forwards: fakeForwards(),
    plugins,
    pages: options.pages ?? noPages,
    clock: options.clock ?? clock,
    log: options.log ?? silentLog,
    recent,
    metrics,
    version: "0.1.0",
    profiler: { isOverTcp: options.isProfiledOverTcp ?? true, take: () => Promise.resolve(fakeProfile) },
    isReadPublic: () => options.isReadPublic === true,
    signal: stop.signal,
  });
  return { app, node, tokens, plugins, clock, metrics, recent, stop };
}
