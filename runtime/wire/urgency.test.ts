import { describe, expect, test } from "bun:test";
import { formatNodeId } from "../kernel/ids.ts";
import { type BundleHeader, BundleKind, encodeBundleFrame, makeBundle } from "./bundle.ts";
import { FrameType, type Priority } from "./constants.ts";
import { urgencyOf, urgencyOfBundle } from "./urgency.ts";

const node = (byte: number) => formatNodeId(new Uint8Array(32).fill(byte));

function bundleOf(kind: number, priority: Priority): Uint8Array {
  const header: BundleHeader = {
    ...{ kind, priority, source: node(1), destination: node(2), lifetimeMs: 60_000 },
  };
  return encodeBundleFrame(makeBundle(header, new Uint8Array(20)), {
    remainingMs: 1_000,
    hops: 1,
    trace: [],
  });
}

describe("of frames", () => {
  test("an alarm is a message of priority 0 and nothing else, in whichever form", () => {
    for (const priority of [0, 1, 2, 3] as const) {
      const isAlarm = priority === 0;
      expect(urgencyOfBundle({ kind: BundleKind.message, priority })).toBe(isAlarm ? 0 : 1);
      expect(urgencyOf(bundleOf(BundleKind.message, priority))).toBe(isAlarm ? 0 : 1);
      expect(urgencyOf(bundleOf(BundleKind.receipt, priority))).toBe(2);
      expect(urgencyOf(Uint8Array.of(FrameType.compactMessage, 0xfc | priority))).toBe(isAlarm ? 0 : 1);
      expect(urgencyOf(Uint8Array.of(FrameType.compactReceipts, 0xfc | priority))).toBe(2);
      expect(urgencyOf(Uint8Array.of(FrameType.compactBundle, 0xfc | priority))).toBe(2);
    }
  });

  test("acknowledgements go with alarms, because without them what they answer goes again; digests behind all", () => {
    const all = Object.entries(FrameType).filter(
      ([, type]) => ![0x30, 0x33, 0x70, 0x71, 0x72].includes(type),
    );
    const by = (urgency: number) =>
      all.flatMap(([name, type]) => (urgencyOf(Uint8Array.of(type)) === urgency ? [name] : [])).toSorted();
    expect(by(0)).toEqual(
      ["compactAck", "compactHello", "compactRefuse", "compactUnreadable"].concat([
        "custodyAck",
        "custodyRefuse",
        "hello",
        "helloWanted",
      ]),
    );
    expect(by(4)).toEqual(
      ["memberBuckets", "memberDigest", "memberFacts", "memberQuery", "memberSync"].concat([
        "revocationDigest",
        "routeDigest",
      ]),
    );
    expect(by(3)).toEqual([]);
  });
});
