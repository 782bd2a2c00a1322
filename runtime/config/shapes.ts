/** Written by `bun run docs` from the schemas of the configuration (scripts/shapes.ts): do not edit. */
import * as parts from "./parts.ts";
import {
  atLeast,
  atMost,
  either,
  flag,
  later,
  list,
  longerThan,
  made,
  matches,
  number,
  one,
  openTable,
  or,
  record,
  shorterThan,
  table,
  text,
  whole,
} from "./quick.ts";

export const settingsShape = table({
  node: or(
    () => ({ network: "godwit", tags: [], clock: "auto", log_level: "info", log_format: "auto" }),
    later(() =>
      table({
        callsign: or(undefined, made(text(matches(/^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/)), parts.upperCase)),
        location: or(undefined, made(text(matches(/^[A-Za-z0-9]{2,8}$/)), parts.upperCase)),
        network: or(() => "godwit", text(longerThan(1), shorterThan(64), matches(/^[^\p{Cc}]+$/u))),
        network_secret: or(
          undefined,
          either([
            text(
              matches(
                /^(file:\/.+|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})$/s,
              ),
            ),
            list(
              text(
                matches(
                  /^(file:\/.+|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})$/s,
                ),
              ),
              longerThan(1),
              shorterThan(2),
            ),
          ]),
        ),
        state_dir: or(undefined, text(matches(/^\/[^\0]*$/))),
        tags: or(
          () => [],
          list(text(matches(/^[a-z0-9]+(?:-[a-z0-9]+)*$/), shorterThan(32)), shorterThan(16)),
        ),
        clock: or(() => "auto", one(["auto", "trusted"])),
        log_level: or(() => "info", one(["debug", "info", "warn", "error"])),
        log_format: or(() => "auto", one(["auto", "json", "text"])),
      }),
    ),
  ),
  transports: or(
    () => ({}),
    later(() =>
      record(
        text(matches(/^[a-z0-9](?:[a-z0-9]|_(?!_)){0,31}$/)),
        openTable({
          type: text(matches(/^[a-z][a-z0-9-]{0,63}$/)),
          enabled: or(() => true, flag()),
          trust: or(undefined, one(["trusted", "contained", "untrusted"])),
          grant: or(() => [], list(text(matches(/^[\x20-\x7e]{1,200}$/)), shorterThan(64))),
          accept_missing: or(
            () => [],
            list(one(["landlock", "landlock-net", "seccomp", "uid"]), shorterThan(4)),
          ),
        }),
        parts.keysAtMost(256),
      ),
    ),
  ),
  discovery: or(
    () => ({}),
    later(() =>
      record(
        text(matches(/^[a-z0-9](?:[a-z0-9]|_(?!_)){0,31}$/)),
        openTable({
          type: text(matches(/^[a-z][a-z0-9-]{0,63}$/)),
          enabled: or(() => true, flag()),
          trust: or(undefined, one(["trusted", "contained", "untrusted"])),
          grant: or(() => [], list(text(matches(/^[\x20-\x7e]{1,200}$/)), shorterThan(64))),
          accept_missing: or(
            () => [],
            list(one(["landlock", "landlock-net", "seccomp", "uid"]), shorterThan(4)),
          ),
        }),
        parts.keysAtMost(256),
      ),
    ),
  ),
  services: or(
    () => ({}),
    later(() =>
      record(
        text(matches(/^[a-z0-9](?:[a-z0-9]|_(?!_)){0,31}$/)),
        openTable({
          type: text(matches(/^[a-z][a-z0-9-]{0,63}$/)),
          enabled: or(() => true, flag()),
          trust: or(undefined, one(["trusted", "contained", "untrusted"])),
          grant: or(() => [], list(text(matches(/^[\x20-\x7e]{1,200}$/)), shorterThan(64))),
          accept_missing: or(
            () => [],
            list(one(["landlock", "landlock-net", "seccomp", "uid"]), shorterThan(4)),
          ),
        }),
        parts.keysAtMost(256),
      ),
    ),
  ),
  engines: or(
    () => ({}),
    later(() =>
      record(
        text(matches(/^[a-z0-9](?:[a-z0-9]|_(?!_)){0,31}$/)),
        openTable({
          type: text(matches(/^[a-z][a-z0-9-]{0,63}$/)),
          enabled: or(() => true, flag()),
          trust: or(undefined, one(["trusted", "contained", "untrusted"])),
          grant: or(() => [], list(text(matches(/^[\x20-\x7e]{1,200}$/)), shorterThan(64))),
          accept_missing: or(
            () => [],
            list(one(["landlock", "landlock-net", "seccomp", "uid"]), shorterThan(4)),
          ),
        }),
        parts.keysAtMost(256),
      ),
    ),
  ),
  heal: or(
    () => ({}),
    later(() =>
      record(
        text(matches(/^[a-z0-9](?:[a-z0-9]|_(?!_)){0,31}$/)),
        openTable({
          type: text(matches(/^[a-z][a-z0-9-]{0,63}$/)),
          enabled: or(() => true, flag()),
          trust: or(undefined, one(["trusted", "contained", "untrusted"])),
          grant: or(() => [], list(text(matches(/^[\x20-\x7e]{1,200}$/)), shorterThan(64))),
          accept_missing: or(
            () => [],
            list(one(["landlock", "landlock-net", "seccomp", "uid"]), shorterThan(4)),
          ),
        }),
        parts.keysAtMost(256),
      ),
    ),
  ),
  api: or(
    () => ({ listen: [{ host: "127.0.0.1", port: 8000 }], public_read: false, profile: false, tokens: [] }),
    later(() =>
      table({
        listen: or(
          () => [{ host: "127.0.0.1", port: 8000 }],
          made(
            either([
              one([false]),
              one(["off"]),
              text(parts.isListenAddress),
              list(text(parts.isListenAddress), shorterThan(16)),
            ]),
            parts.listenAddresses,
          ),
        ),
        public_read: or(() => false, flag()),
        socket: or(undefined, text(matches(/^\/[^\0]*$/))),
        profile: or(() => false, flag()),
        tokens: or(
          () => [],
          list(
            table({
              secret: text(
                matches(
                  /^(file:\/.+|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})$/s,
                ),
              ),
              scopes: list(
                text(matches(/^(?:read|send|operate|admin|pages:[a-z0-9_]{1,32})$/)),
                longerThan(1),
                shorterThan(16),
              ),
              label: or(() => "", text(shorterThan(64), matches(/^[^\p{Cc}]*$/u))),
            }),
            shorterThan(64),
          ),
        ),
      }),
    ),
  ),
  names: or(
    () => ({}),
    later(() =>
      record(
        made(text(matches(/^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/)), parts.upperCase),
        made(text(), parts.nodeIdIn),
      ),
    ),
  ),
  trust: or(
    () => ({
      trusted: [],
      blocked: [],
      promote_after: 86400000,
      promote_onions_after: 600000,
      review_every: 60000,
      rules: [],
    }),
    later(() =>
      table({
        trusted: or(() => [], list(made(text(), parts.nodeIdIn), shorterThan(4096))),
        blocked: or(() => [], list(made(text(), parts.nodeIdIn), shorterThan(4096))),
        promote_after: or(
          () => 86400000,
          either([
            one(["never"]),
            made(
              text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
              parts.durationMs,
              parts.within(60000, 2592000000),
            ),
          ]),
        ),
        promote_onions_after: or(
          () => 600000,
          either([
            one(["never"]),
            made(
              text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
              parts.durationMs,
              parts.within(1000, 2592000000),
            ),
          ]),
        ),
        review_every: or(
          () => 60000,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
            parts.durationMs,
            parts.within(1000, 3600000),
          ),
        ),
        rules: or(
          () => [],
          list(
            table({
              level: one(["member", "trusted", "blocked"]),
              callsigns: or(() => [], list(text(parts.isCallsignPattern), shorterThan(256))),
              transports: or(() => [], list(text(parts.isScheme), shorterThan(256))),
              networks: or(() => [], list(text(parts.isNetwork), shorterThan(256))),
            }),
            shorterThan(256),
          ),
        ),
      }),
    ),
  ),
  peers: or(
    () => ({ links_wanted: 4, dial_networks: [] }),
    later(() =>
      table({
        links_wanted: or(() => 4, number(whole, atLeast(0), atMost(64))),
        dial_networks: or(() => [], list(text(parts.isNetwork), shorterThan(256))),
      }),
    ),
  ),
  network: or(
    () => ({ rotate: "authority", secret_overlap: 259200000 }),
    later(() =>
      table({
        authority: or(undefined, made(text(), parts.nodeIdIn)),
        rotate: or(() => "authority", one(["authority", "members", "nobody"])),
        secret_overlap: or(
          () => 259200000,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
            parts.durationMs,
            parts.within(1000, 2592000000),
          ),
        ),
      }),
    ),
  ),
  forwards: or(
    () => [],
    later(() =>
      list(
        table({
          listen: text(parts.isListenAddress),
          to: either([
            made(text(matches(/^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/)), parts.upperCase),
            made(text(), parts.nodeIdIn),
          ]),
          target: text(shorterThan(300), parts.isTarget),
        }),
        shorterThan(64),
      ),
    ),
  ),
  forward_allow: or(
    () => [],
    later(() =>
      list(
        table({
          from: list(
            either([
              one(["trusted"]),
              made(text(matches(/^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/)), parts.upperCase),
              made(text(), parts.nodeIdIn),
            ]),
            longerThan(1),
            shorterThan(1024),
          ),
          targets: list(text(shorterThan(300), parts.isTargetPattern), longerThan(1), shorterThan(1024)),
        }),
        shorterThan(256),
      ),
    ),
  ),
  delivery: or(
    () => ({
      lifetime: 259200000,
      overdue_after: 900000,
      failover_delay: 60000,
      outbox_messages_max: 100000,
      outbox_bytes_max: 1073741824,
      transit_messages_max: 100000,
      transit_bytes_max: 1073741824,
      neighbour_share: 0.5,
      inbox_messages_max: 10000,
      inbox_bytes_max: 268435456,
      inbox_retention: 7776000000,
    }),
    later(() =>
      table({
        lifetime: or(
          () => 259200000,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
            parts.durationMs,
            parts.within(1000, 2592000000),
          ),
        ),
        overdue_after: or(
          () => 900000,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
            parts.durationMs,
            parts.within(60000, 2592000000),
          ),
        ),
        failover_delay: or(
          () => 60000,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
            parts.durationMs,
            parts.within(1000, 86400000),
          ),
        ),
        outbox_messages_max: or(() => 100000, number(whole, atLeast(1), atMost(10000000))),
        outbox_bytes_max: or(
          () => 1073741824,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$/)),
            parts.sizeBytes,
            parts.within(1048576, 9007199254740992),
          ),
        ),
        transit_messages_max: or(() => 100000, number(whole, atLeast(0), atMost(10000000))),
        transit_bytes_max: or(
          () => 1073741824,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$/)),
            parts.sizeBytes,
            parts.within(0, 9007199254740992),
          ),
        ),
        neighbour_share: or(() => 0.5, number(atLeast(0.01), atMost(1))),
        inbox_messages_max: or(() => 10000, number(whole, atLeast(1), atMost(10000000))),
        inbox_bytes_max: or(
          () => 268435456,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$/)),
            parts.sizeBytes,
            parts.within(1048576, 9007199254740992),
          ),
        ),
        inbox_retention: or(
          () => 7776000000,
          made(
            text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
            parts.durationMs,
            parts.within(60000, 315360000000),
          ),
        ),
      }),
    ),
  ),
  routing: or(
    () => ({ hop_cost: 0, destinations_max: 20000 }),
    later(() =>
      table({
        hop_cost: or(
          () => 0,
          made(text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)), parts.durationMs, parts.within(0, 10000)),
        ),
        destinations_max: or(() => 20000, number(whole, atLeast(16), atMost(1000000))),
      }),
    ),
  ),
  machine: or(
    () => ({
      network: [],
      name_servers: [],
      time_servers: [],
      modules: [],
      watchdog: 60000,
      rescue: false,
      programs: [],
    }),
    later(() =>
      table({
        hostname: or(undefined, text(matches(/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/))),
        state: or(undefined, text(matches(/^(?:\/dev\/[A-Za-z0-9_/-]{1,64}|LABEL=[A-Za-z0-9_.-]{1,16})$/))),
        network: or(() => [], list(text(shorterThan(256), parts.isInterfacePlan), shorterThan(64))),
        name_servers: or(() => [], list(text(shorterThan(256), parts.isAddress), shorterThan(3))),
        time_servers: or(() => [], list(text(shorterThan(256), parts.isTimeServer), shorterThan(8))),
        modules: or(() => [], list(text(shorterThan(256), parts.isModuleName), shorterThan(64))),
        watchdog: or(
          () => 60000,
          either([
            one(["off"]),
            made(
              text(matches(/^\d{1,12}(\.\d{1,6})?(ms|s|m|h|d)$/)),
              parts.durationMs,
              parts.within(20000, 600000),
            ),
          ]),
        ),
        rescue: or(() => false, flag()),
        programs: or(
          () => [],
          list(
            table({
              name: text(matches(/^[a-z][a-z0-9-]{0,31}$/)),
              command: list(text(longerThan(1), shorterThan(4096)), longerThan(1), shorterThan(64)),
              needs_clock: or(() => false, flag()),
            }),
            shorterThan(16),
          ),
        ),
      }),
    ),
  ),
});
