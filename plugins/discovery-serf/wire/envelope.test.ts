/** What stands around messages: every combination of it, and what a stranger's may cost. */
import { describe, expect, test } from "bun:test";
import { seededRandom } from "@godwit/sdk/testkit";
import { compoundOf, Dropped, Envelope, STREAM_BYTES_MAX } from "./envelope.ts";
import { Keyring } from "./keyring.ts";
import { compress } from "./lzw.ts";
import { encodeAlive, encodeDead, encodePushPull, encodeUserStream } from "./messages.ts";
import { ByteWriter } from "./msgpack.ts";
import { MessageType, OWN_VSN } from "./types.ts";

const key = (length: number, seed = 1) => seededRandom(seed).bytes(length);
const envelope = (keys: readonly Uint8Array[] = [], label = "") =>
  new Envelope({
    keyring: keys.length === 0 ? undefined : new Keyring(keys),
    label,
    random: seededRandom(7),
  });
const dead = encodeDead({ incarnation: 1, node: "a", from: "b" });
const alive = encodeAlive({
  incarnation: 3,
  node: "n".repeat(60),
  at: { address: "2001:db8::1", port: 7_946 },
  meta: new Uint8Array(300),
  vsn: OWN_VSN,
});
const bytes = (list: readonly Uint8Array[]) => list.map((one) => Buffer.from(one).toString("hex"));
const reasonOf = (run: () => unknown): string => {
  try {
    run();
    return "taken";
  } catch (error) {
    return error instanceof Dropped ? error.reason : (error as Error).message;
  }
};

describe("a packet", () => {
  for (const length of [0, 16, 24, 32])
    for (const label of ["", "blue"])
      for (const hasChecksum of [false, true])
        test(`key of ${length}, label "${label}", checksum ${hasChecksum}: comes as it went`, () => {
          const own = envelope(length === 0 ? [] : [key(length)], label);
          for (const messages of [[dead], [dead, alive], Array.from({ length: 100 }, () => dead)])
            expect(bytes(own.openPacket(own.sealPacket(messages, hasChecksum)))).toEqual(bytes(messages));
        });

  test("of as much as there is room for fits a datagram", () => {
    for (const own of [envelope(), envelope([key(32)], "x".repeat(40))]) {
      // Noise, which no compression makes smaller.
      const part = Buffer.concat([Uint8Array.of(MessageType.user), seededRandom(3).bytes(own.room - 3)]);
      expect(own.sealPacket([part], true).length).toBeLessThanOrEqual(1_400);
    }
  });

  test("of another label, another key, in the clear, or changed is dropped for that", () => {
    const closed = envelope([key(16)], "blue");
    expect(reasonOf(() => closed.openPacket(envelope([key(16)], "red").sealPacket([dead], false)))).toBe(
      "label",
    );
    expect(reasonOf(() => closed.openPacket(envelope([key(16)]).sealPacket([dead], false)))).toBe("label");
    expect(reasonOf(() => envelope().openPacket(closed.sealPacket([dead], false)))).toBe("label");
    expect(
      reasonOf(() => envelope([key(16)]).openPacket(envelope([key(16, 2)]).sealPacket([dead], false))),
    ).toBe("sealed");
    expect(reasonOf(() => envelope([key(16)]).openPacket(dead))).toBe("sealed");
    const checked = envelope().sealPacket([dead], true);
    checked[checked.length - 1]! ^= 1;
    expect(reasonOf(() => envelope().openPacket(checked))).toBe("checksum");
  });

  test("sealed by an old key of the ring is opened, and new ones are sealed by the primary", () => {
    const [old, fresh] = [key(16, 1), key(32, 2)];
    const ring = envelope([fresh, old]);
    expect(bytes(ring.openPacket(envelope([old]).sealPacket([dead], false)))).toEqual(bytes([dead]));
    expect(bytes(envelope([fresh]).openPacket(ring.sealPacket([dead], false)))).toEqual(bytes([dead]));
  });

  test("compounds in compounds, and compressions in compressions, end at four", () => {
    let nested: Uint8Array = dead;
    for (let i = 0; i < 4; i++) nested = compoundOf([nested]);
    expect(envelope().openPacket(nested).length).toBe(1);
    expect(() => envelope().openPacket(compoundOf([nested]))).toThrow("too deep");
    let packed: Uint8Array = dead;
    for (let i = 0; i < 5; i++)
      packed = new ByteWriter()
        .u8(MessageType.compressed)
        .value({ Algo: 0, Buf: compress(packed) })
        .finish();
    expect(() => envelope().openPacket(packed)).toThrow("too deep");
  });

  test("a fan of compounds that would be 65,025 messages is refused", () => {
    const fan = compoundOf(
      Array.from({ length: 255 }, () => compoundOf(Array.from({ length: 255 }, () => Uint8Array.of(2)))),
    );
    expect(() => envelope().openPacket(fan)).toThrow("too many messages");
  });

  test("a bomb of more than a hundred to one is refused", () => {
    const bomb = new ByteWriter()
      .u8(MessageType.compressed)
      .value({ Algo: 0, Buf: compress(new Uint8Array(3_000_000)) })
      .finish();
    expect(() => envelope().openPacket(bomb)).toThrow("become more than");
  });

  test("a compound whose end was cut off gives what is whole", () => {
    const compound = compoundOf([dead, alive]);
    expect(envelope().openPacket(compound.subarray(0, compound.length - 1)).length).toBe(1);
  });
});

