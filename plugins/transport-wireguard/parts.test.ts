import { afterEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { formatIp, type NetlinkBuilder, parseMessages } from "@godwit/sdk/netlink";
import { seededRandom } from "@godwit/sdk/testkit";
import { assignPool, guestAddress, nodeAddress, nodeRange, parsePool } from "./addresses.ts";
import { formatWgEndpoint, parseWgEndpoint, tryParseWgEndpoint } from "./endpoint.ts";
import { Guests } from "./guests.ts";
import { buildGetDevice, buildSetDevice, parseDevice as parseKernel } from "./kernel.ts";
import { Secret } from "@godwit/sdk/secret";
import { clamped, keyText, parseKey, publicKeyOf } from "./keys.ts";
import { adoptNextKey, loadPairs, openKey, saveNextKey, savePairs } from "./state.ts";
import { formatChange, parseDevice as parseUapi } from "./uapi.ts";
import vectors from "./vectors.json";

const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});
function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "godwit-wg-"));
  cleanups.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
const key = (byte: number) => keyText(new Uint8Array(32).fill(byte));
const secret = (byte: number) => new Secret(new Uint8Array(32).fill(byte));

// What wireguard-tools 1.0.20210914 sent to a kernel that answered family 0x21.
describe("generic netlink is what wg sends, byte for byte", () => {
  const FAMILY = 0x21;
  const built: Readonly<Record<string, NetlinkBuilder>> = {
    "set peer": buildSetDevice(FAMILY, "wg0", {
      peers: [
        {
          publicKey: key(2),
          presharedKey: secret(3),
          endpoint: { host: "192.0.2.7", port: 51_820 },
          keepaliveSeconds: 25,
          allowedIps: ["10.88.0.2/32", "fd00::2/128"],
        },
      ],
    }),
    "move peer": buildSetDevice(FAMILY, "wg0", {
      peers: [{ publicKey: key(2), endpoint: { host: "2001:db8::7", port: 51_821 } }],
    }),
    "remove peer": buildSetDevice(FAMILY, "wg0", { peers: [{ publicKey: key(2), isRemoved: true }] }),
    "no allowed": buildSetDevice(FAMILY, "wg0", { peers: [{ publicKey: key(2), allowedIps: [] }] }),
    get: buildGetDevice(FAMILY, "wg0"),
  };
  const normal = (hex: string) => `${hex.slice(0, 16)}00000000${hex.slice(24)}`;
  test.each(Object.entries(built))("%s", (name, builder) => {
    const hex = Buffer.from(builder.finish(0)).toString("hex");
    expect(hex).toBe(normal(vectors[name as keyof typeof vectors]));
  });

  test("a device's key and port: as wg, which also clears the mark", () => {
    const hex = Buffer.from(
      buildSetDevice(FAMILY, "wg0", { privateKey: secret(1), listenPort: 51_820 }).finish(0),
    ).toString("hex");
    const wg = normal(vectors["set key"]);
    // The mark is the last attribute, of eight bytes; the length at the front says so.
    expect(wg.slice(8, -16)).toBe(hex.slice(8));
    expect(wg.slice(-16)).toBe("0800070000000000");
  });

  test("what was told to a device reads back from it, peers that go on in a second message too", () => {
    const message = buildSetDevice(FAMILY, "wg0", {
      peers: [
        { publicKey: key(2), presharedKey: secret(3), keepaliveSeconds: 9, allowedIps: ["10.0.0.1/32"] },
        { publicKey: key(4), endpoint: { host: "fe80::1", port: 7 }, allowedIps: ["fd00::/48"] },
      ],
    }).finish(1);
    const rest = buildSetDevice(FAMILY, "wg0", {
      peers: [{ publicKey: key(4), allowedIps: ["fd01::/48"] }],
    }).finish(1);
    const device = parseKernel([...parseMessages(message), ...parseMessages(rest)]);
    expect(device.peers.map(({ publicKey, allowedIps }) => [publicKey, allowedIps])).toEqual([
      [key(2), ["10.0.0.1/32"]],
      [key(4), ["fd00::/48", "fd01::/48"]],
    ]);
    expect(device.peers[0]!.presharedKey!.equals(secret(3))).toBe(true);
    expect([device.peers[0]!.keepaliveSeconds, device.peers[1]!.endpoint]).toEqual([
      9,
      { host: "fe80::1", port: 7 },
    ]);
    for (let at = 0; at < message.length; at++)
      for (const value of [0, 1, 255]) {
        const bent = message.slice();
        bent[at] = value;
        try {
          parseKernel(parseMessages(bent));
        } catch (error) {
          expect(error).toMatchObject({ code: "GODWIT_DECODE" });
        }
      }
  });
});

