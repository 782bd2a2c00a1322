import { describe, expect, test } from "bun:test";
import { nodeRange, parsePool } from "./addresses.ts";
import type { WgPeer } from "./device.ts";
import { formatWgEndpoint } from "./endpoint.ts";
import {
  candidateOf,
  isInternet,
  keepaliveTo,
  planChanges,
  planPeers,
  type Candidate,
  type PlanInput,
} from "./plan.ts";
import { Secret } from "@godwit/sdk/secret";
import { keyText } from "./keys.ts";

const key = (byte: number) => keyText(new Uint8Array(32).fill(byte));
const host = (text: string) => ({ host: text, port: 51_820 });
const node = (id: string, byte: number, change: Partial<Candidate> = {}): Candidate => ({
  id,
  publicKey: key(byte),
  hosts: [host("192.0.2.1")],
  via: undefined,
  ...change,
});
const input = (change: Partial<PlanInput> = {}): PlanInput => ({
  network: "lab",
  self: "m",
  ownKey: key(99),
  ownHosts: [host("192.0.2.9")],
  candidates: [],
  guests: [],
  pool: undefined,
  isRouted: false,
  keepalive: undefined,
  ownerOf: () => undefined,
  reach: () => "unknown",
  ...change,
});
const allowed = (change: Partial<PlanInput>) =>
  Object.fromEntries(
    planPeers(input(change)).peers.map(({ publicKey, allowedIps }) => [publicKey, allowedIps]),
  );

test("a record without an endpoint of WireGuard is no candidate", () => {
  const fact = { id: "a", callsign: undefined, isLinked: true, via: undefined };
  expect(candidateOf({ ...fact, endpoints: ["tcp://a:1", "wg://nonsense"] })).toBeUndefined();
  const endpoint = { publicKey: key(1), hosts: [host("192.0.2.1")] };
  expect(candidateOf({ ...fact, endpoints: ["tcp://a:1", formatWgEndpoint(endpoint)] })).toEqual({
    ...endpoint,
    id: "a",
    via: undefined,
  });
});

describe("who is a peer for what", () => {
  test("each node for its own range, and a plain device for its address alone", () => {
    const plan = planPeers(
      input({
        candidates: [node("a", 1), node("b", 2)],
        guests: [{ name: "phone", publicKey: key(7), address: "fd00::7" }],
      }),
    );
    expect(plan.peers.map(({ publicKey, allowedIps }) => [publicKey, allowedIps])).toEqual([
      [key(1), [nodeRange("lab", "a")]],
      [key(2), [nodeRange("lab", "b")]],
      [key(7), ["fd00::7/128"]],
    ]);
    expect(plan.conflicts).toEqual([]);
  });

  test("with a pool each has its IPv4 address too, and so have we", () => {
    const { peers, ipv4 } = planPeers(input({ candidates: [node("a", 1)], pool: parsePool("10.77.0.0/16") }));
    expect(peers[0]!.allowedIps[0]).toMatch(/^10\.77\.\d+\.\d+\/32$/);
    expect(ipv4).toMatch(/^10\.77\./);
  });

  test("one key, two nodes: the smaller id keeps it until another has proven that it is its own", () => {
    const candidates = [node("b", 1), node("a", 1), node("c", 99)];
    expect(planPeers(input({ candidates })).peers.map(({ id }) => id)).toEqual(["a"]);
    const proven = planPeers(input({ candidates, ownerOf: () => "b" }));
    expect([proven.peers.map(({ id }) => id), proven.conflicts.length]).toEqual([["b"], 2]);
  });

  test("addresses of nodes that nobody answers for lead to the neighbour on the way, if that was asked for", () => {
    const candidates = [node("a", 1, { via: "b" }), node("b", 2, { via: "b" })];
    const reach = (publicKey: string) => (publicKey === key(1) ? ("failed" as const) : ("fresh" as const));
    expect(allowed({ candidates, reach })[key(2)]).toEqual([nodeRange("lab", "b")]);
    const routed = allowed({ candidates, reach, isRouted: true });
    expect(routed[key(1)]).toEqual([]);
    expect(routed[key(2)]).toEqual([nodeRange("lab", "a"), nodeRange("lab", "b")].sort());
    // It comes back by itself once packets pass.
    expect(allowed({ candidates, reach: () => "fresh", isRouted: true })[key(1)]).toEqual([
      nodeRange("lab", "a"),
    ]);
  });

  test("two nodes behind NATs are not tried at all, but routed", () => {
    const candidates = [node("a", 1, { hosts: [], via: "b" }), node("b", 2, { via: "b" })];
    const routed = allowed({ candidates, isRouted: true, ownHosts: [] });
    expect(routed[key(2)]).toContain(nodeRange("lab", "a"));
  });
});

