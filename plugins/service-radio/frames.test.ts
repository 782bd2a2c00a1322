import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BODY_BYTES_MAX, encodeFrame, FrameReader } from "./frames.ts";

/** Bodies that begin with 0x42 are meant. */
function reader() {
  const bodies: string[] = [];
  let noise = 0;
  const it = new FrameReader({
    frame: (body) => {
      if (body[0] !== 0x42) return false;
      bodies.push(Buffer.from(body).toString("hex"));
      return true;
    },
    noise: (bytes) => void (noise += bytes),
  });
  return { push: (bytes: Uint8Array, nowMs = 0) => it.push(bytes, nowMs), bodies, noise: () => noise };
}

const body = (length: number) => new Uint8Array(length).fill(0x42);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("frames of the stream API", () => {
  test("are found however they are cut, with text of the device between them", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: BODY_BYTES_MAX }), fc.uint8Array({ maxLength: 40 })), {
          maxLength: 6,
        }),
        fc.integer({ min: 1, max: 300 }),
        (parts, size) => {
          const { push, bodies, noise } = reader();
          // Text of people: no byte of it is above 0x7f.
          const text = (bytes: Uint8Array) => bytes.map((byte) => byte & 0x7f);
          const stream = Buffer.concat(
            parts.flatMap(([length, noiseBytes]) => [text(noiseBytes), encodeFrame(body(length))]),
          );
          for (let at = 0; at < stream.length; at += size) push(stream.subarray(at, at + size));
          expect(bodies).toEqual(parts.map(([length]) => hex(body(length))));
          expect(noise()).toBe(parts.reduce((sum, [, bytes]) => sum + bytes.length, 0));
        },
      ),
    );
  });

  test("never throw, and keep at most one frame, whatever comes", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 10 }), (chunks) => {
        const { push } = reader();
        for (const chunk of chunks) push(chunk);
        push(encodeFrame(body(3)));
      }),
    );
  });

  test("0x94 at the end of a chunk begins a frame or does not", () => {
    const { push, bodies } = reader();
    push(Uint8Array.of(0x94));
    push(encodeFrame(body(2)));
    push(Uint8Array.of(0x94));
    push(encodeFrame(body(3)).subarray(1));
    expect(bodies).toEqual([hex(body(2)), hex(body(3))]);
  });

  test("a length of 513 is none, and the frame behind it is found", () => {
    const { push, bodies } = reader();
    push(Uint8Array.of(0x94, 0xc3, 0x02, 0x01));
    push(encodeFrame(body(5)));
    expect(bodies).toEqual([hex(body(5))]);
  });

  test("a length that lies swallows no frame that is whole", () => {
    const { push, bodies } = reader();
    // Its 300 bytes would cover all of the others.
    push(Uint8Array.of(0x94, 0xc3, 0x01, 0x2c));
    for (let i = 0; i < 40; i++) push(encodeFrame(body(10)));
    expect(bodies.length).toBe(40);
  });

  test("a length that lies does not hold up what comes after a pause", () => {
    const { push, bodies } = reader();
    push(Uint8Array.of(0x94, 0xc3, 0x01, 0x2c, 1, 2, 3), 0);
    push(encodeFrame(body(4)), 5_000);
    expect(bodies).toEqual([hex(body(4))]);
  });

  test("a frame within a frame that nobody takes is found", () => {
    const { push, bodies } = reader();
    push(encodeFrame(Uint8Array.of(1, ...encodeFrame(body(6)), 2)));
    expect(bodies).toEqual([hex(body(6))]);
  });
});
