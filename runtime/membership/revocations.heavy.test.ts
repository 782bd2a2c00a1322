/** Revocations in a flood. */
import { describe, expect, test } from "bun:test";
import { encodeRevocation } from "../identity/record.ts";
import {
  encodeRevocationDigest,
  encodeRevocationFrame,
  encodeRevocationList,
} from "../wire/revocation-messages.ts";
import { FrameType } from "../wire/constants.ts";
import { authority, type TestNode, Pair, idOf, revocationOf } from "./testing-revocations.ts";

describe("the record book", () => {
  test("a flood of digests and lists does not sort all revocations for each frame", async () => {
    const pair = await Pair.of([authority.id, authority.id], () => true);
    const [holder, stranger] = pair.nodes as [TestNode, TestNode];
    for (let n = 0; n < 2_000; n++) holder.records.offer(revocationOf(n));
    pair.connect();
    pair.frames = [];
    const digest = encodeRevocationDigest({ count: 1, digest: new Uint8Array(8) });
    const list = encodeRevocationList({ first: "00".repeat(8), last: "ff".repeat(8), names: [] });
    const before = process.cpuUsage();
    for (let n = 0; n < 2_000; n++) {
      holder.spread.onFrame(stranger.id, digest[0]!, digest);
      holder.spread.onFrame(stranger.id, list[0]!, list);
    }
    const { user, system } = process.cpuUsage(before);
    // One sorting takes some 10 ms.
    expect((user + system) / 1_000).toBeLessThan(2_000);
  });

  test("forged revocations of strangers at one address do not keep a neighbour elsewhere from telling of a stolen node", async () => {
    const pair = await Pair.of([authority.id, authority.id]);
    const [holder] = pair.nodes as [TestNode, TestNode];
    const [liar, honest] = [idOf(80_001), idOf(80_002)];
    for (const id of [liar, honest]) holder.spread.onNeighbourUp(id);
    const forged = encodeRevocation(authority, idOf(1), "another", "lost");
    for (let n = 0; n < 3_000; n++)
      holder.spread.onFrame(liar, FrameType.revocation, encodeRevocationFrame(forged));
    holder.spread.onFrame(honest, FrameType.revocation, encodeRevocationFrame(revocationOf(2)));
    expect(pair.counts[0]).toBe(1);
  });
});
