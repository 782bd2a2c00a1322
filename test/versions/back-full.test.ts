/** A disk that is full, or fills, around a conversion to an earlier release: the store stays as it was, and the conversion goes through once there is room. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { onSmallDisk, whyNoSmallDisk } from "../../runtime/store/small-disk.ts";

test.skipIf(whyNoSmallDisk !== undefined)(
  `a disk that fills up leaves the store as it was, at whatever moment of the conversion${whyNoSmallDisk === undefined ? "" : ` (${whyNoSmallDisk})`}`,
  async () => {
    const played = await onSmallDisk(40, [join(import.meta.dir, "back-full.played.ts")]);
    const all = played["all"] as { said?: string }[];
    for (const seen of all) expect(seen).toMatchObject({ lost: [], aside: 100, rows: [1_200, 100, 100] });
    const said = all.flatMap((seen) => seen.said ?? []);
    for (const text of said)
      expect(text).toMatch(/^GODWIT_STORE_FAILED: .*(the store is as it was|the disk is full)/);
    // Some knew before they began how much is missing, some found out.
    expect(said.filter((text) => /second store.*free \d+ KiB/.test(text)).length).toBeGreaterThan(1);
    expect(said.filter((text) => text.includes("free some space, and run it again")).length).toBeGreaterThan(
      1,
    );
    expect(said.length).toBeLessThan(all.length);
  },
  120_000,
);
