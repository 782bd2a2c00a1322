/** What of the datagrams that anybody on the LAN may send is decoded at all. */
import { expect, test } from "bun:test";
import { ManualClock } from "@godwit/sdk/testkit";
import { DATAGRAM_BYTES_MAX, Gate, RECORDS_MAX } from "./gate.ts";

const PORT = 5_353;

function gate() {
  const clock = new ManualClock();
  const made = new Gate({ clock, isOnLink: (address) => address.startsWith("192.0.2.") });
  return { clock, made };
}
/** A datagram that says that it has so many answers. */
function saying(records: number, bytes = 100): Uint8Array {
  const out = new Uint8Array(bytes);
  if (bytes >= 8) new DataView(out.buffer).setUint16(6, records);
  return out;
}
/** How many of them were decoded. */
const taken = (made: Gate, addresses: readonly string[], datagram: Uint8Array): number =>
  addresses.filter((address) => made.refusalOf(datagram, address, PORT) === undefined).length;
const repeat = (address: string, count: number): string[] => Array.from({ length: count }, () => address);

test("what comes from another port, or from outside of this network, is no answer", () => {
  const { made } = gate();
  expect(made.refusalOf(saying(1), "192.0.2.1", PORT)).toBeUndefined();
  expect(made.refusalOf(saying(1), "192.0.2.1", 53)).toBe("port");
  expect(made.refusalOf(saying(1), "198.51.100.1", PORT)).toBe("off_link");
});

test("what is too long, too short, or says that it holds too much is not decoded", () => {
  const { made } = gate();
  expect(made.refusalOf(saying(1, DATAGRAM_BYTES_MAX + 1), "192.0.2.1", PORT)).toBe("too_big");
  expect(made.refusalOf(saying(1, DATAGRAM_BYTES_MAX), "192.0.2.2", PORT)).toBeUndefined();
  expect(made.refusalOf(saying(0, 11), "192.0.2.3", PORT)).toBe("malformed");
  expect(made.refusalOf(saying(RECORDS_MAX + 1), "192.0.2.4", PORT)).toBe("too_many_records");
  // All sections count together.
  const spread = saying(RECORDS_MAX - 2);
  for (const at of [4, 8, 10]) new DataView(spread.buffer).setUint16(at, 1);
  expect(made.refusalOf(spread, "192.0.2.5", PORT)).toBe("too_many_records");
  expect(made.refusalOf(saying(RECORDS_MAX), "192.0.2.6", PORT)).toBeUndefined();
});

test("each source has a pace, and what says much costs more than what says little", async () => {
  const { made, clock } = gate();
  expect(taken(made, repeat("192.0.2.1", 100), saying(1))).toBe(32);
  expect(taken(made, repeat("192.0.2.2", 100), saying(RECORDS_MAX))).toBe(2);
  await clock.advance(1_000);
  expect(taken(made, repeat("192.0.2.1", 100), saying(8))).toBe(4);
});

test("all sources together have a pace, which one that is too fast does not use up", () => {
  const { made } = gate();
  // Far more than all have, of one source.
  expect(taken(made, repeat("192.0.2.1", 10_000), saying(1))).toBe(32);
  const others = Array.from({ length: 240 }, (_, n) => `192.0.2.${n + 2}`);
  expect(taken(made, others, saying(1))).toBe(240);
  const rest = others.flatMap((address) => repeat(address, 31));
  expect(taken(made, rest, saying(1))).toBe(512 - 32 - 240);
});