describe("the userspace interface", () => {
  test("a change, line for line", () => {
    expect(
      formatChange({
        privateKey: secret(1),
        listenPort: 51_820,
        peers: [
          { publicKey: key(2), isRemoved: true },
          {
            publicKey: key(4),
            presharedKey: null,
            endpoint: { host: "2001:db8::7", port: 1 },
            keepaliveSeconds: 25,
            allowedIps: ["fd00::2/128"],
          },
        ],
      }).split("\n"),
    ).toEqual([
      "set=1",
      `private_key=${"01".repeat(32)}`,
      "listen_port=51820",
      `public_key=${"02".repeat(32)}`,
      "remove=true",
      `public_key=${"04".repeat(32)}`,
      `preshared_key=${"00".repeat(32)}`,
      "endpoint=[2001:db8::7]:1",
      "persistent_keepalive_interval=25",
      "replace_allowed_ips=true",
      "allowed_ip=fd00::2/128",
      "",
      "",
    ]);
  });

  // As wireguard-go 0.0.20220316 answered.
  const answer = `private_key=${Buffer.from(clamped(new Uint8Array(32).fill(1)).reveal()).toString("hex")}
listen_port=51820
public_key=${"02".repeat(32)}
preshared_key=${"03".repeat(32)}
protocol_version=1
endpoint=[fd00:64:1::2]:51820
last_handshake_time_sec=1795636076
last_handshake_time_nsec=500000000
tx_bytes=7984
rx_bytes=8020
persistent_keepalive_interval=0
allowed_ip=fd48:6b8d:c9ea:aa28:c111:9a0d:29f5:0/112
errno=0

`;
  test("an answer is read, and a refusal or nonsense is one, without a word of what it said", () => {
    const device = parseUapi(answer);
    expect(device.publicKey).toBe(keyText(publicKeyOf(clamped(new Uint8Array(32).fill(1)))));
    expect(device.peers).toMatchObject([
      {
        publicKey: key(2),
        endpoint: { host: "fd00:64:1::2", port: 51_820 },
        handshakeMs: 1_795_636_076_500,
        sentBytes: 7_984,
        receivedBytes: 8_020,
        allowedIps: ["fd48:6b8d:c9ea:aa28:c111:9a0d:29f5:0/112"],
      },
    ]);
    for (const bad of [
      "errno=-98\n\n",
      "private_key=abc\n",
      `${answer.slice(0, 200)}\nallowed_ip=x/1\n`,
      "listen_port=70000\n",
    ])
      try {
        parseUapi(bad);
        throw new Error("was taken");
      } catch (error) {
        expect(error).toMatchObject({ code: "GODWIT_PLUGIN_FAILED" });
        expect(String(error)).not.toMatch(/[0-9a-f]{16}/);
      }
  });
});

describe("endpoints", () => {
  test("are read as they are written, and anything else is refused", () => {
    const endpoint = {
      publicKey: key(0xfb),
      hosts: [
        { host: "192.0.2.7", port: 51_820 },
        { host: "2001:db8::7", port: 1 },
      ],
    };
    const text = formatWgEndpoint(endpoint);
    expect(text).toBe(`wg://${"-_v7".repeat(10)}-_s/192.0.2.7:51820,[2001:db8::7]:1`);
    expect(parseWgEndpoint(text)).toEqual(endpoint);
    const bare = formatWgEndpoint({ publicKey: key(1), hosts: [] });
    expect(parseWgEndpoint(bare)).toEqual({ publicKey: key(1), hosts: [] });
    for (const bad of [
      "wg://",
      "wg://a/b:1",
      `${bare}/a`,
      `${bare}/a:0`,
      `${bare}/[fe80::1%eth0]:1`,
      `${bare}?x`,
      `tcp${bare}`,
      `${bare}/${"a:1,".repeat(5)}a:1`,
    ])
      expect([bad, tryParseWgEndpoint(bad)]).toEqual([bad, undefined]);
    expect(() => parseWgEndpoint("wg://x")).toThrow(
      expect.objectContaining({ code: "GODWIT_ENDPOINT_INVALID" }),
    );
  });

  test("stay within what a record takes, however many hosts there are", () => {
    const hosts = Array.from({ length: 9 }, (_, i) => ({
      host: `2001:db8:1111:2222:3333:4444:5555:666${i}`,
      port: 51_820,
    }));
    const text = formatWgEndpoint({ publicKey: key(1), hosts });
    expect(text.length).toBeLessThanOrEqual(200);
    expect(parseWgEndpoint(text).hosts.length).toBeGreaterThan(1);
  });
});

