/**
 * What may stand in the configuration: the one source of validation, defaults, the JSON Schema, `godwit config explain`
 * and docs/configuration.md. Owns meaning and bounds of every key; must never read a file, the environment or a clock.
 * The tables of plugins are only framed here (`type`, `enabled`): the plugin's own schema judges the rest.
 */
import { isIP } from "node:net";
import * as z from "zod";
import { logLevels } from "../kernel/log.ts";
import { LIFETIME_DEFAULT_MS, LIFETIME_MAX_MS } from "../wire/constants.ts";
import {
  isCallsignPattern,
  isListenAddress,
  isNetwork,
  isScheme,
  listenAddresses,
  nodeIdIn,
  SECRET_BYTES_MIN,
  upperCase,
} from "./parts.ts";
import { forwardTables } from "./schema-forwards.ts";
import { machineTable } from "./schema-machine.ts";
import { pluginTablesOf } from "./schema-plugins.ts";
import { SECRET_REFERENCE } from "@godwit/sdk/secret";
import { nearest } from "./suggest.ts";
import { expectations, HOUR_MS, DAY_MS, duration, size, count, choice } from "./schema-values.ts";

const LOCATION_PATTERN = /^[A-Za-z0-9]{2,8}$/;
const CALLSIGN_PATTERN = /^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/;

const location = z
  .string()
  .regex(LOCATION_PATTERN)
  .transform(upperCase)
  .register(expectations, {
    type: "location",
    expected: "a location: 2 to 8 letters and digits, like DUN",
    suggest: (value) =>
      typeof value === "string" && CALLSIGN_PATTERN.test(value)
        ? `"${value.slice(0, value.indexOf("-")).toUpperCase()}"`
        : undefined,
  });

const callsign = z.string().regex(CALLSIGN_PATTERN).transform(upperCase).register(expectations, {
  type: "callsign",
  expected:
    "a callsign LOCATION-MACHINE: 2 to 8 letters and digits, a hyphen, 1 to 8 letters and digits, like DUN-A",
  suggest: suggestCallsign,
});

function suggestCallsign(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  if (LOCATION_PATTERN.test(value)) return `"${value.toUpperCase()}-A"`;
  const repaired = value.trim().replace(/[\s_.:/]+/g, "-");
  return CALLSIGN_PATTERN.test(repaired) ? `"${repaired.toUpperCase()}"` : undefined;
}

const nodeId = z.string().transform(nodeIdIn).register(expectations, {
  type: "node id",
  expected: "a node id: 52 characters as `godwit id` prints them",
});

const absolutePath = (whatFor: string, defaultText: string) =>
  z
    .string()
    .regex(/^\/[^\0]*$/)
    .register(expectations, { type: "path", expected: `an absolute path ${whatFor}`, defaultText });

const secret = z
  .string()
  .regex(SECRET_REFERENCE)
  .register(expectations, {
    type: "secret",
    expected: `a reference "file:/path", "env:NAME" or "credential:NAME" to at least ${SECRET_BYTES_MIN} bytes; the secret itself never stands in the configuration`,
    isSecret: true,
    suggest: (value) =>
      typeof value !== "string"
        ? undefined
        : value.startsWith("/")
          ? `"file:${value}"`
          : /^[A-Z][A-Z0-9_]+$/.test(value)
            ? `"env:${value}"`
            : undefined,
  });

const listenAddress = z.string().refine(isListenAddress);

const apiListen = z
  .union([z.literal(false), z.literal("off"), listenAddress, z.array(listenAddress).max(16)])
  .transform(listenAddresses)
  .register(expectations, {
    type: "address, list of addresses, or false",
    expected: `IP:PORT like "127.0.0.1:8000" or "[::1]:8000", a list of these, or false for none`,
    suggest: (value) => {
      if (typeof value === "number") return `"127.0.0.1:${value}"`;
      if (typeof value !== "string") return undefined;
      const port = /^(?:\*|:+)?:?(\d{1,5})$/.exec(value)?.[1];
      if (port !== undefined) return value.startsWith("*") ? `"0.0.0.0:${port}"` : `"127.0.0.1:${port}"`;
      return isIP(value) === 4 ? `"${value}:8000"` : isIP(value) === 6 ? `"[${value}]:8000"` : undefined;
    },
  });

