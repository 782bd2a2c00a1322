import { describe, expect, test } from "bun:test";
import {
  encodeFrame,
  encodeSwitch,
  encodeUpgrade,
  FrameReader,
  HEAD_BYTES_MAX,
  HeadReader,
  Opcode,
  parseAnswer,
  parseUpgrade,
  refusalOf,
} from "./frames.ts";

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

describe("the answer", () => {
  const key = "dGhlIHNhbXBsZSBub25jZQ==";
  const good = encodeSwitch(key, "p").trimEnd();
  const judge = (text: string) => {
    const answer = parseAnswer(text);
    return answer === undefined ? "none" : refusalOf(answer, key, "p");
  };

  test("the one to our own request opens, and a server of ours reads that request", () => {
    expect(judge(good)).toBeUndefined();
    expect(judge(good.replace("Upgrade: websocket", "UPGRADE:  WebSocket "))).toBeUndefined();
    const request = parseUpgrade(encodeUpgrade("a:1", "/x", key, "p").trimEnd())!;
    expect([request.path, request.headers.get("host")]).toEqual(["/x", "a:1"]);
  });

  test("any other is refused in words that say why", () => {
    for (const [text, why] of [
      ["", "none"],
      ["SSH-2.0-x", "none"],
      ["HTTP/2 101 x", "none"],
      ["HTTP/1.1 101x", "none"],
      [`${good}\r\nno colon`, "none"],
      [good.replace("101 Switching Protocols", "200 OK"), "it answered 200 and not 101"],
      ["HTTP/1.1 404", "it answered 404 and not 101"],
      [good.replace("Connection: Upgrade", "Connection: close"), "its answer is to no upgrade"],
      [good.replace("websocket", "h2c"), "its answer is to no upgrade"],
      [good.replace("s3pP", "S3PP"), "its answer is not to this request"],
      [good.replace("Sec-WebSocket-Protocol: p", "X: y"), "it does not speak for Godwit"],
      [`${good}\r\nSec-WebSocket-Protocol: p`, "it does not speak for Godwit"],
      [
        `${good}\r\nSec-WebSocket-Extensions: permessage-deflate`,
        "it chose an extension that nobody offered",
      ],
    ] as const)
      expect([text, judge(text)]).toEqual([text, why]);
  });

  test("a head in pieces is the same head; an endless one is told at its bound", () => {
    const whole = Buffer.from(`${good}\r\n\r\nrest`);
    for (let at = 1; at < whole.length - 4; at++) {
      const pieces = new HeadReader();
      expect(pieces.push(whole.subarray(0, at))).toBe("partial");
      const read = pieces.push(whole.subarray(at));
      expect(typeof read === "string" ? read : [read.text, String(read.rest)]).toEqual([good, "rest"]);
    }
    const endless = new HeadReader();
    const piece = Buffer.alloc(1_000, "x");
    let count = 1;
    while (endless.push(piece) === "partial") count++;
    expect(count).toBe(Math.ceil(HEAD_BYTES_MAX / piece.length));
    expect(new HeadReader().push(Buffer.alloc(1_000_000, "x"))).toBe("endless");
  });
});

test("a head full of blanks costs no more than its length", () => {
  const blanks = `a${" ".repeat(HEAD_BYTES_MAX)}b`;
  const before = process.cpuUsage();
  for (let i = 0; i < 50; i++) {
    expect(parseAnswer(`HTTP/1.1 101 x\r\nX: ${blanks}`)).toBeDefined();
    expect(parseUpgrade(head({ Upgrade: blanks }))).toBeUndefined();
  }
  const { user, system } = process.cpuUsage(before);
  // A search from each blank took 20 ms and more for one head.
  expect((user + system) / 1_000).toBeLessThan(500);
});

/** As a client sends it. */
function masked(opcode: number, payload: Uint8Array, isFinal = true): Uint8Array {
  const out = encodeFrame(opcode, payload, Uint8Array.of(1, 2, 3, 4));
  out[0] = (isFinal ? 0x80 : 0) | opcode;
  return out;
}

/** As a server sends it. */
function plain(opcode: number, payload: Uint8Array, isFinal = true): Uint8Array {
  const out = encodeFrame(opcode, payload);
  out[0] = (isFinal ? 0x80 : 0) | opcode;
  return out;
}

