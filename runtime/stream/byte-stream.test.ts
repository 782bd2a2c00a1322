import { expect, test } from "bun:test";
import { formatNodeId } from "../kernel/ids.ts";
import { ByteStream, type StreamOwner } from "./byte-stream.ts";
import { UNACKED_BYTES_MAX } from "./constants.ts";

test("a stream that waited for a hole of 4 MiB goes on when it is filled, though no new credit comes", () => {
  const awake = new Set<ByteStream>();
  const owner: StreamOwner = {
    rttMs: 1,
    nowMs: () => 0,
    wake: (stream) => void awake.add(stream),
    credit() {},
    accepted() {},
    reset() {},
    grow: () => true,
    gone() {},
  };
  const stream = new ByteStream(owner, {
    id: 0,
    remote: formatNodeId(new Uint8Array(32)),
    service: "test",
    metadata: new Uint8Array(0),
  });
  stream.onCredit(2 * UNACKED_BYTES_MAX);
  for (let sent = 0; sent < UNACKED_BYTES_MAX + 300_000; sent += 100_000)
    stream.write(new Uint8Array(100_000));
  const pieces = [];
  for (let piece = stream.takePiece(60_000); piece !== undefined; piece = stream.takePiece(60_000))
    pieces.push(piece);
  expect(pieces.at(-1)?.end).toBe(UNACKED_BYTES_MAX);
  awake.clear();
  for (const piece of pieces.slice(1)) stream.onAcked(piece);
  expect(awake.size).toBe(0);
  stream.onAcked(pieces[0]!);
  expect(awake.has(stream)).toBe(true);
  expect(stream.takePiece(60_000)?.start).toBe(UNACKED_BYTES_MAX);
});