const pluginTables = pluginTablesOf();

const node = z.strictObject({
  callsign: callsign
    .optional()
    .describe(
      "Name of this machine for people, LOCATION-MACHINE, in any case. Without one the node has only its id.",
    ),
  location: location
    .optional()
    .register(expectations, {
      ...expectations.get(location)!,
      defaultText: "the part of the callsign before the hyphen",
    })
    .describe("Where it stands, for a node without a callsign; with one it is the callsign's own."),
  network: z
    .string()
    .min(1)
    .max(64)
    .regex(/^[^\p{Cc}]+$/u)
    .register(expectations, { type: "text", expected: "a name of 1 to 64 characters" })
    .default("godwit")
    .describe("Name of the mesh. Only nodes with the same name link up."),
  network_secret: z
    .union([secret, z.array(secret).min(1).max(2)])
    .register(expectations, {
      type: "secret, or list of up to two",
      expected: `"file:/path", "env:NAME" or "credential:NAME" naming at least ${SECRET_BYTES_MIN} bytes, or a list of up to two while one replaces the other; the secret itself never stands in the configuration`,
      isSecret: true,
      suggest: (value) => expectations.get(secret)?.suggest?.(value),
      defaultText: "none: the mesh is open",
    })
    .optional()
    .describe(
      "Closes the mesh: only nodes that hold the same secret become members. To change it without an outage, first list the old and the new one everywhere, then the new one alone. A file must not be readable by others.",
    ),
  state_dir: absolutePath(
    "to a directory",
    "$STATE_DIRECTORY (systemd), else /var/lib/godwit as root, else $XDG_STATE_HOME/godwit or ~/.local/state/godwit",
  )
    .optional()
    .describe(
      "Where the identity, the messages and the control socket live. The only place Godwit writes to.",
    ),
  tags: z
    .array(
      z
        .string()
        .regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/)
        .max(32),
    )
    .max(16)
    .register(expectations, {
      type: "list",
      expected:
        'a list of at most 16 words such as "storage" or "solar-powered", of a-z, 0-9 and hyphens, or "auto"',
    })
    .prefault([])
    .describe(
      'What everybody in the mesh is told of this machine, for `godwit members --tag gpu`: your words, and "auto" for its architecture, classes of processors and memory, radios and GPU.',
    ),
  clock: choice("auto", "trusted")
    .default("auto")
    .describe(
      "Whether the time that passed while the node was off counts for mail: `auto` once a time service or neighbours confirm the clock, `trusted` always. Say `trusted` where the machine's clock is right although the kernel does not know it.",
    ),
  log_level: choice(...logLevels)
    .default("info")
    .describe(
      "The least important lines that are still written. A quiet node logs less than a line a minute at info.",
    ),
  log_format: choice("auto", "json", "text")
    .default("auto")
    .describe("auto: text on a terminal and in systemd's journal, one JSON object a line elsewhere."),
});

const tokenScopes = ["read", "send", "operate", "admin"] as const;
/** `pages:NAME`: of the table `[services.NAME]`. */
export type ConfigTokenScope = (typeof tokenScopes)[number] | `pages:${string}`;
/** Scopes of one token. */
const TOKEN_SCOPES_MAX = 16;
const oneOfScopes = `${tokenScopes.map((scope) => `"${scope}"`).join(", ")}, "pages:NAME"`;
const tokenScope = z
  .string()
  .regex(new RegExp(`^(?:${tokenScopes.join("|")}|pages:[a-z0-9_]{1,32})$`))
  .register(expectations, {
    type: oneOfScopes,
    expected: `one of ${oneOfScopes}`,
    suggest: (value) => {
      const near = typeof value === "string" ? nearest(value, tokenScopes) : undefined;
      return near === undefined ? undefined : `"${near}"`;
    },
  }) as unknown as z.ZodType<ConfigTokenScope>;