function reader(from: "client" | "server" = "client") {
  const seen = { data: [] as number[], control: [] as [number, string][] };
  const frames = new FrameReader(from, {
    data: (bytes) => void seen.data.push(...bytes),
    control: (opcode, payload) => void seen.control.push([opcode, Buffer.from(payload).toString()]),
  });
  return { frames, seen };
}

const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7) & 0xff);

/** The mask applied byte by byte, as RFC 6455 section 5.3 has it. */
const slowlyMasked = (payload: Uint8Array, mask: Uint8Array): Uint8Array =>
  payload.map((byte, i) => byte ^ mask[i & 3]!);

test("a frame of ours is the one of RFC 6455 section 5.7, masked or not, of every length", () => {
  const hello = Buffer.from("Hello");
  expect(Buffer.from(encodeFrame(1, hello)).toString("hex")).toBe("810548656c6c6f");
  const mask = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);
  expect(Buffer.from(encodeFrame(1, hello, mask)).toString("hex")).toBe("818537fa213d7f9f4d5158");
  for (const length of [0, 1, 2, 3, 4, 5, 7, 8, 125, 126, 127, 65_535, 65_536, 70_001]) {
    const frame = encodeFrame(Opcode.binary, bytes(length), mask);
    const front = length < 126 ? 2 : length < 65_536 ? 4 : 10;
    expect(frame.length).toBe(front + 4 + length);
    expect(frame.subarray(front, front + 4)).toEqual(mask);
    expect(frame.subarray(front + 4)).toEqual(slowlyMasked(bytes(length), mask));
  }
});

for (const [from, frame, other] of [
  ["client", masked, plain],
  ["server", plain, masked],
] as const)
  describe(`frames of a ${from}`, () => {
    const stream = Buffer.concat([
      frame(Opcode.binary, bytes(5)),
      frame(Opcode.binary, bytes(300), false),
      frame(Opcode.ping, Buffer.from("hello")),
      frame(Opcode.continuation, bytes(0), false),
      frame(Opcode.continuation, bytes(70_000)),
      frame(Opcode.close, Uint8Array.of(0x03, 0xe8)),
    ]);
    const expected = [...bytes(5), ...bytes(300), ...bytes(70_000)];

    test("whole, cut after each byte or anywhere, they are the same bytes", () => {
      for (const size of [1, 2, 3, 7, 64, 1_000, stream.length]) {
        const { frames, seen } = reader(from);
        for (let at = 0; at < stream.length; at += size)
          expect(frames.push(new Uint8Array(stream.subarray(at, at + size)))).toBe(true);
        expect(seen.data).toEqual(expected);
        expect(seen.control.map(([opcode]) => opcode)).toEqual([Opcode.ping, Opcode.close]);
        expect(seen.control[0]![1]).toBe("hello");
      }
    });

    test("what no such end of ours says ends it", () => {
      const reserved = frame(Opcode.binary, bytes(3));
      reserved[0]! |= 0x40;
      const huge = Uint8Array.of(0x82, from === "client" ? 0xff : 0x7f, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4);
      for (const bad of [
        other(Opcode.binary, bytes(3)),
        reserved,
        huge,
        frame(Opcode.text, bytes(3)),
        frame(Opcode.continuation, bytes(3)),
        frame(3, bytes(3)),
        frame(11, bytes(3)),
        frame(Opcode.ping, bytes(3), false),
        frame(Opcode.ping, bytes(126)),
        Buffer.concat([frame(Opcode.binary, bytes(3), false), frame(Opcode.binary, bytes(3))]),
      ])
        expect(reader(from).frames.push(new Uint8Array(bad))).toBe(false);
    });

    test("nonsense is refused or read, and never more than came", () => {
      for (let round = 0; round < 2_000; round++) {
        const { frames, seen } = reader(from);
        const nonsense = crypto.getRandomValues(new Uint8Array(200));
        if (round % 2 === 0) nonsense.set([0x82, (from === "client" ? 0x80 : 0) | (nonsense[1]! & 0x7f)]);
        frames.push(nonsense);
        expect(seen.data.length).toBeLessThanOrEqual(200);
      }
    });
  });
