/**
 * Every request and answer of the API as a zod schema: requests are validated by them, answers are typed by them, and
 * `/openapi.json` is generated from them. `satisfies` holds them to `view/contract/node.ts`.
 */
import { z } from "zod";
import { errorCodes } from "../kernel/errors.ts";
import { BATCH_MESSAGES_MAX, eventFamilies, IDEMPOTENCY_KEY_CHARS_MAX, PAGES_SCOPE } from "./bounds.ts";
import type { NodeId } from "../kernel/ids.ts";
import { LIFETIME_MAX_MS, type Priority } from "../wire/constants.ts";
import type {
  HealthView,
  MemberView,
  MessageView,
  NameView,
  ChannelView,
  OverlayView,
  PeerView,
  ReloadView,
  RouteView,
  StatusView,
  TraceView,
  WhyView,
} from "../view/contract/node.ts";

/** Characters of a subject line. */
export const SUBJECT_CHARS_MAX = 200;
export const CONTENT_TYPE_CHARS_MAX = 128;
export const PAGE_MAX = 500;
export const PAGE_DEFAULT = 50;

export const nodeId = z
  .string()
  .regex(/^[a-z2-7]{52}$/, "expected a node id of 52 characters of lower-case base32")
  .describe("Ed25519 public key, 52 characters of lower-case base32") as unknown as z.ZodType<NodeId>;
const messageId = z
  .string()
  .regex(/^[0-9a-f]{32}$/, "expected a message id of 32 characters of lower-case hex")
  .describe("16 bytes as lower-case hex");
const priority = z
  .union([z.literal(0), z.literal(1), z.literal(2), z.literal(3)])
  .describe("0 is most urgent") as z.ZodType<Priority>;
const count = z.number().int().nonnegative();
const moment = z.string().describe("ISO 8601 by the clock of this node, which may be wrong by decades");
const metric = z.number().nonnegative().describe("expected time to deliver 256 bytes, in 0.1 ms");

export const trustLevels = ["unknown", "member", "trusted", "blocked"] as const;
export const tokenScopes = ["read", "send", "operate", "admin"] as const;
const scope = z.union([
  z.enum(tokenScopes),
  z
    .string()
    .regex(PAGES_SCOPE, `expected ${tokenScopes.join(", ")} or pages:NAME`) as z.ZodType<`pages:${string}`>,
]);
/** Of one token. */
const SCOPES_MAX = 16;
export const boxes = ["inbox", "outbox", "transit"] as const;
const healthStatus = z.enum(["ok", "degraded", "down"]);

export const health = z.object({
  status: healthStatus,
  checks: z.array(z.object({ name: z.string(), status: healthStatus, reason: z.string() })),
}) satisfies z.ZodType<HealthView>;

const restart = {
  restart_needed: z
    .array(z.string())
    .describe("settings that the configuration, as it was read last, says otherwise than the node runs with"),
  restart_because: z.record(z.string(), z.string()).describe("why each of them counts from the next start"),
};

export const status = z.object({
  node: z.object({
    id: nodeId,
    callsign: z.string().nullable(),
    location: z.string().nullable(),
    version: z.string(),
    uptime_seconds: z.number().nonnegative(),
  }),
  address: z
    .string()
    .describe("the node's mesh IPv6: of the overlay that routes a subnet to it, else derived"),
  subnet: z.string().describe("that subnet, or the derived prefix"),
  network: z.string(),
  open: z.boolean().describe("true without a network secret: whoever completes the handshake is a member"),
  authority: nodeId.nullable().describe("the key that binds names and revokes nodes"),
  secret_epochs: z
    .array(z.object({ epoch: z.string(), state: z.enum(["current", "old"]), links: count }))
    .describe("network secrets that open links, the current one first"),
  revocations: count,
  clock: z.object({ state: z.enum(["confirmed", "unconfirmed", "doubted"]), reason: z.string() }),
  transports: z.array(
    z.object({
      name: z.string(),
      type: z.string(),
      state: z.enum(["starting", "running", "degraded", "down"]),
      listen: z.array(z.string()).describe("actual addresses"),
      reason: z.string().nullable(),
    }),
  ),
  peers: z.object({ connected: count, known: count, trusted: count }),
  members: z.object({ alive: count, suspect: count, failed: count, left: count }),
  routes: count,
  queue: z.object({ messages: count, bytes: count }),
  conversions: z
    .array(z.object({ name: z.string(), rows: count }))
    .describe("stored rows of an earlier release on their way to the form of today: what is not through"),
  advice: z.array(z.string()).describe("what a node could use that was told of nobody; else empty"),
  ...restart,
}) satisfies z.ZodType<StatusView>;