const api = z.strictObject({
  listen: apiListen
    .prefault("127.0.0.1:8000")
    .describe(
      "Where the HTTP API listens. Beyond /health nothing is answered without a token, except that /mesh, /metrics and open paths of pages are free on loopback.",
    ),
  public_read: z
    .boolean()
    .default(false)
    .register(expectations, { type: "true or false", expected: "true or false" })
    .describe(
      "Whoever reaches the port reads /mesh and /metrics without a token, by an address or a name of the listener: for a port that is published on loopback alone, or a network that may know all of this node. Where a port is mapped, as engines of containers do, the node cannot tell who calls.",
    ),
  socket: absolutePath("to a unix socket", "<state_dir>/godwit.sock")
    .optional()
    .describe("The control socket of the command line. Whoever may open the file may do everything."),
  profile: z
    .boolean()
    .register(expectations, { type: "true or false", expected: "true or false" })
    .prefault(false)
    .describe(
      "Whether GET /profile is answered over TCP as well, to tokens of scope admin: it slows the node while it samples. Through the control socket it always is.",
    ),
  tokens: z
    .array(
      z.strictObject({
        secret: secret.describe("The bearer token itself."),
        scopes: z
          .array(tokenScope)
          .min(1)
          .max(TOKEN_SCOPES_MAX)
          .register(expectations, {
            type: "list",
            expected: `a list of one or more of ${oneOfScopes}`,
          })
          .describe(
            "What it may do: read messages and events, send, operate peers and names, admin everything of the node; pages:NAME uses what the service NAME shows, and is the only kind to hand to its pages.",
          ),
        label: z
          .string()
          .max(64)
          .regex(/^[^\p{Cc}]*$/u)
          .register(expectations, { type: "text", expected: "at most 64 characters" })
          .default("")
          .describe("Who holds it; shown in lists and logs."),
      }),
    )
    .max(64)
    .register(expectations, { type: "tables", expected: "tables [[api.tokens]], at most 64" })
    .prefault([])
    .describe("Tokens fixed by configuration, beside those of `godwit token new`."),
});

const names = z
  .record(callsign, nodeId)
  .register(expectations, { type: "table", expected: 'lines "LOCATION-MACHINE" = "<node id>"' })
  .prefault({})
  .describe("Callsigns bound to nodes by you. They outrank what was pinned at first sight.");

const nodeIds = z
  .array(nodeId)
  .max(4_096)
  .register(expectations, { type: "list of node ids", expected: "a list of node ids" });

const texts = (expected: string, isRight: (text: string) => boolean) =>
  z
    .array(z.string().refine(isRight))
    .max(256)
    .register(expectations, { type: "list", expected })
    .prefault([]);

const trustRule = z.strictObject({
  level: choice("member", "trusted", "blocked").describe("What nodes are to which the rule applies."),
  callsigns: texts(
    'a list of callsigns like "LON-B", or beginnings like "LON-*"',
    isCallsignPattern,
  ).describe("Names that the node holds here; a claimed name does not count. Empty: any."),
  transports: texts('a list of endpoint schemes like "tcp"', isScheme).describe(
    "Schemes of its links. Empty: any.",
  ),
  networks: texts('a list of addresses or ranges like "10.0.0.0/8"', isNetwork).describe(
    "Where its links come from. Empty: anywhere.",
  ),
});

