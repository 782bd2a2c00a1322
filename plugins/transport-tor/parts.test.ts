import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "@godwit/sdk/testkit";
import fc from "fast-check";
import { authenticate } from "./auth.ts";
import { complaintOf, pathsIn, renderTorrc } from "./child.ts";
import { torConfig } from "./config.ts";
import type { ControlConnection } from "./control.ts";
import { infoOf, LINE_BYTES_MAX, parseWords, quote, type Reply, ReplyParser } from "./control-reply.ts";
import { encodeBase32, formatTorEndpoint, parseTorEndpoint } from "./endpoint.ts";
import { clientKeyOf, onionKeyOf } from "./onion.ts";

const latin1 = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));

test("replies of tor 0.4.9.11 as they were seen", () => {
  const seen =
    '250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/a \\"b\\"/c"\r\n250 OK\r\n' +
    "650 HS_DESC UPLOADED abc UNKNOWN $AA~x\r\n" +
    "250+onions/detached=\r\nabc\r\n..def\r\n.\r\n250 OK\r\n" +
    "552 Unknown option\r\n";
  const parser = new ReplyParser();
  const replies = [...latin1(seen)].flatMap((byte) => parser.push(Uint8Array.of(byte)));
  expect(replies.map(({ code }) => code)).toEqual([250, 650, 250, 552]);
  expect(parseWords(replies[0]!.lines[1]!.text).values.get("COOKIEFILE")).toBe('/a "b"/c');
  expect(infoOf(replies[2]!, "onions/detached")).toBe("abc\n.def");
});

test("a reply without end is given up", () => {
  expect(() => new ReplyParser().push(new Uint8Array(LINE_BYTES_MAX + 2).fill(0x61))).toThrow("too long");
  const parser = new ReplyParser();
  expect(() => {
    for (let i = 0; i < 5_000; i++) parser.push(latin1("250-x\r\n"));
  }).toThrow("too many");
  expect(() => new ReplyParser().push(latin1("250-a\r\n550 b\r\n"))).toThrow("code");
});

test("property: pieces do not matter, and quoting is undone", () => {
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[ -~]{0,40}$/), { maxLength: 6 }), fc.nat(20), (lines, step) => {
      const text = `${lines.map((line) => `250-${line}\r\n`).join("")}250 OK\r\n`;
      const parser = new ReplyParser();
      const replies: Reply[] = [];
      for (let at = 0; at < text.length; at += step + 1)
        replies.push(...parser.push(latin1(text.slice(at, at + step + 1))));
      expect(replies).toEqual([{ code: 250, lines: [...lines, "OK"].map((line) => ({ text: line })) }]);
    }),
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[ -~]{0,40}$/), (text) => {
      expect(parseWords(`KEY=${quote(text)} B=1`).values).toEqual(
        new Map([
          ["KEY", text],
          ["B", "1"],
        ]),
      );
    }),
  );
});

test("onion addresses: a published example, and what is none", () => {
  // RFC 8032 section 7.1, test 1.
  const seed = Uint8Array.from(
    Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex"),
  );
  const { name, blob } = onionKeyOf(seed);
  expect(name).toBe("25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid");
  expect(String(blob)).toBe("[secret]");
  expect(blob.revealText()).toHaveLength("ED25519-V3:".length + 88);
  expect(parseTorEndpoint(`tor://${name.toUpperCase()}.onion:4860`)).toEqual({
    host: `${name}.onion`,
    port: 4860,
  });
  expect(parseTorEndpoint(`tor://${name}.onion.:4860`).host).toBe(`${name}.onion`);
  const wrong = `${name[0] === "a" ? "b" : "a"}${name.slice(1)}`;
  for (const bad of [
    `tor://${wrong}.onion:1`,
    "tor://a.onion:1",
    `tor://x.${name}.onion:1`,
    "tor://1.2.3:1",
    "tor://a..:1",
    "tor://a:65536",
    "tcp://a:1",
  ])
    expect(() => parseTorEndpoint(bad)).toThrow("is not tor://");
});

test("endpoints: text and back", () => {
  for (const endpoint of ["tor://peer.example:1", "tor://192.0.2.1:65535", "tor://[2001:db8::1]:80"])
    expect(formatTorEndpoint(parseTorEndpoint(endpoint))).toBe(endpoint);
});

test("a client's key: X25519 of RFC 7748 section 6.1", () => {
  const secret = Buffer.from("77076d0a7318a57d3c16c17251b26645df4c2f92ebc099aa5f4d5c1a1e1a1b2a", "hex");
  const { publicText, blob } = clientKeyOf(secret);
  expect(publicText).toMatch(/^[A-Z2-7]{52}$/);
  expect(blob.revealText()).toBe(`x25519:${secret.toString("base64")}`);
  expect(encodeBase32(Uint8Array.of(0xff, 0x00))).toBe("74aa");
});

test("the torrc holds what was configured, a line each, and nothing can break out of a line", () => {
  const paths = pathsIn("/var/lib/godwit/plugin-files/transport.tor");
  const torrc = renderTorrc(
    {
      bridges: ["obfs4 192.0.2.1:443 AA cert=x"],
      pluggable_transports: { obfs4: "/usr/bin/obfs4proxy" },
      torrc: ["ClientUseIPv6 1"],
    },
    paths,
    7,
  ).split("\n");
  for (const line of [
    "UseBridges 1",
    "Bridge obfs4 192.0.2.1:443 AA cert=x",
    "ClientTransportPlugin obfs4 exec /usr/bin/obfs4proxy",
    "__OwningControllerProcess 7",
    `SocksPort unix:${paths.socks} ExtendedErrors`,
    "ClientUseIPv6 1",
  ])
    expect(torrc).toContain(line);
  for (const line of ["a\nb", "a\r", "", "a\\", " a"])
    expect(torConfig.safeParse({ mode: "supervised", torrc: [line] }).success).toBe(false);
  expect(() => pathsIn(`/${"x".repeat(100)}`)).toThrow("state_dir");
});

test("of what tor says the complaint is told", () => {
  const lines = [
    "Nov 24 [notice] line",
    "Nov 24 [warn] Permissions on directory are too permissive.",
    "[notice] bye",
  ];
  expect(complaintOf(lines)).toBe("Permissions on directory are too permissive.");
  expect([complaintOf(["said so"]), complaintOf([])]).toEqual(["said so", undefined]);
});

test("a reply whose lines are long ends as well, by its bytes", () => {
  const parser = new ReplyParser();
  const line = latin1(`250-${"x".repeat(1_000)}\r\n`);
  let lines = 0;
  expect(() => {
    for (; lines < 4_000; lines++) parser.push(line);
  }).toThrow("too long");
  expect(lines).toBeLessThan(1_100);
});

test("whoever answers on the control port does not learn what another file holds: a cookie has 32 bytes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-tor-"));
  try {
    for (const bytes of [0, 31, 33, 4_096]) {
      const path = join(folder, `cookie-${bytes}`);
      writeFileSync(path, new Uint8Array(bytes).fill(7));
      const said: string[] = [];
      const control = {
        isClosed: false,
        close() {},
        command(words: string) {
          said.push(words);
          const text = `AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="${path}"`;
          return Promise.resolve({ code: 250, lines: [{ text }] });
        },
      } as unknown as ControlConnection;
      const credentials = { password: undefined, cookieFile: undefined, random: seededRandom(1) };
      await expect(authenticate(control, credentials, true)).rejects.toThrow("is no cookie of 32 bytes");
      expect(said).toEqual(["PROTOCOLINFO 1"]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
