/**
 * discovery.static: the peers that an operator wrote down, here, in a file, in the environment, in the DNS or in a signed
 * list. What is written down is dialled for ever; what the DNS or a list says is tried for as long as it is said.
 */
import { definePlugin } from "@godwit/sdk";
import { isIP } from "node:net";
import { z } from "zod/mini";
import { Board } from "./board.ts";
import { watchDns } from "./dns.ts";
import { ENTRIES_MAX, ENTRY_CHARS_MAX, ENTRY_PATTERN, parseEntry, parseLines } from "./entry.ts";
import { watchFile } from "./file.ts";
import { watchList } from "./signed-list.ts";

const peer = z.string().check(
  z.regex(ENTRY_PATTERN, {
    error: "expected scheme://host:port, optionally followed by #<52-character node id>",
  }),
  z.maxLength(ENTRY_CHARS_MAX),
);

const dnsName = z.string().check(
  z.regex(
    /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$/,
    {
      error: "expected a domain name like _godwit._tcp.example.org",
    },
  ),
);

const dnsServer = z.string().check(
  z.refine(isDnsServer, {
    error: 'expected an IP address, optionally with a port: "192.0.2.53" or "[fd00::53]:53"',
  }),
);

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const REFRESH_DEFAULT_MS = 3_600_000;

const list = z.strictObject({
  url: z
    .string()
    .check(z.regex(/^https:\/\/[^\s]+$/, { error: "expected an https:// address" }), z.maxLength(2048)),
  /** Whose signature counts: `godwit id` of the node that signs. */
  key: z
    .string()
    .check(
      z.regex(/^[a-zA-Z2-7]{51}[aAqQ]$/, { error: "expected a 52-character key as `godwit id` prints it" }),
    ),
  refresh: z.optional(
    z.string().check(z.regex(/^[1-9]\d{0,5}(s|m|h|d)$/, { error: 'expected a duration like "1h"' })),
  ),
  ca: z.optional(z.string().check(z.regex(/^\//, { error: "expected an absolute path" }))),
});

const config = z.strictObject({
  /** Host names among them are asked for again when the answer of the DNS runs out. */
  peers: z._default(z.array(peer).check(z.maxLength(ENTRIES_MAX)), []),
  /** Names with SRV records, or TXT records that hold endpoints. */
  dns: z._default(z.array(dnsName).check(z.maxLength(16)), []),
  /** Instead of the system's. */
  dns_servers: z._default(z.array(dnsServer).check(z.maxLength(4)), []),
  /** One peer a line, `#` begins a comment. Watched. */
  file: z.optional(z.string().check(z.regex(/^\//, { error: "expected an absolute path" }))),
  /** A variable with peers, separated by spaces or commas. */
  env: z.optional(
    z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "expected the name of a variable" })),
  ),
  list: z.optional(list),
});

export default definePlugin({
  id: "static",
  namespace: "discovery",
  sdk: "^0.1.0",
  permissions: ["net.dns", "net.https", "fs.read", "env", "storage"],
  config,
  start(ctx, { peers, dns, dns_servers: servers, file, env, list: signed }) {
    const board = new Board(ctx);
    const written = peers.flatMap((text) => parseEntry(text) ?? []);
    const { entries, problems } = parseLines(env === undefined ? "" : (process.env[env] ?? ""));
    board.publish("configuration", written, true);
    board.publish("environment", entries, true);
    if (problems.length > 0) board.report("environment", problems.slice(0, 3).join(", "));
    watchDns(ctx, board, { names: dns, peers: [...written, ...entries], servers });
    if (file !== undefined) watchFile(ctx, board, file);
    if (signed !== undefined) {
      const { url, key, ca, refresh } = signed;
      watchList(ctx, board, {
        url,
        key,
        ca,
        refreshMs: refresh === undefined ? REFRESH_DEFAULT_MS : durationMs(refresh),
      });
    }
  },
});

const durationMs = (text: string): number =>
  Math.max(10_000, Number(text.slice(0, -1)) * UNIT_MS[text.slice(-1)]!);

function isDnsServer(text: string): boolean {
  if (isIP(text) !== 0) return true;
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  return match !== null && isIP(match[1] ?? match[2]!) !== 0 && Number(match[3]) <= 65_535;
}