export const peer = z.object({
  id: nodeId,
  callsign: z.string().nullable(),
  trust: z.enum(trustLevels),
  trust_by: z.enum(["configuration", "operator", "rule", "manager", "default"]),
  trust_reason: z.string().nullable(),
  trust_until: moment.nullable(),
  score: z.number().min(0).max(1),
  state: z.enum(["connected", "silent", "connecting", "disconnected", "blocked"]),
  links: z.array(
    z.object({
      transport: z.string(),
      address: z.string(),
      direction: z.enum(["inbound", "outbound"]),
      rtt_ms: z.number().nullable(),
      mtu: count.describe("largest frame that it carries now, bytes"),
      up_seconds: z.number().nonnegative(),
      secret_epoch: z.string().nullable().describe("of the network secret that the handshake used"),
    }),
  ),
  revoked: z.boolean(),
  last_seen: moment.nullable(),
  quarantine: z.object({ reason: z.string(), until: moment, offences: count }).nullable(),
}) satisfies z.ZodType<PeerView>;
export const overlay = z.object({
  transport: z.string(),
  type: z.string(),
  address: z.string(),
  subnet: z.string().nullable(),
  mtu: count.nullable(),
  sessions: count.nullable(),
  peers: z
    .array(
      z.object({
        address: z.string().nullable(),
        remote: z.string(),
        up: z.boolean(),
        direction: z.enum(["inbound", "outbound"]).nullable(),
        up_seconds: count.nullable(),
        rtt_ms: z.number().nonnegative().nullable(),
        bytes_received: count.nullable(),
        bytes_sent: count.nullable(),
      }),
    )
    .describe("neighbours within the overlay, which need not be nodes of the mesh"),
}) satisfies z.ZodType<OverlayView>;
export const channel = z.object({
  transport: z.string(),
  rate: z.number().positive().describe("on the air, bits per second"),
  utilisation: z.number().min(0).max(1).describe("part of the last minutes in which it was busy"),
  nodes: count.describe("of the mesh that share it, this one among them"),
  control: z
    .object({
      share: z.number().min(0).max(1).describe("of the channel, what it earns"),
      saved_seconds: z.number().describe("of airtime; below 0: owed"),
      uses: z.array(z.object({ use: z.string(), seconds: z.number(), refused: count })),
    })
    .describe("what is neither mail nor receipt, of this node"),
  heard: z
    .array(
      z.object({
        id: nodeId.nullable(),
        callsign: z.string().nullable(),
        address: z.string(),
        gateway: z.boolean(),
      }),
    )
    .describe("by their beacons, which prove nothing; id: null where this node never wrote to them"),
}) satisfies z.ZodType<ChannelView>;
export const peers = z.object({
  peers: z.array(peer),
  overlays: z.array(overlay),
  channels: z.array(channel),
});

export const memberStates = ["alive", "suspect", "failed", "left"] as const;
export const member = z.object({
  id: nodeId,
  callsign: z.string().nullable(),
  state: z.enum(memberStates),
  incarnation: count.describe("only the node itself raises it; 0: only routes speak of it so far"),
  since: moment,
  reason: z.string(),
  source: nodeId.nullable().describe("null: this node's own links, routes and pings"),
  tags: z.array(z.string()).readonly().describe("what the node says of its machine; nobody checks it"),
  last_heard: moment.nullable(),
}) satisfies z.ZodType<MemberView>;
export const members = z.object({ members: z.array(member) });

