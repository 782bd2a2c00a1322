/** A disk that fills before, while and after a store of an earlier release is brought to this one: it is refused as it was, or it works. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { onSmallDisk, whyNoSmallDisk } from "../../runtime/store/small-disk.ts";

/** At one size of the room that was left. */
interface Seen {
  readonly room: number;
  /** Of a store that was refused, and the schema that it has then. */
  readonly said?: string;
  readonly schema?: number;
  readonly waits?: number;
}

test.skipIf(whyNoSmallDisk !== undefined)(
  `a disk that fills up around a migration: nothing is lost, what was opened can be emptied and started, and goes on once there is room${whyNoSmallDisk === undefined ? "" : ` (${whyNoSmallDisk})`}`,
  async () => {
    const played = await onSmallDisk(24, [join(import.meta.dir, "migrating-full.played.ts")]);
    const all = played["all"] as Seen[];
    for (const seen of all) expect(seen).toMatchObject({ stuck: [], isThrough: true, lost: [] });
    const refused = all.filter(({ said }) => said !== undefined);
    for (const { said, schema } of refused) {
      // As it was for the earlier release, and told how much is missing.
      expect(schema).toBe(2);
      expect(said).toMatch(/^GODWIT_STORE_FAILED: .*the disk is full; free \d+ KiB/);
    }
    expect(refused.length).toBeGreaterThan(1);
    expect(all.length - refused.length).toBeGreaterThan(1);
    expect(all.some(({ waits }) => (waits ?? 0) > 0)).toBe(true);
  },
  120_000,
);