test("keepalives are for those behind a NAT alone", () => {
  const [inside, outside] = [[host("10.0.0.1")], [host("198.51.100.1")]];
  expect(keepaliveTo(outside, inside)).toBe(25);
  expect(keepaliveTo(outside, [])).toBe(25);
  expect(keepaliveTo(inside, inside)).toBe(0);
  expect(keepaliveTo(outside, outside)).toBe(0);
  expect([
    isInternet("fd00::1"),
    isInternet("2001:db8::1"),
    isInternet("100.64.0.1"),
    isInternet("a.example"),
  ]).toEqual([false, true, false, true]);
  expect(planPeers(input({ candidates: [node("a", 1)], ownHosts: [] })).peers[0]!.keepaliveSeconds).toBe(25);
  expect(
    planPeers(input({ candidates: [node("a", 1)], ownHosts: [], keepalive: 0 })).peers[0]!.keepaliveSeconds,
  ).toBe(0);
});

describe("what changes", () => {
  const actual = (change: Partial<WgPeer>): WgPeer => ({
    publicKey: key(1),
    presharedKey: undefined,
    endpoint: host("192.0.2.1"),
    keepaliveSeconds: 0,
    handshakeMs: 0,
    receivedBytes: 0,
    sentBytes: 0,
    allowedIps: [],
    ...change,
  });
  const wanted = { publicKey: key(1), id: "a", hosts: [], allowedIps: ["fd00::/112"], keepaliveSeconds: 0 };
  const none = { presharedKeyOf: () => undefined, endpointOf: () => undefined };

  test("nothing where all is right: no session suffers", () => {
    expect(planChanges([wanted], [actual({ allowedIps: ["fd00::/112"] })], none)).toEqual([]);
  });

  test("strangers go, newcomers come, and of the others only what differs is said", () => {
    const preshared = new Secret(new Uint8Array(32).fill(5));
    const wishes = { presharedKeyOf: () => preshared, endpointOf: () => host("192.0.2.2") };
    expect(planChanges([wanted], [actual({ publicKey: key(2) })], none)).toEqual([
      { publicKey: key(2), isRemoved: true },
      { publicKey: key(1), allowedIps: ["fd00::/112"] },
    ]);
    expect(planChanges([wanted], [actual({ allowedIps: ["fd00::/112"] })], wishes)).toEqual([
      { publicKey: key(1), presharedKey: preshared, endpoint: host("192.0.2.2") },
    ]);
    expect(
      planChanges([wanted], [actual({ allowedIps: ["fd00::/112"], presharedKey: preshared })], none),
    ).toEqual([{ publicKey: key(1), presharedKey: null }]);
  });
});

test("nobody takes the key of a device that the operator let in, nor this node's own", () => {
  const guests = [{ name: "phone", publicKey: key(7), address: "fd00::7" }];
  const { peers, conflicts } = planPeers(
    input({ candidates: [node("a", 7), node("b", 99), node("c", 1)], guests }),
  );
  expect(peers.map(({ publicKey, id }) => [publicKey, id])).toEqual([
    [key(1), "c"],
    [key(7), undefined],
  ]);
  expect(conflicts).toEqual([
    "node a claims a key that is another's",
    "node b claims a key that is another's",
  ]);
});

test("a device has a bounded number of peers: 1,024, plain devices among them, and the rest is said", () => {
  const keyOf = (number: number) => {
    const bytes = new Uint8Array(32);
    new DataView(bytes.buffer).setUint32(0, number);
    return keyText(bytes);
  };
  const candidates = Array.from({ length: 1_100 }, (_, i) => node(`n${i}`, 0, { publicKey: keyOf(i + 1) }));
  const guests = [{ name: "phone", publicKey: key(7), address: "fd00::7" }];
  const { peers, conflicts } = planPeers(input({ candidates, guests }));
  expect([peers.length, peers.at(-1)!.publicKey]).toEqual([1_024, key(7)]);
  expect(conflicts).toEqual(["more than 1024 peers: the rest has no WireGuard"]);
});
