import { describe, expect, test } from "bun:test";
import { encodeFrame, encodeSwitch, FrameReader, Opcode, parseUpgrade } from "./frames.ts";

const head = (changes: Readonly<Record<string, string | undefined>> = {}, first = "GET /godwit HTTP/1.1") =>
  [
    first,
    ...Object.entries({
      Host: "a",
      Upgrade: "websocket",
      Connection: "keep-alive, Upgrade",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
      ...changes,
    }).flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}`])),
  ].join("\r\n");

describe("the request", () => {
  test("an upgrade of version 13 is one, whatever the case of its names", () => {
    const request = parseUpgrade(head({ Upgrade: "WebSocket" }))!;
    expect([request.path, request.headers.get("host")]).toEqual(["/godwit", "a"]);
    expect(parseUpgrade(head({}, "GET /x?y=1 HTTP/1.1"))!.path).toBe("/x");
  });

  test("anything else is none", () => {
    for (const text of [
      "",
      head({}, "POST /godwit HTTP/1.1"),
      head({}, "GET /godwit HTTP/1.0"),
      head({}, "GET http://a/godwit HTTP/1.1"),
      head({ Upgrade: undefined }),
      head({ Connection: "close" }),
      head({ "Sec-WebSocket-Version": "8" }),
      head({ "Sec-WebSocket-Key": "short" }),
      `${head()}\r\nno colon`,
      `${head()}\r\n : x`,
    ])
      expect(parseUpgrade(text)).toBeUndefined();
  });

  test("the answer is that of RFC 6455 section 1.3", () => {
    expect(encodeSwitch("dGhlIHNhbXBsZSBub25jZQ==", "p")).toContain("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
  });
});

/** As a client sends it. */
function masked(opcode: number, payload: Uint8Array, isFinal = true): Uint8Array {
  const plain = encodeFrame(opcode, payload);
  const headBytes = plain.length - payload.length;
  const mask = Uint8Array.of(1, 2, 3, 4);
  const out = new Uint8Array(plain.length + 4);
  out.set(plain.subarray(0, headBytes));
  out[0] = (isFinal ? 0x80 : 0) | opcode;
  out[1]! |= 0x80;
  out.set(mask, headBytes);
  payload.forEach((byte, i) => (out[headBytes + 4 + i] = byte ^ mask[i & 3]!));
  return out;
}

function reader() {
  const seen = { data: [] as number[], control: [] as [number, string][] };
  const frames = new FrameReader({
    data: (bytes) => void seen.data.push(...bytes),
    control: (opcode, payload) => void seen.control.push([opcode, Buffer.from(payload).toString()]),
  });
  return { frames, seen };
}

const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7) & 0xff);

describe("frames of a client", () => {
  const ping = masked(Opcode.ping, Buffer.from("hello"));
  const stream = Buffer.concat([
    masked(Opcode.binary, bytes(5)),
    masked(Opcode.binary, bytes(300), false),
    ping,
    masked(Opcode.continuation, bytes(0), false),
    masked(Opcode.continuation, bytes(70_000)),
    masked(Opcode.close, Uint8Array.of(0x03, 0xe8)),
  ]);
  const expected = [...bytes(5), ...bytes(300), ...bytes(70_000)];

  test("whole, cut after each byte or anywhere, they are the same bytes", () => {
    for (const size of [1, 2, 3, 7, 64, 1_000, stream.length]) {
      const { frames, seen } = reader();
      for (let at = 0; at < stream.length; at += size)
        expect(frames.push(new Uint8Array(stream.subarray(at, at + size)))).toBe(true);
      expect(seen.data).toEqual(expected);
      expect(seen.control.map(([opcode]) => opcode)).toEqual([Opcode.ping, Opcode.close]);
      expect(seen.control[0]![1]).toBe("hello");
    }
  });

  test("what no client of ours says ends it", () => {
    const unmasked = encodeFrame(Opcode.binary, bytes(3));
    const reserved = masked(Opcode.binary, bytes(3));
    reserved[0]! |= 0x40;
    const huge = Uint8Array.of(0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4);
    for (const frame of [
      unmasked,
      reserved,
      huge,
      masked(Opcode.text, bytes(3)),
      masked(Opcode.continuation, bytes(3)),
      masked(3, bytes(3)),
      masked(11, bytes(3)),
      masked(Opcode.ping, bytes(3), false),
      masked(Opcode.ping, bytes(126)),
      Buffer.concat([masked(Opcode.binary, bytes(3), false), masked(Opcode.binary, bytes(3))]),
    ])
      expect(reader().frames.push(new Uint8Array(frame))).toBe(false);
  });

  test("nonsense is refused or read, and never more than came", () => {
    for (let round = 0; round < 2_000; round++) {
      const { frames, seen } = reader();
      const nonsense = crypto.getRandomValues(new Uint8Array(200));
      if (round % 2 === 0) nonsense.set([0x82, 0x80 | (nonsense[1]! & 0x7f)]);
      frames.push(nonsense);
      expect(seen.data.length).toBeLessThan(200);
    }
  });
});
