import { expect, test } from "bun:test";
import type { ConfiguredToken } from "../api/tokens.ts";
import type { SecretSettings } from "../closed/secrets.ts";
import type { LiveKey } from "../config/effect.ts";
import { type Config, parseConfig } from "../config/load.ts";
import type { MeshSettings } from "../mesh/deps.ts";
import { liveSettings, type LiveParts } from "./live.ts";

const ID = "a".repeat(52);
const env = { ONE: "0123456789abcdef", TWO: "fedcba9876543210" };
const parse = (text: string): Config => parseConfig(text, { env, isRoot: true, format: "toml" });

/** What the parts of a node were told, and nothing else of them. */
interface Told {
  mesh: MeshSettings;
  secrets: SecretSettings;
  tokens: readonly ConfiguredToken[];
  forwards: Config;
  listen: Config["api"]["listen"];
  publicRead: boolean;
  log: Config["node"];
  /** What the clock of the node asks for. */
  clock: string;
}

function rig(failing?: "secrets") {
  const told: Partial<Told> = {};
  const inForce = { config: parse("") };
  let times = 0;
  const note = <Name extends keyof Told>(name: Name, value: Told[Name]) => {
    times++;
    told[name] = value;
  };
  const parts = {
    ground: {
      inForce,
      diskBytes: undefined,
      secrets: {
        configure(settings: SecretSettings) {
          if (failing === "secrets") throw new Error("disk full");
          note("secrets", settings);
        },
      },
      time: { check: () => note("clock", inForce.config.node.clock) },
    },
    mesh: { configure: (settings: MeshSettings) => note("mesh", settings) },
    forwards: { configure: (config: Config) => note("forwards", config) },
    tokens: { configure: (tokens: readonly ConfiguredToken[]) => note("tokens", tokens) },
    api: { listenOn: (listen: Config["api"]["listen"]) => note("listen", listen) },
    publicRead: { configure: ({ api }: Config) => note("publicRead", api.publicRead) },
    applyLog: (node: Config["node"]) => note("log", node),
  } as unknown as LiveParts;
  return { apply: liveSettings(parts), told, inForce, times: () => times };
}