describe("a stream", () => {
  const state = encodePushPull(
    Array.from({ length: 50 }, (_, i) => ({
      incarnation: i,
      node: `node-${i}`,
      at: { address: "192.0.2.1", port: 1 },
      meta: new Uint8Array(100),
      vsn: OWN_VSN,
      state: 0 as const,
    })),
    new Uint8Array(1_000).fill(5),
    true,
  );

  for (const length of [0, 32])
    for (const label of ["", "blue"])
      test(`key of ${length}, label "${label}": comes as it went, whatever pieces it comes in`, () => {
        const own = envelope(length === 0 ? [] : [key(length)], label);
        for (const message of [state, encodeUserStream(Uint8Array.of(1, 2, 3)), dead])
          for (const size of [1, 7, 1_000_000]) {
            const sealed = own.sealStream(message);
            const reader = own.streamReader(true);
            let found: Uint8Array | undefined;
            for (let at = 0; at < sealed.length; at += size) {
              expect(found).toBeUndefined();
              found = reader.push(sealed.subarray(at, at + size));
            }
            expect(Buffer.compare(found!, message)).toBe(0);
          }
      });

  test("that is not compressed is found to end where it does", () => {
    const reader = envelope().streamReader(true);
    expect(reader.push(state.subarray(0, state.length - 1))).toBeUndefined();
    expect(Buffer.compare(reader.push(state.subarray(-1))!, state)).toBe(0);
  });

  test("holds no more than its bound, and says no to longer ones at once", () => {
    const announced = new ByteWriter()
      .u8(MessageType.encrypted)
      .u32(STREAM_BYTES_MAX + 1)
      .finish();
    expect(() =>
      envelope([key(16)])
        .streamReader(true)
        .push(announced),
    ).toThrow("a stream of more than");
    const reader = envelope().streamReader(true);
    const endless = Buffer.concat([Uint8Array.of(MessageType.pushPull, 0xdb), Uint8Array.of(0x7f, 0, 0, 0)]);
    reader.push(endless);
    expect(() => {
      for (let i = 0; i < 100; i++) reader.push(new Uint8Array(65_536));
    }).toThrow("a stream of more than");
    expect(reader.held).toBeLessThanOrEqual(2 * STREAM_BYTES_MAX);
  });

  test("in the clear, to one that has a key, is dropped for that", () => {
    expect(
      reasonOf(() =>
        envelope([key(16)])
          .streamReader(true)
          .push(envelope().sealStream(dead)),
      ),
    ).toBe("plain");
    expect(
      reasonOf(() =>
        envelope()
          .streamReader(true)
          .push(envelope([key(16)]).sealStream(dead)),
      ),
    ).toBe("sealed");
  });
});

test("few bytes unpack to few, also where a datagram might hold more", () => {
  const small = compress(new Uint8Array(60_000));
  const packed = new ByteWriter().u8(MessageType.compressed).value({ Algo: 0, Buf: small }).finish();
  expect(small.length * 100).toBeLessThan(60_000);
  expect(() => envelope().openPacket(packed)).toThrow("become more than");
});

test("what was sealed for another label, or for none, does not open under this one", () => {
  const ring = [key(32)];
  const [own, other] = [envelope(ring, "lab"), envelope(ring, "")];
  const sealed = other.sealPacket([dead], false);
  const head = own.sealPacket([dead], false).subarray(0, 2 + "lab".length);
  expect(bytes(own.openPacket(own.sealPacket([dead], false)))).toEqual(bytes([dead]));
  expect(reasonOf(() => own.openPacket(Buffer.concat([head, sealed])))).toBe("sealed");
});
