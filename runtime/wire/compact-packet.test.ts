import { expect, test } from "bun:test";
import vectors from "../../test/vectors/compact.json";
import { formatHex, formatNodeId } from "../kernel/ids.ts";
import { restorePacket, shortenPacket } from "./compact-packet.ts";
import { encodePacket } from "./packet.ts";

const [sender, receiver, other] = [1, 2, 3].map((fill) => formatNodeId(new Uint8Array(32).fill(fill))) as [
  ReturnType<typeof formatNodeId>,
  ReturnType<typeof formatNodeId>,
  ReturnType<typeof formatNodeId>,
];
const ends = { sender, receiver };
const payload = new Uint8Array([1, 2, 3]);

test("a packet comes out as it went in, by the ends of the link that it names", () => {
  const sizes: (number | undefined)[] = [];
  for (const source of [sender, receiver, other])
    for (const destination of [receiver, sender, other])
      for (const plane of ["any", "bulk"] as const) {
        const header = { priority: 3, plane, hopsLeft: 64, kind: 1, source, destination } as const;
        const frame = encodePacket(header, payload);
        const short = shortenPacket(frame, ends);
        if (plane === "bulk") sizes.push(short?.length);
        if (short !== undefined) expect(restorePacket(short, ends)).toEqual(frame);
      }
  const [both, one] = [4 + 3, 4 + 32 + 3];
  expect(sizes).toEqual([both, one, one, one, undefined, undefined, one, undefined, undefined]);
});

test("golden bytes; flags that this release does not know, and what is no packet, stay as they are", () => {
  const frame = encodePacket(
    { priority: 2, plane: "any", hopsLeft: 5, kind: 1, source: sender, destination: other },
    payload,
  );
  expect(formatHex(shortenPacket(frame, ends)!)).toBe(vectors.compactPacket);
  for (const bit of [8, 16, 32, 64, 128]) {
    const unknown = frame.slice();
    unknown[1]! |= bit;
    expect(shortenPacket(unknown, ends)).toBeUndefined();
  }
  for (let length = 0; length < 68; length++)
    expect(shortenPacket(frame.subarray(0, length), ends)).toBeUndefined();
  const short = shortenPacket(frame, ends)!;
  for (let length = 0; length < 36; length++)
    expect(() => restorePacket(short.subarray(0, length), ends)).toThrow();
});
