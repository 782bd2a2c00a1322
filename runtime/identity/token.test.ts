import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import vectors from "../../test/vectors/join.json";
import { formatHex, parseHex, type NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { decodeInvite, decodeRedemption, encodeInvite, inviteSecret, signRedemption } from "./invite.ts";
import { generateIdentity, verifySignature } from "./keys.ts";
import { formatToken, idPrefixOf, parseToken, type Token } from "./token.ts";

const random = seededRandom(7);
const [inviter, other] = [generateIdentity(random), generateIdentity(random)];
const invite = { id: parseHex("0102030405060708", 8)!, expiresAtS: 1_800_003_600, uses: 1 };
const secret = inviteSecret(new TextEncoder().encode("correct horse battery staple"), invite, "telex");
const at = (endpoint: string, id: NodeId = inviter.id) => ({ endpoint, idPrefix: idPrefixOf(id) });

const closed: Token = {
  network: "telex",
  inviter: inviter.id,
  membership: { invite, secret },
  callsign: "DUN-B",
  addresses: [
    at("tcp://192.0.2.1:4860"),
    at("tcp://[2001:db8::1]:4860", other.id),
    at("tcp://lon-b.example:4860", other.id),
  ],
};
const open: Token = { ...closed, membership: undefined, callsign: undefined };

describe("golden vectors", () => {
  test("an invitation and its secret", () => {
    expect(formatHex(encodeInvite(invite))).toBe(vectors.invite);
    expect(formatHex(secret)).toBe(vectors.inviteSecret);
    expect(decodeInvite(parseHex(vectors.invite, 13)!)).toEqual(invite);
  });

  test("tokens", () => {
    expect(formatToken(closed)).toBe(vectors.closedToken);
    expect(formatToken(open)).toBe(vectors.openToken);
    expect(parseToken(vectors.closedToken)).toEqual(closed);
    expect(parseToken(vectors.openToken)).toEqual(open);
  });

  test("a redemption", () => {
    const bytes = signRedemption(inviter, { invite, redeemer: other.id, atMs: 1_800_000_000_000 }, "telex");
    expect(formatHex(bytes)).toBe(vectors.redemption);
    expect(decodeRedemption(bytes, "telex", verifySignature)).toEqual({
      invite,
      redeemer: other.id,
      acceptor: inviter.id,
      atMs: 1_800_000_000_000,
    });
    expect(() => decodeRedemption(bytes, "other", verifySignature)).toThrow("another network");
    bytes[20]! ^= 1;
    expect(() => decodeRedemption(bytes, "telex", verifySignature)).toThrow();
  });
});

test("the secret depends on every number of the invitation, on the network and on the network secret", () => {
  const key = new TextEncoder().encode("correct horse battery staple");
  const secrets = [
    secret,
    inviteSecret(key, { ...invite, uses: 2 }, "telex"),
    inviteSecret(key, { ...invite, expiresAtS: invite.expiresAtS + 1 }, "telex"),
    inviteSecret(key, { ...invite, id: new Uint8Array(8) }, "telex"),
    inviteSecret(key, invite, "telex2"),
    inviteSecret(key.slice(1), invite, "telex"),
  ];
  expect(new Set(secrets.map(formatHex)).size).toBe(secrets.length);
});

test("eight IPv4 addresses of eight members fit a QR code that a terminal of 80 columns shows", async () => {
  const ids = Array.from({ length: 8 }, () => generateIdentity(random).id);
  const token = formatToken({ ...closed, addresses: ids.map((id, i) => at(`tcp://192.0.2.${i}:4860`, id)) });
  const { renderQr } = await import("../cli/qr.ts");
  const lines = renderQr(token).trimEnd().split("\n");
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
  expect(lines.length).toBeLessThanOrEqual(40);
});

const endpoint = fc.oneof(
  fc.tuple(fc.ipV4(), fc.nat(65_535)).map(([host, port]) => `tcp://${host}:${port}`),
  fc.tuple(fc.ipV6(), fc.nat(65_535)).map(([host, port]) => `tcp://[${host}]:${port}`),
  fc.tuple(fc.domain(), fc.nat(99_999)).map(([host, port]) => `tor://${host}:${port}`),
);

test("whatever a token holds comes back, in any case and broken over lines", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(endpoint, fc.constantFrom(inviter.id, other.id)), { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      fc.boolean(),
      (addresses, isOpen, isUpper) => {
        const token = {
          ...(isOpen ? open : closed),
          addresses: addresses.map(([where, id]) => at(where, id)),
        };
        const text = formatToken(token);
        const written = (isUpper ? text.toUpperCase() : text).replace(/.{40}/g, "$&\n ");
        expect(parseToken(written)).toEqual(token);
      },
    ),
  );
});

test("one wrong character is named, wherever it stands", () => {
  const text = formatToken(closed);
  fc.assert(
    fc.property(
      fc.integer({ min: 7, max: text.length - 1 }),
      fc.integer({ min: 1, max: 31 }),
      (place, by) => {
        const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        const wrong = charset.charAt((charset.indexOf(text.charAt(place)) + by) % 32);
        expect(() => parseToken(text.slice(0, place) + wrong + text.slice(place + 1))).toThrow(
          `character ${place + 1} is "${wrong}" and should be "${text.charAt(place)}"`,
        );
      },
    ),
  );
});

test("what is missing, doubled, swapped or no token is refused in words", () => {
  const text = formatToken(closed);
  for (const bad of [text.slice(0, -1), text.slice(0, 50) + text.slice(51), `${text}q`, text.slice(0, 8)])
    expect(() => parseToken(bad)).toThrow(/checksum is wrong/);
  const swapped = text.split("");
  const place = swapped.findIndex((char, index) => index > 7 && char !== swapped[index + 1]);
  [swapped[place], swapped[place + 1]] = [swapped[place + 1]!, swapped[place]!];
  expect(() => parseToken(swapped.join(""))).toThrow(/typo/);
  expect(() => parseToken(`${text.slice(0, 20)}b${text.slice(21)}`)).toThrow(
    'character 21, "b", is never part',
  );
  for (const bad of ["", "hello", "godwit2qqq", "x".repeat(10_000)])
    expect(() => parseToken(bad)).toThrow(/no invitation/);
});

test("what is much too long is no invitation, and is refused before a letter of it is read", () => {
  const text = formatToken(closed);
  expect(parseToken(`${text}${" ".repeat(500)}`)).toEqual(parseToken(text));
  expect(() => parseToken(`${text}${" ".repeat(1_000_000)}`)).toThrow("much too long");
});
