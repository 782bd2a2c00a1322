/** Frames of paths on demand, byte for byte. */
import { describe, expect, test } from "bun:test";
import { formatHex, formatNodeId, parseHex } from "../kernel/ids.ts";
import {
  decodePathAnswer,
  decodePathGone,
  decodePathQuestion,
  encodePathAnswer,
  encodePathGone,
  encodePathQuestion,
  PATH_LIFE_UNIT_MS,
} from "./path-messages.ts";

const destination = formatNodeId(new Uint8Array(32).fill(0x0a));
const ID_HEX = "0a".repeat(32);
const question = {
  number: 0x1234,
  hopsLeft: 16,
  destination,
  needsSeqno: undefined,
  holdsSeqno: undefined,
} as const;
const proof = {
  seqno: 9,
  recordHash: new Uint8Array(8).fill(0xcc),
  signature: new Uint8Array(64).fill(0xbb),
};
const answer = {
  number: 0x1234,
  lifeMs: 180 * PATH_LIFE_UNIT_MS,
  destination,
  route: { seqno: 8, metric: 300, mtu: 200, bottleneck: 2 },
  proof: undefined,
} as const;
const PROOF_HEX = `000000000009${"cc".repeat(8)}${"bb".repeat(64)}`;

const cases = [
  ["question", encodePathQuestion(question), `100300123410${ID_HEX}`],
  [
    "question for a newer number, with a proof that is held",
    encodePathQuestion({ ...question, needsSeqno: 8, holdsSeqno: 7 }),
    `100303123410${ID_HEX}000000000008000000000007`,
  ],
  ["answer", encodePathAnswer(answer), `1004201234b4${ID_HEX}000000000008ac02c801`],
  [
    "answer with proof",
    encodePathAnswer({ ...answer, proof }),
    `1004211234b4${ID_HEX}000000000008ac02c801${PROOF_HEX}`,
  ],
  ["gone", encodePathGone(destination), `1005${ID_HEX}`],
] as const;

describe("bytes", () => {
  for (const [name, bytes, hex] of cases) test(name, () => expect(formatHex(bytes)).toBe(hex));

  test("what is read is what was written, whatever stands behind it", () => {
    const longer = (bytes: Uint8Array) => new Uint8Array([...bytes, 1, 2, 3]);
    expect(decodePathQuestion(longer(cases[0][1]))).toEqual(question);
    expect(decodePathQuestion(longer(cases[1][1]))).toEqual({ ...question, needsSeqno: 8, holdsSeqno: 7 });
    expect(decodePathAnswer(longer(cases[2][1]))).toEqual(answer);
    expect(decodePathAnswer(longer(cases[3][1]))).toEqual({ ...answer, proof });
    expect(decodePathGone(longer(cases[4][1]))).toBe(destination);
  });

  test("frames that end early, and routes that cannot be, are refused", () => {
    for (const [, bytes] of cases)
      for (let length = 2; length < bytes.length; length++) {
        const read = () => {
          const part = bytes.subarray(0, length);
          if (part[1] === 3) decodePathQuestion(part);
          else if (part[1] === 4) decodePathAnswer(part);
          else decodePathGone(part);
        };
        expect(read).toThrow();
      }
    const infinite = parseHex(`1004201234b4${ID_HEX}000000000008ffffffff0fc801`, 51)!;
    expect(() => decodePathAnswer(infinite)).toThrow("infinite");
    const unknownClass = cases[2][1].slice();
    unknownClass[2] = 0x30;
    expect(() => decodePathAnswer(unknownClass)).toThrow("class");
  });
});
