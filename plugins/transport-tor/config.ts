/** `[transports.NAME] type = "tor"`: what may stand there. */
import { isIP } from "node:net";
import { z } from "zod/mini";
import { type Door, parseDoor } from "./endpoint.ts";
import { secretField } from "@godwit/sdk/secret";

const CLIENTS_MAX = 330;
const LINES_MAX = 64;

/** Checks, reads and answers a problem instead, in words that complete "expected ...". */
function text<T>(expected: string, parse: (value: string) => T | undefined) {
  return z.pipe(
    z.string(),
    z.transform((value, ctx): T => {
      const parsed = parse(value);
      if (parsed !== undefined) return parsed;
      ctx.issues.push({ code: "custom", message: `expected ${expected}`, input: value });
      return z.NEVER;
    }),
  );
}

const door = text<Door>('"host:port" or "unix:/path"', parseDoor);
const absolutePath = text("an absolute path without spaces or quotes", (value) =>
  /^\/[^\s"'\\\0]+$/.test(value) ? value : undefined,
);
/** A newline would end the line and begin another option. */
const torrcLine = text("one line of printable characters", (value) =>
  /^[\x21-\x7e][\x20-\x7e]{0,1000}$/.test(value) && !value.endsWith("\\") ? value : undefined,
);
/** sun_path of sockaddr_un(7) is 108 bytes with its end mark. */
const UNIX_PATH_BYTES_MAX = 107;
const listenAddress = text('IP:PORT that Tor can reach, like "127.0.0.1:0", or "unix:/path"', (value) => {
  const parsed = parseDoor(value);
  if (parsed === undefined) return undefined;
  // It travels in ADD_ONION, where a space ends it.
  if ("path" in parsed)
    return /^[\x21-\x7e]+$/.test(parsed.path) && parsed.path.length <= UNIX_PATH_BYTES_MAX
      ? parsed
      : undefined;
  return isIP(parsed.host) !== 0 && !["0.0.0.0", "::"].includes(parsed.host) ? parsed : undefined;
});
const PASSWORD_BYTES_MAX = 256;
const password = secretField(`a password of 1 to ${PASSWORD_BYTES_MAX} printable ASCII characters`, {
  bytesMin: 1,
  bytesMax: PASSWORD_BYTES_MAX,
  judge: (bytes) =>
    bytes.every((byte) => byte >= 0x20 && byte <= 0x7e) ? undefined : "with other characters",
});

export const torConfig = z
  .strictObject({
    /** `system`: a tor that somebody else runs. `supervised`: one of our own, a child of the node. */
    mode: z._default(z.enum(["system", "supervised"]), "system"),
    /** System: its SOCKS port. Default 127.0.0.1:9050. */
    socks: z.optional(door),
    /** System: its control port; without it the node only dials. */
    control: z.optional(door),
    /** System: of the control port, `file:/path`, `env:NAME` or `credential:NAME`. Cookies need none. */
    control_password: z.optional(password),
    /** System: where the cookie lies, when not where tor says (another container). */
    cookie_file: z.optional(absolutePath),
    /** Where tor hands over what comes for the onion address, at most one; [] publishes no onion address. */
    listen: z._default(z.array(listenAddress).check(z.maxLength(1)), [{ host: "127.0.0.1", port: 0 }]),
    /** The onion address's port. */
    port: z._default(
      z
        .int()
        .check(
          z.refine((value) => value >= 1 && value <= 65_535, { error: "expected a port from 1 to 65535" }),
        ),
      4860,
    ),
    /** `stored`: a random key in the node's store. `derived`: from the identity, so that a restored identity restores the address. */
    key: z._default(z.enum(["stored", "derived"]), "stored"),
    /** Public keys of those who may find the onion address at all (52 characters of base32); none: everybody who knows it. */
    clients: z._default(
      z
        .array(
          text("52 characters of base32, a client's public key", (value) =>
            /^[a-z2-7]{51}[aq]$/i.test(value) ? value.toUpperCase() : undefined,
          ),
        )
        .check(z.maxLength(CLIENTS_MAX)),
      [],
    ),
    /** Show this node's own client key to onion addresses that it dials; its public half is logged at the start. */
    client_key: z._default(z.boolean(), false),
    /** Supervised: the program. */
    binary: z._default(
      text('"tor" or an absolute path without spaces or quotes', (value) =>
        value === "tor" || /^\/[^\s"'\\\0]+$/.test(value) ? value : undefined,
      ),
      "tor",
    ),
    /** Supervised: bridge lines, `[TRANSPORT] ADDRESS:PORT [FINGERPRINT] [KEY=VALUE]...`. */
    bridges: z._default(z.array(torrcLine).check(z.maxLength(LINES_MAX)), []),
    /** Supervised: name of a pluggable transport, and the absolute path of its program. */
    pluggable_transports: z._default(
      z.record(
        z.string().check(
          z.regex(/^[A-Za-z_][A-Za-z0-9_]{0,31}$/, {
            error: "expected the name of a pluggable transport, like obfs4",
          }),
        ),
        absolutePath,
      ),
      {},
    ),
    /** Supervised: more lines of the torrc. */
    torrc: z._default(z.array(torrcLine).check(z.maxLength(LINES_MAX)), []),
  })
  .check(
    z.superRefine((value, ctx) => {
      const refuse = (path: string, message: string) =>
        ctx.addIssue({ code: "custom", path: [path], message, input: value });
      if (value.mode === "supervised") {
        for (const key of ["socks", "control", "control_password", "cookie_file"] as const)
          if (value[key] !== undefined) refuse(key, `expected mode = "system" beside ${key}`);
      } else {
        if (value.bridges.length > 0) refuse("bridges", 'expected mode = "supervised" beside bridges');
        if (Object.keys(value.pluggable_transports).length > 0)
          refuse("pluggable_transports", 'expected mode = "supervised" beside pluggable_transports');
        if (value.torrc.length > 0) refuse("torrc", 'expected mode = "supervised" beside torrc');
        for (const key of ["control_password", "cookie_file"] as const)
          if (value[key] !== undefined && value.control === undefined)
            refuse(key, `expected control = "host:port" beside ${key}`);
        if (value.client_key && value.control === undefined)
          refuse("client_key", 'expected control = "host:port" beside client_key');
        if (value.clients.length > 0 && value.control === undefined)
          refuse("clients", 'expected control = "host:port" beside clients');
      }
      if (value.clients.length > 0 && value.listen.length === 0)
        refuse("clients", "expected an address in listen beside clients");
    }),
  );

export type TorConfig = z.infer<typeof torConfig>;