const trust = z.strictObject({
  trusted: nodeIds.prefault([]).describe("Nodes that are redialled for ever, whoever found them."),
  blocked: nodeIds
    .prefault([])
    .describe("Nodes that get no link, no custody and no name. Transit through others cannot be excluded."),
  promote_after: z
    .union([z.literal("never"), duration(60_000, "1m", 30 * DAY_MS, "30d")])
    .register(expectations, {
      type: 'duration or "never"',
      expected: 'a duration from 1m to 30d like "24h", or "never"',
    })
    .prefault("24h")
    .describe(
      "How long a member must have been linked, and behaved well, before the node itself prefers its links and redials it for ever, which gives it no right. Liars are demoted and blocked whatever this says.",
    ),
  promote_onions_after: z
    .union([z.literal("never"), duration(1_000, "1s", 30 * DAY_MS, "30d")])
    .register(expectations, {
      type: 'duration or "never"',
      expected: 'a duration from 1s to 30d like "10m", or "never"',
    })
    .prefault("10m")
    .describe(
      "The same for a member behind an onion address that a discovery found, since such addresses move less and cost more to find. At most 32 are.",
    ),
  review_every: duration(1_000, "1s", HOUR_MS, "1h")
    .prefault("60s")
    .describe("How often the node looks at what others were worth, to promote, demote and block."),
  rules: z
    .array(trustRule)
    .max(256)
    .register(expectations, { type: "tables", expected: "tables [[trust.rules]], at most 256" })
    .prefault([])
    .describe(
      "What linked nodes are to you by name, way or address. The first rule that matches counts; `trusted` and `blocked` outrank all. Rights come only of rules about names that are bound; all others choose links.",
    ),
});

const peers = z.strictObject({
  links_wanted: count(0, 64)
    .default(4)
    .describe(
      "Links that the node seeks of its own accord among the members it hears of, so that no single failure cuts it off. 0: only what was configured or discovered is dialled.",
    ),
  dial_networks: texts('a list of addresses or ranges like "10.0.0.0/8"', isNetwork).describe(
    "Networks that are dialled on another's word as well: private ones from a machine that is in none, loopback and link-local ones. What you configured yourself is dialled anyway; unspecified, multicast, broadcast and metadata addresses never are on another's word.",
  ),
});

const network = z.strictObject({
  authority: nodeId
    .optional()
    .register(expectations, {
      ...expectations.get(nodeId)!,
      defaultText: "none: names are pinned at first sight",
    })
    .describe(
      "The key that binds names and revokes nodes, as `godwit authority init` prints it. With one, only names that it signed (or that stand in [names]) count. The same on every node.",
    ),
  rotate: choice("authority", "members", "nobody")
    .default("authority")
    .describe(
      "Whose word replaces the network secret over the mesh: the authority's signature (without an authority: nobody), any member's, or nobody's.",
    ),
  secret_overlap: duration(1_000, "1s", LIFETIME_MAX_MS, `${LIFETIME_MAX_MS / DAY_MS}d`)
    .prefault(`${LIFETIME_DEFAULT_MS / HOUR_MS}h`)
    .describe(
      "How long, in running time, a replaced network secret still opens links, so that nodes that were away can fetch the new one.",
    ),
});
const machine = machineTable();
const { forwards, forwardAllow } = forwardTables({ callsign, nodeId, listenAddress });

