import { expect, test } from "bun:test";
import { loadConfig } from "../config/load.ts";
import { limitsOf } from "./settings.ts";

test("no box may hold more than a quarter of the disk, whatever was configured; large disks change nothing", async () => {
  const config = await loadConfig({
    path: undefined,
    env: { GODWIT_NODE__CALLSIGN: "DUN-A", HOME: "/nonexistent" },
  });
  const bytes = (diskBytes: number | undefined) => {
    const { outboxBytesMax, transitBytesMax, inboxBytesMax } = limitsOf(config, diskBytes);
    return [outboxBytesMax, transitBytesMax, inboxBytesMax].map((each) => each / 2 ** 20);
  };
  expect(bytes(24 * 2 ** 20)).toEqual([6, 6, 6]);
  expect(bytes(64 * 2 ** 30)).toEqual([1024, 1024, 256]);
  expect(bytes(undefined)).toEqual([1024, 1024, 256]);
});
