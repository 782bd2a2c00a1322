import { expect, test } from "bun:test";
import { decode, encode, type Answer, type DecodedPacket, type Packet } from "dns-packet";
import { goodbyesOf, isAsked, planAnnouncement, readPacket, recordsOf } from "./records.ts";

const speaker = { id: "a".repeat(52), callsign: "DUN-A", protocols: { min: 1, max: 2 } };
const both = ["10.0.0.1", "fe80::1"];
const short = "aaaaaaaaaa";

test.each([
  ["a wildcard of both families", ["tcp://[::]:4860"], both],
  ["one of IPv4", ["tcp://0.0.0.0:4860"], ["10.0.0.1"]],
  ["an address of the interface, with its zone", ["udp://[fe80::1%eth0]:1"], ["fe80::1"]],
  ["an address of another interface", ["tcp://10.9.9.9:4860"], undefined],
  ["loopback", ["tcp://127.0.0.1:4860", "tcp://[::1]:4860"], undefined],
  [
    "an onion, an overlay, a certificate",
    ["tor://a.onion:1", "yggdrasil://[200::1]:1", "wss://[::]:1/godwit"],
    undefined,
  ],
  ["a path that nobody requests on another's word", ["ws://[::]:80/other"], undefined],
] as const)("what listens on %s is announced where it is reached", (_, sockets, addresses) => {
  expect(planAnnouncement(speaker, sockets, both)?.addresses).toEqual(addresses as string[] | undefined);
});

test("four offers at most, all in one packet of an Ethernet; a second socket of a transport is another instance", () => {
  const sockets = ["tcp://[::]:1", "tcp://[::]:2", "udp://[::]:3", "ws://[::]:4/godwit", "tcp://[::]:5"];
  const records = recordsOf(planAnnouncement(speaker, sockets, both)!);
  expect(records.filter(({ type }) => type === "SRV").map(({ name }) => name)).toEqual([
    `${short}._godwit._tcp.local`,
    `${short}-2._godwit._tcp.local`,
    `${short}._godwit._udp.local`,
    `${short}._godwit-ws._tcp.local`,
  ]);
  expect(encode({ type: "response", answers: records }).length).toBeLessThan(1_452);
});

test("a goodbye takes back what is no more, and nothing that still is", () => {
  const before = planAnnouncement(speaker, ["tcp://[::]:1", "udp://[::]:2"], both)!;
  const now = planAnnouncement(speaker, ["tcp://[::]:1"], ["10.0.0.1"]);
  const gone = goodbyesOf(before, now);
  expect(gone.map(({ type, name }) => `${type} ${name}`)).toEqual([
    "PTR _godwit._udp.local",
    `SRV ${short}._godwit._udp.local`,
    `TXT ${short}._godwit._udp.local`,
    `AAAA ${short}.local`,
  ]);
  expect(gone.every((record) => "ttl" in record && record.ttl === 0)).toBe(true);
});

const received = (packet: Packet): DecodedPacket => decode(encode(packet));

test("a question is answered, unless whoever asks knows the answer for long enough", () => {
  const announcement = planAnnouncement(speaker, ["tcp://[::]:1"], both)!;
  const asks = (name: string, type: "PTR" | "A" | "SRV" | "ANY", answers: Answer[] = []) =>
    isAsked(received({ type: "query", questions: [{ name, type: type as "PTR" }], answers }), announcement);
  const known = (ttl: number): Answer[] => [
    { type: "PTR", name: "_godwit._tcp.local", ttl, data: `${short}._GODWIT._tcp.local` },
  ];
  expect(asks("_Godwit._tcp.LOCAL", "PTR")).toBe(true);
  expect(asks("_services._dns-sd._udp.local", "PTR")).toBe(true);
  expect(asks(`${short}.local`, "A")).toBe(true);
  expect(asks(`${short}._godwit._tcp.local`, "SRV")).toBe(true);
  expect(asks("_godwit._tcp.local", "PTR", known(4_000))).toBe(false);
  expect(asks("_godwit._tcp.local", "PTR", known(1_000))).toBe(true);
  expect(asks("_godwit._udp.local", "PTR")).toBe(false);
  expect(asks("somebody.local", "A")).toBe(false);
});

test("what was announced is read as it was meant", () => {
  const announcement = planAnnouncement(speaker, ["tcp://[::]:1"], both)!;
  const [said, ...more] = readPacket(received({ type: "response", answers: recordsOf(announcement) }));
  expect(more).toEqual([]);
  expect(said).toMatchObject({
    instance: `${short}._godwit._tcp.local`,
    ttlS: 4_500,
    at: { port: 1, target: `${short}.local` },
    addresses: both,
  });
  expect([...said!.text!]).toEqual([
    ["id", speaker.id],
    ["callsign", "DUN-A"],
    ["protocol", "1-2"],
  ]);
});

test("an instance whose name is no text, which would be another one when it is asked for, is passed over", () => {
  const bytes = encode({
    type: "response",
    answers: [
      { type: "PTR", name: "_godwit._tcp.local", ttl: 9, data: `${"x".repeat(63)}._godwit._tcp.local` },
    ],
  });
  expect(readPacket(decode(bytes))).toHaveLength(1);
  const odd = Buffer.from(bytes.map((byte) => (byte === 120 ? 255 : byte)));
  expect(readPacket(decode(odd))).toEqual([]);
});
