import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import vectors from "../../../test/vectors/plugin-frames.json";
import { decodeDatagram, encodeDatagram } from "./datagram.ts";
import {
  decodeParts,
  decodeU32,
  encodeFrame,
  encodeParts,
  encodeU32,
  errorOfWire,
  FRAME_BYTES_MAX,
  FrameReader,
  PluginFrame,
  wireErrorOf,
} from "./frames.ts";
import { godwitError } from "../../kernel/errors.ts";

interface Seen {
  readonly type: number;
  readonly id: number;
  readonly body: string;
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));

function collect() {
  const seen: Seen[] = [];
  const reader = new FrameReader((type, id, body) => seen.push({ type, id, body: hex(body) }));
  return { seen, reader };
}

test("golden vectors: every form of frame, both ways", () => {
  const utf8 = new TextEncoder();
  const made: Readonly<Record<string, Uint8Array>> = {
    hello: encodeFrame(PluginFrame.hello, 0, encodeParts({ protocol: 1, name: "gull" })),
    started: encodeFrame(PluginFrame.started, 0),
    failed: encodeFrame(
      PluginFrame.failed,
      0,
      encodeParts({ code: "GULL_GONE", message: "no sea", kind: "transport", retry: "later" }),
    ),
    ping: encodeFrame(PluginFrame.ping, 7),
    pong: encodeFrame(PluginFrame.pong, 7),
    hint: encodeFrame(
      PluginFrame.event,
      0,
      encodeParts({ event: "hint", endpoint: "tcp://192.0.2.1:4860", lifetimeMs: 60_000 }),
    ),
    storageSet: encodeFrame(
      PluginFrame.call,
      1,
      encodeParts({ method: "storage.set", key: "seen" }, utf8.encode("abc")),
    ),
    answer: encodeFrame(PluginFrame.answer, 1, encodeParts({ value: true }, utf8.encode("abc"))),
    data: encodeFrame(PluginFrame.data, 3, new Uint8Array([1, 2, 3])),
    credit: encodeFrame(PluginFrame.credit, 3, encodeU32(131_072)),
    proven: encodeFrame(PluginFrame.proven, 3, encodeU32(1)),
    closeAtOnce: encodeFrame(PluginFrame.close, 3, new Uint8Array([1])),
    closed: encodeFrame(PluginFrame.closed, 3),
    datagram: encodeDatagram(new Uint8Array([9]), { host: "192.0.2.1", port: 4_861 }),
  };
  expect(Object.fromEntries(Object.entries(made).map(([name, bytes]) => [name, hex(bytes)]))).toEqual(
    vectors,
  );
  const { seen, reader } = collect();
  reader.push(bytesOf(vectors.data + vectors.credit));
  expect(seen).toEqual([
    { type: PluginFrame.data, id: 3, body: "010203" },
    { type: PluginFrame.credit, id: 3, body: "00020000" },
  ]);
  expect(decodeDatagram(bytesOf(vectors.datagram))).toEqual({
    at: { host: "192.0.2.1", port: 4_861 },
    bytes: new Uint8Array([9]),
  });
});

describe("a reader", () => {
  test("property: frames come out as they went in, wherever the stream was cut", () => {
    const frame = fc.record({
      type: fc.integer({ min: 0, max: 255 }),
      id: fc.integer({ min: 0, max: 0xffff_ffff }),
      body: fc.uint8Array({ maxLength: 20_000 }),
    });
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 7_000 })),
        (frames, cuts) => {
          const stream = Buffer.concat(frames.map(({ type, id, body }) => encodeFrame(type, id, body)));
          const { seen, reader } = collect();
          let at = 0;
          for (const cut of [...cuts, stream.length]) {
            reader.push(new Uint8Array(stream.subarray(at, at + cut)));
            at = Math.min(stream.length, at + cut);
          }
          expect(seen).toEqual(frames.map(({ type, id, body }) => ({ type, id, body: hex(body) })));
          expect(reader.heldBytes).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });

  test.each([0, 4, FRAME_BYTES_MAX + 1, 0xffff_ffff])("refuses a length of %d at once", (length) => {
    const { reader } = collect();
    expect(() => reader.push(encodeU32(length))).toThrow("allowed");
  });

  test("keeps no more of a large frame than has arrived", () => {
    const { seen, reader } = collect();
    reader.push(encodeU32(FRAME_BYTES_MAX));
    reader.push(new Uint8Array(100));
    expect(reader.heldBytes).toBe(104);
    expect(seen).toEqual([]);
  });
});

test("a body that is cut short, or whose JSON is none or too long, is refused", () => {
  for (const body of ["", "000000", "00000003 7b7d", "00000002 7b5d", "00000002 ffff"])
    expect(() => decodeParts(bytesOf(body.replace(" ", "")))).toThrow("plugin frame");
  expect(() => decodeParts(encodeParts({ a: "x".repeat(100) }), 50)).toThrow("at most 50");
  expect(() => decodeU32(new Uint8Array(3))).toThrow();
  expect(decodeDatagram(new Uint8Array([0, 1, 9, 65]))).toBeUndefined();
});

test("errors keep their code, kind and advice; whatever else was sent becomes one", () => {
  const error = godwitError("GODWIT_DIAL_FAILED", "no way");
  expect(errorOfWire(wireErrorOf(error))).toMatchObject({
    code: "GODWIT_DIAL_FAILED",
    kind: "transport",
    retry: "later",
    message: "no way",
  });
  for (const odd of [undefined, null, 7, "x", { code: "lower", message: 3, kind: "king" }])
    expect(errorOfWire(odd)).toMatchObject({ code: "GODWIT_PLUGIN_FAILED", kind: "plugin" });
  expect(errorOfWire({ code: "A", message: "y".repeat(5_000) }).message).toHaveLength(1_024);
});
