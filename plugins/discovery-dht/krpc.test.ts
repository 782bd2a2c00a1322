import { expect, test } from "bun:test";
import fc from "fast-check";
import { encodeBencode } from "./bencode.ts";
import { addressBytes, compactOf, contactsOf, formatAddress, parseMessage } from "./krpc.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));
const id = bytes("abcdefghij0123456789");
const target = bytes("mnopqrstuvwxyz123456");

test("the examples of BEP 5, byte for byte", () => {
  expect(parseMessage(bytes("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"))).toMatchObject({
    ...{ kind: "query", name: "ping", id, transaction: bytes("aa"), target: undefined, isReadOnly: false },
  });
  expect(
    parseMessage(
      bytes("d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe"),
    ),
  ).toMatchObject({ kind: "query", name: "find_node", target });
  expect(parseMessage(bytes("d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re"))).toMatchObject({
    ...{ kind: "answer", id: target, nodes: [], item: undefined },
  });
  expect(parseMessage(bytes("d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"))).toMatchObject({
    ...{ kind: "failure", code: 201 },
  });
});

const [t, y] = [bytes("aa"), "q"];
const put = { id, token: bytes("tok"), v: bytes("Hello World!") };
const signed = { ...put, k: new Uint8Array(32), sig: new Uint8Array(64), seq: 4 };
const parsed = (q: string, a: object) => parseMessage(encodeBencode({ t, y, q, a: a as never }));

test("items: each field of its length, or none of it", () => {
  expect(parsed("put", { ...signed, salt: bytes("foobar"), cas: 3 })).toMatchObject({
    ...{ kind: "query", cas: 3, item: { value: put.v, seq: 4, salt: bytes("foobar") } },
  });
  expect(parsed("put", put)).toMatchObject({ kind: "query", item: { value: put.v } });
  for (const broken of [
    { ...signed, k: new Uint8Array(31) },
    { ...signed, sig: new Uint8Array(65) },
    { ...signed, seq: -1 },
    { ...signed, seq: bytes("4") },
    { ...signed, salt: new Uint8Array(65) },
    { ...put, k: new Uint8Array(32) },
    { ...signed, v: 7 },
    { ...signed, v: { deep: "value" } },
    { ...signed, v: new Uint8Array(997) },
  ])
    expect(parsed("put", broken)).toMatchObject({ kind: "foreign", why: "value" });
  expect(parsed("put", { ...signed, token: undefined })).toBeUndefined();
  expect(parsed("get", { id, target: new Uint8Array(19) })).toBeUndefined();
  expect(parsed("get", { id: new Uint8Array(21), target })).toBeUndefined();
  expect(parsed("announce_peer", { id, target })).toMatchObject({ kind: "foreign", why: "method" });
  expect(parsed("get", { id, target, want: ["n6", "n4", 5] })).toMatchObject({ want: [4, 6] });
});

test("no message: other lengths, other forms", () => {
  for (const odd of [
    { t, y },
    { y, q: "ping", a: { id } },
    { t: new Uint8Array(17), y, q: "ping", a: { id } },
    { t, y: "x" },
    { t, y: "r", r: [] },
    { t, y: "r", r: { id: "short" } },
    [t],
  ])
    expect(parseMessage(encodeBencode(odd as never))).toBeUndefined();
  expect(
    parseMessage(encodeBencode({ t, y, q: "ping", a: { id, pad: new Uint8Array(1_500) } })),
  ).toBeUndefined();
});

test("compact contacts of both families, there and back; port 0 and a broken end are skipped", () => {
  const contacts = [
    { id, host: "192.0.2.1", port: 4862 },
    { id: target, host: "198.51.100.255", port: 65_535 },
  ];
  expect(contactsOf(compactOf(contacts), 4)).toEqual(contacts);
  const six = [{ id, host: "2001:db8::1", port: 1 }];
  expect(contactsOf(Buffer.concat([compactOf(six), new Uint8Array(37)]), 6)).toEqual(six);
  expect(contactsOf(compactOf([{ ...contacts[0]!, port: 0 }]), 4)).toEqual([]);
  expect(contactsOf(new Uint8Array(26 * 1_000).fill(1), 4)).toHaveLength(32);
  for (const host of ["::", "::1", "fd00::1:0:0:1", "2001:db8:1:2:3:4:5:6", "1::"])
    expect(formatAddress(addressBytes(host))).toBe(host);
});

test("nothing that comes throws", () => {
  const whole = encodeBencode({ t, y, q: "put", a: { ...signed, salt: bytes("s") }, ro: 1 });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 5 }),
      fc.nat(),
      (changes, length) => {
        const changed = Uint8Array.from(whole);
        for (const [at, byte] of changes) changed[at % changed.length] = byte;
        parseMessage(changed);
        parseMessage(changed.subarray(0, length % changed.length));
      },
    ),
    { numRuns: 1_000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => void parseMessage(noise)));
});