const delivery = z.strictObject({
  lifetime: duration(1_000, "1s", LIFETIME_MAX_MS, `${LIFETIME_MAX_MS / DAY_MS}d`)
    .prefault(`${LIFETIME_DEFAULT_MS / HOUR_MS}h`)
    .describe("How long a message of this node lives when its sender does not say."),
  overdue_after: duration(60_000, "1m", LIFETIME_MAX_MS, `${LIFETIME_MAX_MS / DAY_MS}d`)
    .prefault("15m")
    .describe(
      "From when on health tells of a message of this node that waits, for whom and for what. Raise it where links come seldom, as by courier.",
    ),
  failover_delay: duration(1_000, "1s", DAY_MS, "1d")
    .prefault("60s")
    .describe(
      "How long a message that may go to another machine of a location waits for the silent ones before it is delivered as unconfirmed.",
    ),
  outbox_messages_max: count(1, 10_000_000)
    .default(100_000)
    .describe(
      "Messages of this node that wait for their receipt. A full outbox refuses new ones, and health says so from nine tenths on.",
    ),
  outbox_bytes_max: size(2 ** 20, "1MiB")
    .prefault("1GiB")
    .describe(
      "The same in bytes, and never more than a quarter of the disk that state_dir is on. The last 10000 messages that ended stay beside them, with half as many bytes.",
    ),
  transit_messages_max: count(0, 10_000_000)
    .default(100_000)
    .describe(
      "Messages of others kept in custody. A full node refuses and the previous hop keeps them; 0 carries none.",
    ),
  transit_bytes_max: size(0, "0B")
    .prefault("1GiB")
    .describe("The same in bytes, and never more than a quarter of the disk that state_dir is on."),
  neighbour_share: z
    .number()
    .min(0.01)
    .max(1)
    .register(expectations, { type: "fraction", expected: "a fraction from 0.01 to 1" })
    .default(0.5)
    .describe("The largest part of the transit quota that one neighbour may fill."),
  inbox_messages_max: count(1, 10_000_000)
    .default(10_000)
    .describe(
      "Delivered messages kept for reading. A full inbox takes no more: senders keep their messages until there is room, and health says so from nine tenths on.",
    ),
  inbox_bytes_max: size(2 ** 20, "1MiB")
    .prefault("256MiB")
    .describe(
      "The same in bytes, and never more than a quarter of the disk that state_dir is on. One sender gets half of messages and bytes.",
    ),
  inbox_retention: duration(60_000, "1m", 3_650 * DAY_MS, "3650d")
    .prefault("90d")
    .describe("How long a delivered message is kept for reading."),
});

const routing = z.strictObject({
  hop_cost: duration(0, "0ms", 10_000, "10s")
    .prefault("0ms")
    .describe(
      "Added to the cost of every path through this node. Raise it where transit is unwelcome (a battery, a metered uplink): others then pass through only when nothing else is near as good.",
    ),
  destinations_max: count(16, 1_000_000)
    .default(20_000)
    .describe(
      "Destinations in the route table, from all neighbours together. A full table refuses what is new and says so.",
    ),
});

export const configSchema = z.strictObject({
  node: node.prefault({}).describe("This node and its mesh."),
  transports: pluginTables("transport", "tcp").describe(
    'How to reach others, one table [transports.NAME] for each instance. With none at all there is one: "lan", of type "tcp", listening on [::]:4860, which is every address of both families.',
  ),
  discovery: pluginTables("discovery", "static").describe(
    "How to find others, one table [discovery.NAME] for each instance.",
  ),
  services: pluginTables("service", "telex").describe(
    "What runs on top, one table [services.NAME] for each instance.",
  ),
  engines: pluginTables("engine", "etcd").describe(
    "Coordination engines of installed plugins, one table [engines.NAME] for each instance.",
  ),
  heal: pluginTables("heal-action", "restart-radio").describe(
    "Heal actions of installed plugins, one table [heal.NAME] for each instance.",
  ),
  api: api.prefault({}).describe("The HTTP API and its tokens."),
  names,
  trust: trust.prefault({}).describe("What you decided about nodes."),
  peers: peers.prefault({}).describe("Links of the node's own accord."),
  network: network.prefault({}).describe("Who has a say in a closed mesh. docs/closed-meshes.md"),
  forwards,
  forward_allow: forwardAllow,
  delivery: delivery.prefault({}).describe("Store and forward: lifetimes and bounds."),
  routing: routing.prefault({}).describe("Routing."),
  machine: machine
    .prefault({})
    .describe("The machine itself, where Godwit is PID 1; elsewhere it means nothing. docs/boot.md"),
});

export type Settings = z.output<typeof configSchema>;
