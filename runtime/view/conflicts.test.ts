import { expect, test } from "bun:test";
import { Names, type NameBinding, type NameResolution } from "../identity/names.ts";
import { decodeRecord, encodeRecord } from "../identity/record.ts";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { conflictTroubles } from "./conflicts.ts";

const idOf = (n: number) => {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, n);
  return formatNodeId(bytes);
};
const [ann, bea] = [idOf(1), idOf(2)];
const seen = (conflict: NameBinding["conflict"], kind: NameResolution["kind"], count = 1) => ({
  conflicts: (max: number) => {
    const all = Array.from({ length: conflict === null ? 0 : count }, (_, n): NameBinding => {
      return { name: `DUN-${n}`, node: ann, source: "pinned", isVouched: false, isHeld: true, conflict };
    });
    return { named: all.slice(0, max), count: all.length, vacantCount: kind === "conflict" ? all.length : 0 };
  },
  resolve: (): NameResolution =>
    kind === "node"
      ? { kind, id: ann, source: "pinned", isVouched: false }
      : { kind: "conflict", ids: [bea] },
});

test("a claimed name is told and makes nobody ill, a name that nobody holds does; of many three are named", () => {
  expect(conflictTroubles(seen(null, "node"))).toEqual([]);
  const [held] = conflictTroubles(seen(bea, "node"));
  expect([held!.isNotice, held!.reason]).toEqual([true, expect.stringContaining("keeps its mail")]);
  const [vacant] = conflictTroubles(seen(bea, "conflict", 5));
  expect([vacant!.isNotice, vacant!.reason]).toEqual([false, expect.stringContaining("mail to it waits")]);
  expect(vacant!.reason).toContain("and 2 more");
});

test("what no decision here changes is not said to be settled by one: this node's own callsign, and what [names] binds", () => {
  const claimed = (name: string, source: NameBinding["source"]) => {
    const binding: NameBinding = {
      name,
      node: ann,
      source,
      isVouched: source !== "pinned",
      isHeld: true,
      conflict: bea,
    };
    const resolve = (): NameResolution => ({ kind: "node", id: ann, source, isVouched: binding.isVouched });
    const conflicts = () => ({ named: [binding], count: 1, vacantCount: 0 });
    return conflictTroubles({ conflicts, resolve }, "DUN-A")[0]!.reason;
  };
  expect(claimed("DUN-A", "configured")).toContain("change node.callsign of one of the two");
  expect(claimed("LON-B", "configured")).toContain("[names] gives it to");
  for (const name of ["DUN-A", "LON-B"]) expect(claimed(name, "configured")).not.toContain("settles it");
  expect(claimed("LON-B", "pinned")).toContain("godwit names resolve settles it");
});

test("12,000 names that strangers claimed do not make each question for health walk them", async () => {
  const clock = new ManualClock();
  const store = await openMemoryStore(new SimDisk(), { clock, random: seededRandom(1), commitDelayMs: 1 });
  const names = new Names({ store, configured: new Map() });
  await names.load();
  const claim = (n: number, name: number) => {
    const signer = { id: idOf(n), sign: () => new Uint8Array(64) };
    const callsign = `DUN-${name.toString(36).toUpperCase().padStart(4, "0")}`;
    names.observe(decodeRecord(encodeRecord(signer, { sequence: 1, callsign }, "net"), "net", () => true));
  };
  for (let n = 0; n < 12_000; n++) claim(n, n);
  for (let n = 0; n < 100; n++) claim(20_000 + n, n);
  const before = process.cpuUsage();
  for (let n = 0; n < 1_000; n++) expect(conflictTroubles(names)[0]!.reason).toContain("and 97 more");
  const { user, system } = process.cpuUsage(before);
  // A walk with its sorting takes some 10 ms, a thousand of them 10 s.
  expect((user + system) / 1_000).toBeLessThan(1_000);
});