export const route = z.object({
  destination: nodeId,
  callsign: z.string().nullable(),
  next_hop: nodeId,
  metric,
  mtu: count,
  bottleneck: z.enum(["fast", "medium", "slow"]),
  alternates: z.array(z.object({ next_hop: nodeId, metric })),
}) satisfies z.ZodType<RouteView>;
export const routes = z.object({ routes: z.array(route) });

export const why = z.object({
  destination: nodeId,
  callsign: z.string().nullable(),
  reachable: z.boolean(),
  feasibility: z.object({ seqno: count, metric }).nullable(),
  candidates: z.array(
    z.object({
      next_hop: nodeId,
      callsign: z.string().nullable(),
      advertised_metric: metric,
      link_cost: metric,
      metric,
      seqno: count,
      feasible: z.boolean(),
      selected: z.boolean(),
      reason: z.string(),
    }),
  ),
  explanation: z.array(z.string()),
  skipped: z.array(z.object({ endpoint: z.string(), reason: z.string() })),
}) satisfies z.ZodType<WhyView>;

export const trace = z.object({
  destination: nodeId,
  reached: z.boolean(),
  rtt_ms: z.number().nullable(),
  hops: z.array(
    z.object({
      node: nodeId,
      callsign: z.string().nullable(),
      rtt_ms: z.number().nullable(),
      stage: z.string(),
    }),
  ),
}) satisfies z.ZodType<TraceView>;

export const name = z.object({
  name: z.string(),
  node: nodeId,
  source: z.enum(["configured", "authority", "pinned"]),
  vouched: z.boolean(),
  held: z.boolean(),
  conflict: nodeId.nullable(),
}) satisfies z.ZodType<NameView>;
export const names = z.object({ names: z.array(name) });

export const message = z.object({
  id: messageId,
  from: nodeId,
  from_callsign: z.string().nullable(),
  to: z.string(),
  subject: z.string().nullable(),
  content_type: z.string(),
  priority,
  size: count,
  state: z.enum(["queued", "relayed", "delivered", "expired", "refused", "withdrawn"]),
  reason: z.string().nullable(),
  progress: z
    .object({
      next_hop: nodeId,
      next_hop_callsign: z.string().nullable(),
      bytes: count,
      bytes_total: count,
      bits_per_second: count.nullable(),
      seconds_left: count.nullable(),
    })
    .nullable()
    .describe("how far it is on its way to the next hop"),
  created_at: moment,
  delivered_at: moment.nullable(),
  expires_in_seconds: count.nullable().describe("what is left of the life of an own message that is open"),
  expires_at: moment.nullable().describe("the same by this node's clock"),
  receipt: z
    .object({
      by: nodeId,
      by_callsign: z.string().nullable(),
      at: moment,
      proof: z
        .enum(["signature", "session", "lost"])
        .describe(
          "signature: shows it to anybody; session: shows it to this node alone, over slow links, until a signature is to be had; lost: this disk damaged it",
        ),
      signature: z.string().nullable().describe("Ed25519, hex; null unless it is the proof"),
      unconfirmed: z.boolean(),
    })
    .nullable(),
  trace: z.array(z.object({ node: nodeId, callsign: z.string().nullable(), at: moment })),
  hops_untraced: count
    .nullable()
    .describe(
      "links before the first of the trace that nobody noted, as over slow links; null of own messages",
    ),
  forward_secret: z.boolean().nullable(),
}) satisfies z.ZodType<MessageView>;
export const messages = z.object({
  messages: z.array(message),
  next: z.string().nullable().describe("pass as `after` for the next page; null at the end"),
});
export const messageWithBody = message.extend({
  body: z.string().optional().describe("UTF-8 text of at most 64 KiB"),
  body_base64: z.string().optional().describe("anything else of at most 64 KiB"),
});

