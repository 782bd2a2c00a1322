/** Rows of the outbox as earlier releases wrote them. */
import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { PAGE_ROWS_MAX } from "../../store/types.ts";
import { loadEntries } from "./entry-row.ts";

test("more open mail of a release that counted no running time than one page takes begins to age once, durably", async () => {
  const count = 3 * PAGE_ROWS_MAX + 10;
  const disk = new SimDisk();
  const clock = new ManualClock();
  const fixed = {
    ...{
      to: "LON-B",
      counter: 1,
      subject: "",
      contentType: "text/plain",
      priority: 1,
      size: 0,
      createdAtMs: 1,
    },
    ...{
      lifetimeMs: 1,
      failover: false,
      failoverDelayMs: 0,
      state: "queued",
      reason: null,
      deliveredAtMs: null,
    },
    ...{ receipt: null, targets: [], remainingMs: 1, atWallMs: 1 },
  };
  for (let index = 0; index < count; index++) {
    const id = index.toString(16).padStart(32, "0");
    disk.apply([{ op: "put", in: "outbox", key: id, meta: JSON.stringify({ ...fixed, id }) }]);
  }
  const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
  const load = async (): Promise<number> => {
    let loaded = 0;
    for await (const page of loadEntries({ store, time: { runMs: 77 } as never }, () => undefined))
      loaded += page.length;
    return loaded;
  };
  const loading = load();
  const done = { is: false };
  void loading.then(() => (done.is = true));
  while (!done.is) await clock.advance(1);
  expect(await loading).toBe(count);
  const undated = [...disk.rows("outbox").values()].filter(({ meta }) => !meta.includes(`"r":77`));
  expect(undated.length).toBe(0);
});
