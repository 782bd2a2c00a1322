import { expect, test } from "bun:test";
import vectors from "../../test/vectors/streams.json";
import {
  decodeAccept,
  decodeFrames,
  decodeGone,
  decodeOpen,
  decodeRecordHeader,
  encodeAccept,
  encodeGone,
  encodeOpen,
  FrameWriter,
  RECORD_HEADER_BYTES,
  writeRecordHeader,
} from "./wire.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const fill = (length: number, value: number) => new Uint8Array(length).fill(value);
const text = (bytes: string) => new TextEncoder().encode(bytes);

/** One line for each frame. */
function read(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  decodeFrames(bytes, {
    onPing: () => void lines.push("ping"),
    onAck: (ranges, delay) => void lines.push(`ack ${ranges.join(" ")} after ${delay}`),
    onOpen: (id, service, metadata) => void lines.push(`open ${id} ${service} ${hex(metadata)}`),
    onData: (id, offset, data, isEnd) => void lines.push(`data ${id} ${offset} ${hex(data)} ${isEnd}`),
    onCredit: (id, limit) => void lines.push(`credit ${id} ${limit}`),
    onReset: (id, reason, words) => void lines.push(`reset ${id} ${reason} ${words}`),
    onAccepted: (id) => void lines.push(`accepted ${id}`),
    onClose: () => void lines.push("close"),
  });
  return lines;
}

test("messages have the bytes of docs/protocol/streams.md", () => {
  const open = encodeOpen({ index: 0x01020304, noise: fill(4, 0xaa) });
  const accept = encodeAccept({ to: 0x01020304, index: 0x0a0b0c0d, noise: fill(4, 0xbb) });
  const gone = encodeGone({ index: 5, token: fill(16, 0xcc) });
  const header = new Uint8Array(RECORD_HEADER_BYTES);
  writeRecordHeader(header, 0, { epoch: 3, index: 0x0a0b0c0d, counter: 0x010203040506 });
  expect({ open: hex(open), accept: hex(accept), gone: hex(gone), record: hex(header) }).toEqual(
    vectors.messages,
  );
  expect(decodeOpen(open)).toMatchObject({ version: 1, index: 0x01020304 });
  expect(decodeAccept(accept)).toMatchObject({ to: 0x01020304, index: 0x0a0b0c0d });
  expect(decodeGone(gone).index).toBe(5);
  expect(decodeRecordHeader(header)).toEqual({ epoch: 3, index: 0x0a0b0c0d, counter: 0x010203040506 });
});

test("frames have the bytes of docs/protocol/streams.md", () => {
  const writer = new FrameWriter(new Uint8Array(512));
  writer.ping();
  writer.ack([10, 12, 3, 7, 0, 0], 25);
  writer.open(2, text("forward"), text("127.0.0.1:80"));
  writer.data(2, 300, 3, false).set([1, 2, 3]);
  writer.data(2, 303, 0, true);
  writer.credit(2, 65_536);
  writer.reset(4, 4, text("no"));
  writer.accepted(2);
  writer.close();
  expect(hex(writer.bytes)).toBe(vectors.frames.hex);
  expect(read(writer.bytes)).toEqual(vectors.frames.reads);
});

test.each([
  ["an unknown frame", "7f"],
  ["an acknowledgement below zero", "0205000106"],
  ["an acknowledgement without ranges", "02050000"],
  ["a data frame cut short", "0402000501"],
  ["a service longer than allowed", "030241"],
])("%s is refused", (_name, bytes) => {
  expect(() => read(Buffer.from(bytes, "hex"))).toThrow(expect.objectContaining({ code: "GODWIT_DECODE" }));
});