const to = z.string().trim().min(1).max(64).describe("52-character id, LOC-MACHINE or LOC, in any case");
const subject = z.string().max(SUBJECT_CHARS_MAX);
const contentType = z
  .string()
  .max(CONTENT_TYPE_CHARS_MAX)
  .regex(/^[\w.+-]+\/[\w.+-]+(;[\t\x20-\x7e]*)?$/, "not a media type such as text/plain");
const ttlSeconds = z
  .int()
  .min(1)
  .max(LIFETIME_MAX_MS / 1000);
const idempotencyKey = z.string().min(1).max(IDEMPOTENCY_KEY_CHARS_MAX);

export const sendBody = z
  .strictObject({
    to,
    body: z.string().optional(),
    body_base64: z.string().optional(),
    subject: subject.optional(),
    content_type: contentType.optional(),
    priority: priority.optional(),
    ttl_seconds: ttlSeconds.optional(),
    failover: z.boolean().optional(),
    transient: z.boolean().optional(),
    idempotency_key: idempotencyKey.optional(),
  })
  .refine((value) => (value.body === undefined) !== (value.body_base64 === undefined), {
    message: "exactly one of body and body_base64 is needed",
    path: ["body"],
  });

const flag = z.enum(["true", "false"]).transform((text) => text === "true");
/** The same message with its fields in the query and its body as the raw request body. */
export const sendQuery = z.strictObject({
  to: to.optional().describe("present: the request body is the raw message body"),
  subject: subject.optional(),
  priority: z.coerce.number().int().min(0).max(3).optional(),
  ttl_seconds: z.coerce
    .number()
    .int()
    .min(1)
    .max(LIFETIME_MAX_MS / 1000)
    .optional(),
  failover: flag.optional(),
  transient: flag.optional(),
  idempotency_key: idempotencyKey.optional(),
});
export const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string().describe(`one of ${Object.keys(errorCodes).join(", ")}, or of a plugin`),
  retry: z.enum(["never", "later", "now"]),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
});

export const sent = z.object({ id: messageId });

export const sendBodies = z.union([sendBody, z.array(sendBody).min(1).max(BATCH_MESSAGES_MAX)]);
export const sentAll = z.array(z.union([sent, problem]));

export const messagesQuery = z.strictObject({
  box: z.enum(boxes).default("inbox"),
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
  after: z.string().min(1).max(128).optional(),
});

export const peersQuery = z.strictObject({
  all: z
    .enum(["true", "false"])
    .default("false")
    .describe("true: nodes that cannot be reached now as well, with their state"),
});

export const trustBody = z.strictObject({
  level: z.enum(trustLevels),
  reason: z.string().min(1).max(500),
  /** Then as if nothing had been decided; at most a year. */
  expires_seconds: z.int().min(1).max(31_536_000).optional(),
});
export const trustAnswer = z.object({ peer: z.string(), level: z.enum(trustLevels), reason: z.string() });
export const resolveBody = z.strictObject({ node: z.string().min(1).max(64) });
export const reload = z.object({
  changed: z.array(
    z.object({
      section: z.enum(["transports", "discovery", "services", "engines", "heal"]),
      name: z.string(),
      change: z.enum(["added", "removed", "changed"]),
    }),
  ),
  applied: z.array(z.string()),
  ...restart,
}) satisfies z.ZodType<ReloadView>;
export const resolveAnswer = z.object({ name: z.string(), node: z.string() });

export const eventsQuery = z.strictObject({
  family: z
    .string()
    .max(100)
    .optional()
    .describe(`comma-separated subset of ${eventFamilies.join(", ")}; all when absent`),
});

export const token = z.object({
  id: z.string(),
  label: z.string(),
  scopes: z.array(scope),
  created_at: moment.nullable().describe("null for a token of the configuration"),
});
export const tokens = z.object({ tokens: z.array(token) });
export const tokenBody = z.strictObject({
  scopes: z.array(scope).min(1).max(SCOPES_MAX),
  label: z.string().min(1).max(100),
});
export const tokenCreated = z.object({
  id: z.string(),
  secret: z.string().describe("shown once and never again"),
});