const size = 2 ** 21;
/** A configuration that has the setting, and what tells that it got to the part that uses it. */
const seen: Readonly<Record<LiveKey, readonly [string, (told: Told) => boolean]>> = {
  "node.network_secret": [
    '[node]\nnetwork_secret = "env:TWO"',
    ({ secrets }) => Buffer.from(secrets.configured[0]!).toString() === env.TWO,
  ],
  "network.secret_overlap": [
    '[network]\nsecret_overlap = "5s"',
    ({ secrets }) => secrets.overlapMs === 5_000,
  ],
  "network.rotate": ['[network]\nrotate = "nobody"', ({ secrets }) => secrets.policy === "nobody"],
  "api.tokens": [
    '[[api.tokens]]\nsecret = "env:ONE"\nscopes = ["read"]\nlabel = "l"',
    ({ tokens: [token] }) => Buffer.from(token!.secret).toString() === env.ONE && token!.label === "l",
  ],
  "api.listen": ['[api]\nlisten = "127.0.0.1:77"', ({ listen }) => listen[0]!.port === 77],
  "api.public_read": ["[api]\npublic_read = true", ({ publicRead }) => publicRead],
  "node.clock": ['[node]\nclock = "trusted"', ({ clock }) => clock === "trusted"],
  "node.log_level": ['[node]\nlog_level = "debug"', ({ log }) => log.logLevel === "debug"],
  "node.log_format": ['[node]\nlog_format = "text"', ({ log }) => log.logFormat === "text"],
  names: [`[names]\n"LON-B" = "${ID}"`, ({ mesh }) => [...mesh.names].join() === `LON-B,${ID}`],
  "trust.trusted": [`[trust]\ntrusted = ["${ID}"]`, ({ mesh }) => mesh.trust.get(ID as never) === "trusted"],
  "trust.blocked": [`[trust]\nblocked = ["${ID}"]`, ({ mesh }) => mesh.trust.get(ID as never) === "blocked"],
  "trust.promote_after": ['[trust]\npromote_after = "2m"', ({ mesh }) => mesh.promoteAfterMs === 120_000],
  "trust.promote_onions_after": [
    '[trust]\npromote_onions_after = "2m"',
    ({ mesh }) => mesh.promoteOnionsAfterMs === 120_000,
  ],
  "trust.review_every": ['[trust]\nreview_every = "2s"', ({ mesh }) => mesh.reviewMs === 2_000],
  "trust.rules": [
    '[[trust.rules]]\nlevel = "blocked"',
    ({ mesh }) => mesh.trustRules[0]?.level === "blocked",
  ],
  "peers.links_wanted": ["[peers]\nlinks_wanted = 9", ({ mesh }) => mesh.linksWanted === 9],
  "peers.dial_networks": [
    '[peers]\ndial_networks = ["10.0.0.0/8"]',
    ({ mesh }) => mesh.dialNetworks.join() === "10.0.0.0/8",
  ],
  forwards: [
    '[[forwards]]\nlisten = "127.0.0.1:1"\nto = "LON-B"\ntarget = "localhost:80"',
    ({ forwards }) => forwards.forwards[0]?.to === "LON-B",
  ],
  forward_allow: [
    '[[forward_allow]]\nfrom = ["trusted"]\ntargets = ["localhost:80"]',
    ({ forwards }) => forwards.forwardAllow[0]?.from[0] === "trusted",
  ],
  "delivery.lifetime": ['[delivery]\nlifetime = "2s"', ({ mesh }) => mesh.limits.lifetimeDefaultMs === 2_000],
  "delivery.overdue_after": [
    '[delivery]\noverdue_after = "2m"',
    ({ mesh }) => mesh.limits.overdueAfterMs === 120_000,
  ],
  "delivery.failover_delay": [
    '[delivery]\nfailover_delay = "2s"',
    ({ mesh }) => mesh.limits.failoverDelayMs === 2_000,
  ],
  "delivery.outbox_messages_max": [
    "[delivery]\noutbox_messages_max = 7",
    ({ mesh }) => mesh.limits.outboxMessagesMax === 7,
  ],
  "delivery.outbox_bytes_max": [
    '[delivery]\noutbox_bytes_max = "2MiB"',
    ({ mesh }) => mesh.limits.outboxBytesMax === size,
  ],
  "delivery.transit_messages_max": [
    "[delivery]\ntransit_messages_max = 7",
    ({ mesh }) => mesh.limits.transitMessagesMax === 7,
  ],
  "delivery.transit_bytes_max": [
    '[delivery]\ntransit_bytes_max = "2MiB"',
    ({ mesh }) => mesh.limits.transitBytesMax === size,
  ],
  "delivery.neighbour_share": [
    "[delivery]\nneighbour_share = 0.25",
    ({ mesh }) => mesh.limits.neighbourShare === 0.25,
  ],
  "delivery.inbox_messages_max": [
    "[delivery]\ninbox_messages_max = 7",
    ({ mesh }) => mesh.limits.inboxMessagesMax === 7,
  ],
  "delivery.inbox_bytes_max": [
    '[delivery]\ninbox_bytes_max = "2MiB"',
    ({ mesh }) => mesh.limits.inboxBytesMax === size,
  ],
  "delivery.inbox_retention": [
    '[delivery]\ninbox_retention = "2m"',
    ({ mesh }) => mesh.limits.inboxRetentionMs === 120_000,
  ],
  "routing.hop_cost": ['[routing]\nhop_cost = "7ms"', ({ mesh }) => mesh.hopCostMs === 7],
  "routing.destinations_max": ["[routing]\ndestinations_max = 77", ({ mesh }) => mesh.destinationsMax === 77],
};

test.each(Object.entries(seen))(
  "%s gets to the part that uses it, and to no other",
  (key, [text, isSeen]) => {
    const { apply, told, inForce, times } = rig();
    const config = parse(text);
    apply([key as LiveKey], config);
    expect(isSeen(told as Told)).toBe(true);
    expect([times(), inForce.config === config]).toEqual([1, true]);
  },
);

test("a part that uses many of them is told once", () => {
  const { apply, times } = rig();
  apply(["names", "trust.rules", "delivery.lifetime"], parse(""));
  expect(times()).toBe(1);
});

test("what cannot be kept changes nothing else", () => {
  const { apply, told, inForce } = rig("secrets");
  const { config } = inForce;
  expect(() => apply(["node.network_secret", "names", "api.tokens"], parse(""))).toThrow("disk full");
  expect(told).toEqual({});
  expect(inForce.config).toBe(config);
});
