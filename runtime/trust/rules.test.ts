import { expect, test } from "bun:test";
import { parseCidr } from "../kernel/cidr.ts";
import { TrustRules, type TrustRule } from "./rules.ts";

const rule = (level: TrustRule["level"], parts: Partial<TrustRule>): TrustRule => ({
  level,
  callsigns: [],
  transports: [],
  networks: [],
  ...parts,
});
const match = (rules: TrustRule[], callsign: string | undefined, ...endpoints: string[]) =>
  new TrustRules(rules).match({ callsign, endpoints })?.level;

test("the first rule whose every condition holds counts", () => {
  const rules = [
    rule("blocked", { callsigns: ["LON-X"] }),
    rule("trusted", { callsigns: ["LON-*"], transports: ["tcp"] }),
    rule("member", {}),
  ];
  expect(match(rules, "LON-X", "tcp://10.0.0.1:1")).toBe("blocked");
  expect(match(rules, "LON-B", "tcp://10.0.0.1:1")).toBe("trusted");
  expect(match(rules, "LON-B", "tor://abc.onion:1")).toBe("member");
  expect(match(rules, undefined, "tcp://10.0.0.1:1")).toBe("member");
  expect(match([], "LON-B", "tcp://10.0.0.1:1")).toBeUndefined();
});

test("transport and network must hold of one and the same link", () => {
  const rules = [rule("trusted", { transports: ["udp"], networks: ["10.0.0.0/8"] })];
  expect(match(rules, undefined, "tcp://10.0.0.1:1", "udp://192.0.2.1:1")).toBeUndefined();
  expect(match(rules, undefined, "udp://10.9.9.9:1")).toBe("trusted");
});

test("ranges of both families, mapped addresses, zones, and names that are no address", () => {
  const rules = [rule("blocked", { networks: ["10.0.0.0/8", "2001:db8::/32", "fe80::/10", "192.0.2.7"] })];
  for (const endpoint of [
    "tcp://10.255.0.1:1",
    "tcp://[2001:db8::7]:1",
    "tcp://[::ffff:10.1.1.1]:1",
    "tcp://[fe80::1%eth0]:1",
    "tcp://192.0.2.7:9",
  ])
    expect(match(rules, undefined, endpoint)).toBe("blocked");
  for (const endpoint of [
    "tcp://11.0.0.1:1",
    "tcp://[2001:db9::7]:1",
    "tcp://ten.example:1",
    "tor://x.onion:1",
    "",
  ])
    expect(match(rules, undefined, endpoint)).toBeUndefined();
});

test("what is no range is none", () => {
  for (const text of [
    "",
    "10.0.0.0/33",
    "10.0.0/8",
    "::/129",
    "a/8",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "fe80::1%eth0/64",
  ])
    expect(parseCidr(text)).toBeUndefined();
  expect(parseCidr("::1")).toEqual({ address: "::1", bits: 128, family: "ipv6" });
});