describe("addresses", () => {
  test("are the same for all who know the network and the node, and others for other networks", () => {
    expect(formatIp(nodeAddress("lab", "a".repeat(52)))).toBe("fd48:6b8d:c9ea:8a48:6e5f:d1e2:bb64:1");
    expect(nodeRange("lab", "a".repeat(52))).toBe("fd48:6b8d:c9ea:8a48:6e5f:d1e2:bb64:0/112");
    expect(formatIp(nodeAddress("other", "a".repeat(52)))).not.toContain("fd48:6b8d:c9ea");
    const guest = guestAddress("lab", "a".repeat(52), "phone");
    expect(formatIp(guest)).toStartWith("fd48:6b8d:c9ea:8a48:6e5f:d1e2:bb64:");
    expect(new DataView(guest.buffer).getUint16(14)).toBeGreaterThan(1);
  });

  test("of a pool: no two alike, within it, and the same whatever order the nodes are heard of in", () => {
    const pool = parsePool("10.77.0.0/24")!;
    const ids = Array.from({ length: 120 }, (_, i) => `node${i}`);
    const { byId, moved } = assignPool(pool, ids);
    expect(new Set(byId.values()).size).toBe(120);
    for (const address of byId.values()) expect(address).toMatch(/^10\.77\.0\.(?!0$|255$)\d+$/);
    expect(assignPool(pool, ids.toReversed()).byId).toEqual(byId);
    expect(moved.length).toBeGreaterThan(0);
    const full = assignPool(parsePool("10.77.0.0/29")!, ids);
    expect([full.byId.size <= 6, full.moved.length >= 114]).toEqual([true, true]);
    for (const bad of ["10.77.0.1/24", "10.0.0.0/7", "10.0.0.0/30", "fd00::/64", "10.0.0/24"])
      expect(parsePool(bad)).toBeUndefined();
  });
});

describe("secrets", () => {
  test("print as [secret], whatever prints them", () => {
    const hidden = secret(7);
    expect([String(hidden), JSON.stringify({ hidden }), inspect(hidden)].join()).not.toMatch(/07|Bwc/);
  });

  test("text of keys is what wg takes", () => {
    for (const bad of ["", "A".repeat(44), `${"A".repeat(42)}B=`, `${"A".repeat(43)}=x`])
      expect(parseKey(bad)).toBeUndefined();
    expect(parseKey(`${"A".repeat(43)}=`)).toEqual(new Uint8Array(32));
  });

  test("the key is made once, for its owner alone; a damaged one is never replaced", async () => {
    const path = folder();
    const first = await openKey(path, seededRandom(1));
    expect(first.equals(await openKey(path, seededRandom(2)))).toBe(true);
    expect(statSync(join(path, "private.key")).mode & 0o777).toBe(0o600);
    chmodSync(join(path, "private.key"), 0o644);
    await openKey(path, seededRandom(2));
    expect(statSync(join(path, "private.key")).mode & 0o777).toBe(0o600);
    writeFileSync(join(path, "private.key"), "damaged");
    await expect(openKey(path, seededRandom(2))).rejects.toThrow("damaged");
    expect(readFileSync(join(path, "private.key"), "utf8")).toBe("damaged");
  });

  test("a rotation that was announced is finished by the next start", async () => {
    const path = folder();
    const old = await openKey(path, seededRandom(1));
    const next = clamped(new Uint8Array(32).fill(9));
    await saveNextKey(path, next);
    expect((await openKey(path, seededRandom(2))).equals(next)).toBe(true);
    expect(old.equals(next)).toBe(false);
    await expect(adoptNextKey(path)).rejects.toThrow("ENOENT");
  });

  test("preshared keys of another key of this node, or of a damaged file, count for nothing", async () => {
    const path = folder();
    const pairs = { [key(2)]: { current: key(3), atMs: 5 } };
    const own = clamped(new Uint8Array(32).fill(1));
    await savePairs(path, own, pairs);
    expect(await loadPairs(path, own)).toEqual(pairs);
    expect(await loadPairs(path, clamped(new Uint8Array(32).fill(2)))).toEqual({});
    writeFileSync(join(path, "preshared.json"), "{");
    expect(await loadPairs(path, own)).toEqual({});
  });
});

test("many writes at once leave the last one whole", async () => {
  const path = folder();
  const own = clamped(new Uint8Array(32).fill(1));
  const pairsOf = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [key(i + 1), { current: key(i), atMs: i }]));
  await Promise.all([30, 3, 20, 1, 12, 2].map((count) => savePairs(path, own, pairsOf(count))));
  expect(await loadPairs(path, own)).toEqual(pairsOf(2));
});

test("plain devices: names, keys and addresses are checked, and survive a restart", async () => {
  const path = folder();
  const self = "a".repeat(52);
  const guests = await Guests.open(path, "lab", self);
  const phone = await guests.add("phone", key(1), new Set());
  expect(guests.list).toEqual([phone]);
  for (const [name, publicKey] of [
    ["Phone!", key(2)],
    ["other", "short"],
    ["other", key(1)],
    ["other", key(9)],
    [7, key(2)],
  ])
    await expect(guests.add(name, publicKey, new Set([key(9)]))).rejects.toMatchObject({
      code: "GODWIT_REQUEST_INVALID",
    });
  await guests.add("phone", key(2), new Set());
  expect((await Guests.open(path, "lab", self)).list).toEqual([{ ...phone, publicKey: key(2) }]);
  await guests.remove("phone");
  await expect(guests.remove("phone")).rejects.toMatchObject({ code: "GODWIT_REQUEST_INVALID" });
  expect(guests.list).toEqual([]);
});
