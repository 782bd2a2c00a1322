import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../kernel/clock.ts";
import { GodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { openMemoryStore, SimDisk, type MemoryStore } from "../store/memory.ts";
import { generateIdentity, verifySignature } from "./keys.ts";
import { CLAIMANTS_MAX, formatAddress, Names, parseAddress, type NamesOptions } from "./names.ts";
import { decodeRecord, encodeRecord, encodeRevocation, signName, type NodeRecord } from "./record.ts";

const NETWORK = "telex";
const nodes = Array.from({ length: 8 }, (_, i) => generateIdentity(seededRandom(i + 1)));
const [ann, bea, cat, dan] = nodes as [
  (typeof nodes)[0],
  (typeof nodes)[0],
  (typeof nodes)[0],
  (typeof nodes)[0],
];
const authority = generateIdentity(seededRandom(99));
let sequence = 0;
const record = (who: (typeof nodes)[0], callsign?: string, serial?: number): NodeRecord => {
  const nameProof =
    serial === undefined
      ? undefined
      : signName(authority, { callsign: callsign!, id: who.id, serial }, NETWORK);
  const bytes = encodeRecord(who, { sequence: ++sequence, callsign, nameProof }, NETWORK);
  return decodeRecord(bytes, NETWORK, verifySignature);
};

interface World {
  readonly names: Names;
  readonly conflicts: string[];
  readonly changes: { count: number };
  readonly disk: SimDisk;
  readonly store: MemoryStore;
  readonly clock: ManualClock;
}

async function world(options: Partial<NamesOptions> = {}, disk = new SimDisk()): Promise<World> {
  const clock = new ManualClock();
  const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 1 });
  const conflicts: string[] = [];
  const changes = { count: 0 };
  const names = new Names({
    store,
    configured: new Map(),
    onConflict: (name, holder, claimant) => conflicts.push(`${name} ${who(holder)} ${who(claimant)}`),
    onChange: () => changes.count++,
    ...options,
  });
  await names.load();
  return { names, conflicts, changes, disk, store, clock };
}

async function settled(clock: ManualClock, durable: Promise<void>): Promise<void> {
  await clock.advance(5);
  await durable;
}

const who = (id: NodeId): string => "abcdefgh"[nodes.findIndex((node) => node.id === id)]!;

async function restart({ store, clock, disk }: World, options: Partial<NamesOptions> = {}): Promise<World> {
  const closing = store.close();
  await clock.advance(10);
  await closing;
  return await world(options, disk);
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => "resolved",
    (error: unknown) => (error instanceof GodwitError ? error.code : String(error)),
  );
}

describe("names pinned at first sight", () => {
  test("the first claimant holds the name, over restarts too", async () => {
    const first = await world();
    expect(first.names.resolve("DUN-A")).toEqual({ kind: "unknown" });
    first.names.observe(record(ann, "DUN-A"));
    first.names.observe(record(ann, "DUN-A"));
    expect(first.names.resolve("dun-a")).toMatchObject({
      kind: "node",
      id: ann.id,
      source: "pinned",
      isVouched: false,
    });
    expect(first.changes.count).toBe(1);
    const { names, conflicts } = await restart(first);
    expect(names.resolve("DUN-A")).toMatchObject({
      kind: "node",
      id: ann.id,
      source: "pinned",
      isVouched: false,
    });
    expect(names.list()).toEqual([
      { name: "DUN-A", node: ann.id, source: "pinned", isVouched: false, isHeld: true, conflict: null },
    ]);
    expect(conflicts).toEqual([]);
  });

  test("what a later release wrote in the row of a name is there when the row is written again", async () => {
    const first = await world();
    const { disk } = first;
    first.names.observe(record(ann, "DUN-A"));
    await first.clock.advance(5);
    const meta = disk.rows("name").get("DUN-A")!.meta;
    disk.apply([
      {
        op: "put",
        in: "name",
        key: "DUN-A",
        meta: JSON.stringify({ ...JSON.parse(meta), later: { of: [1, 2] } }),
      },
    ]);
    const restarted = await restart(first);
    restarted.names.observe(record(bea, "DUN-A"));
    await restarted.clock.advance(5);
    const row = JSON.parse(disk.rows("name").get("DUN-A")!.meta) as Record<string, unknown>;
    expect([row["later"], row["claimants"]]).toEqual([{ of: [1, 2] }, [ann.id, bea.id]]);
  });

  test("a second claimant is one conflict event, the holder keeps the name, and a restart remembers", async () => {
    const first = await world();
    first.names.observe(record(ann, "DUN-A"));
    first.names.observe(record(bea, "DUN-A"));
    first.names.observe(record(bea, "DUN-A"));
    expect(first.conflicts).toEqual(["DUN-A a b"]);
    expect(first.names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    const { names, conflicts } = await restart(first);
    names.observe(record(bea, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    expect(names.list()).toEqual([
      { name: "DUN-A", node: ann.id, source: "pinned", isVouched: false, isHeld: true, conflict: bea.id },
    ]);
    expect(conflicts).toEqual([]);
  });

  test("a conflict ends when the claimant gives the name up; what the holder gives up goes to no other key by itself", async () => {
    const { names } = await world();
    names.observe(record(ann, "DUN-A"));
    names.observe(record(bea, "DUN-A"));
    names.observe(record(bea, "DUN-B"));
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    expect(names.resolve("DUN-B")).toMatchObject({ kind: "node", id: bea.id });
    names.observe(record(cat, "DUN-A"));
    names.observe(record(ann));
    expect(names.resolve("DUN-A")).toEqual({ kind: "conflict", ids: [cat.id] });
    expect(names.list()[0]).toEqual({
      name: "DUN-A",
      node: ann.id,
      source: "pinned",
      isVouched: false,
      isHeld: false,
      conflict: cat.id,
    });
    names.observe(record(ann, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    names.observe(record(ann));
    names.observe(record(cat));
    names.observe(record(dan, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: dan.id });
  });

  test("a record that gave its place to others takes its pin along, and hands it to nobody who waits for it", async () => {
    const first = await world();
    first.names.observe(record(ann, "DUN-A"));
    first.names.observe(record(bea, "DUN-A"));
    first.names.drop(bea.id);
    expect(first.names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    first.names.observe(record(bea, "DUN-A"));
    first.names.drop(ann.id);
    expect(first.names.resolve("DUN-A")).toEqual({ kind: "unknown" });
    first.names.observe(record(cat, "DUN-C"));
    first.names.retain((id) => id !== cat.id);
    const { names } = await restart(first);
    expect(names.list()).toEqual([]);
  });

  test("who claims this node's own name is told of here as well", async () => {
    const { names, conflicts } = await world({ own: { name: "DUN-A", id: ann.id } });
    expect(names.list()).toEqual([]);
    names.observe(record(bea, "DUN-A"));
    expect(conflicts).toEqual(["DUN-A a b"]);
    expect(names.list()).toEqual([
      { name: "DUN-A", node: ann.id, source: "configured", isVouched: true, isHeld: true, conflict: bea.id },
    ]);
    // Nobody's decision here reaches the nodes that know both: it said "nobody claims" of a name that the list shows.
    for (const decide of [() => names.resolveConflict("DUN-A", bea.id), () => names.forgetPin("dun-a")])
      await expect(decide()).rejects.toMatchObject({
        code: "GODWIT_NAME_CONFLICT",
        message: expect.stringContaining("change node.callsign of one of the two") as unknown,
      });
    names.observe(record(bea, "DUN-B"));
    expect(names.list().map(({ name }) => name)).toEqual(["DUN-B"]);
  });

  test("the list tells a name that the operator decided from one that was only pinned", async () => {
    const { names, clock } = await world();
    names.observe(record(ann, "DUN-A"));
    expect(names.list()).toMatchObject([{ source: "pinned", isVouched: false }]);
    await settled(clock, names.resolveConflict("DUN-A", ann.id));
    expect(names.list()).toMatchObject([{ source: "pinned", isVouched: true }]);
  });

  test("changing the callsign frees the old name", async () => {
    const first = await world();
    first.names.observe(record(ann, "DUN-A"));
    first.names.observe(record(ann, "LON-A"));
    expect(first.names.resolve("DUN-A")).toEqual({ kind: "unknown" });
    const { names, conflicts } = await restart(first);
    names.observe(record(bea, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({ id: bea.id });
    expect(names.list().map((row) => row.name)).toEqual(["DUN-A", "LON-A"]);
    expect(conflicts).toEqual([]);
  });

  test("revoked and blocked nodes have no names", async () => {
    const { names } = await world();
    names.observe(record(ann, "DUN-A"));
    names.observe(record(bea, "DUN-A"));
    names.observe(decodeRecord(encodeRevocation(ann, ann.id, NETWORK), NETWORK, verifySignature));
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "conflict" });
    names.forget(bea.id);
    names.forget(cat.id);
    expect(names.resolve("DUN-A")).toEqual({ kind: "unknown" });
    expect(names.machinesAt("DUN")).toEqual([]);
  });

  test("the operator's decision is durable, silences other claimants, and ends with the holder's own change", async () => {
    const first = await world();
    first.names.observe(record(ann, "DUN-A"));
    first.names.observe(record(bea, "DUN-A"));
    const deciding = first.names.resolveConflict("dun-a", bea.id);
    expect(first.names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    await first.clock.advance(5);
    await deciding;
    expect(first.names.resolve("DUN-A")).toMatchObject({ kind: "node", id: bea.id });
    const { names, conflicts } = await restart(first);
    names.observe(record(ann, "DUN-A"));
    names.observe(record(cat, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: bea.id });
    expect(conflicts).toEqual([]);
    names.observe(record(bea));
    names.observe(record(ann, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({ id: ann.id });
  });

  test("a decision that cannot be kept is refused and changes nothing; unknown names are told", async () => {
    const { names, disk, clock } = await world();
    names.observe(record(ann, "DUN-A"));
    names.observe(record(bea, "DUN-A"));
    await clock.advance(5);
    disk.fail("full");
    const refused = codeOf(names.resolveConflict("DUN-A", bea.id));
    await clock.advance(5);
    expect(await refused).toBe("GODWIT_STORE_FAILED");
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    expect(await codeOf(names.resolveConflict("DUN-X", bea.id))).toBe("GODWIT_NAME_UNKNOWN");
    expect(await codeOf(names.resolveConflict("rubbish", bea.id))).toBe("GODWIT_NAME_UNKNOWN");
  });

  test("a pin that found the disk full is written with the next", async () => {
    const first = await world();
    first.disk.fail("full");
    first.names.observe(record(ann, "DUN-A"));
    await first.clock.advance(5);
    first.disk.fail(undefined);
    first.names.observe(record(bea, "DUN-B"));
    const { names } = await restart(first);
    expect(names.list().map((row) => row.name)).toEqual(["DUN-A", "DUN-B"]);
  });

  test("bounds: names, and claimants of one", async () => {
    const { names, conflicts } = await world({ namesMax: 2 });
    names.observe(record(ann, "DUN-A"));
    names.observe(record(bea, "DUN-B"));
    names.observe(record(cat, "DUN-C"));
    expect(names.resolve("DUN-C")).toEqual({ kind: "unknown" });
    for (const node of nodes.slice(2)) names.observe(record(node, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
    expect(conflicts.length).toBe(CLAIMANTS_MAX - 1);
    names.observe(record(bea));
    names.observe(record(nodes[7]!, "DUN-C"));
    expect(names.resolve("DUN-C")).toMatchObject({ id: nodes[7]!.id });
  });

  test("rows of the store that nobody can read are skipped", async () => {
    const disk = new SimDisk();
    const good = JSON.stringify({ claimants: [ann.id], source: "pinned", settled: false, serial: 0 });
    for (const [key, meta] of [
      ["DUN-A", good],
      ["dun-b", good],
      ["DUN-C", "{"],
      ["DUN-D", "null"],
      ["DUN-E", '{"claimants":["x"]}'],
      ["DUN-F", '{"claimants":7}'],
    ] as const)
      disk.apply([{ op: "put", in: "name", key, meta }]);
    const { names } = await world({}, disk);
    expect(names.list().map((row) => row.name)).toEqual(["DUN-A"]);
  });

  test("against a slow reference: claims in any order give the reference's answer, restarts included", async () => {
    const callsigns = ["DUN-A", "DUN-B", "LON-A", undefined] as const;
    const step = fc.record({ node: fc.nat(3), callsign: fc.nat(3), isRestart: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        let current = await world();
        // Claims in the order in which they began; one a node.
        let claims: { node: number; name: string }[] = [];
        // Names that somebody held and gave up while others claimed them.
        const vacant = new Map<string, number>();
        for (const { node, callsign, isRestart } of steps) {
          const name = callsigns[callsign];
          current.names.observe(record(nodes[node]!, name));
          if (claims.find((claim) => claim.node === node)?.name !== name) {
            const before = claims.find((claim) => claim.node === node)?.name;
            const held =
              before === undefined || vacant.has(before)
                ? undefined
                : claims.find((claim) => claim.name === before);
            claims = claims.filter((claim) => claim.node !== node);
            if (before !== undefined && held?.node === node) vacant.set(before, node);
            if (before !== undefined && !claims.some((claim) => claim.name === before)) vacant.delete(before);
            const isBack = name !== undefined && vacant.get(name) === node;
            if (isBack) vacant.delete(name);
            if (name !== undefined)
              claims = isBack ? [{ node, name }, ...claims] : [...claims, { node, name }];
          }
          if (isRestart) current = await restart(current);
          for (const asked of ["DUN-A", "DUN-B", "LON-A"]) {
            const ids = claims.filter((claim) => claim.name === asked).map((claim) => nodes[claim.node]!.id);
            const expected =
              ids.length === 0
                ? { kind: "unknown" }
                : vacant.has(asked)
                  ? { kind: "conflict", ids }
                  : { kind: "node", id: ids[0] };
            expect(current.names.resolve(asked)).toMatchObject(expected);
          }
          const atDun = ["DUN-A", "DUN-B"].flatMap((asked) => {
            const found = claims.filter((claim) => claim.name === asked);
            return found.length > 0 && !vacant.has(asked) ? [nodes[found[0]!.node]!.id] : [];
          });
          expect(current.names.machinesAt("DUN")).toEqual(atDun);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe("the machines of a location", () => {
  test("that somebody vouches for do not share its mail with whoever claims a name there", async () => {
    const { names, clock } = await world({ configured: new Map([["DUN-B", bea.id]]) });
    names.observe(record(ann, "DUN-A"));
    names.observe(record(cat, "LON-A"));
    names.observe(record(dan, "LON-B"));
    expect(names.machinesAt("DUN")).toEqual([bea.id]);
    // The operator's trust is a word about a node at the place where it says it is.
    expect(names.machinesAt("DUN", (id) => id === ann.id)).toEqual([ann.id, bea.id]);
    // Where nobody said anything, pins are all that there is.
    expect(names.machinesAt("LON")).toEqual([cat.id, dan.id]);
    await settled(clock, names.resolveConflict("LON-B", dan.id));
    expect(names.machinesAt("LON")).toEqual([dan.id]);
  });
});

describe("conflicts", () => {
  test("are told without a walk over all names, those over which mail waits first, as long as they last", async () => {
    const configured = new Map([["PAR-A", ann.id]]);
    const { names, clock } = await world({ configured });
    const named = (max = 9) =>
      names.conflicts(max).named.map(({ name, conflict }) => `${name} ${who(conflict!)}`);
    for (const [node, name] of [
      [ann, "DUN-A"],
      [bea, "LON-A"],
      [cat, "DUN-A"],
      [dan, "PAR-A"],
    ] as const)
      names.observe(record(node, name));
    expect(named()).toEqual(["PAR-A d", "DUN-A c"]);
    expect(names.conflicts(1)).toMatchObject({ count: 2, vacantCount: 0, named: [{ name: "PAR-A" }] });
    expect(
      names
        .list()
        .filter(({ conflict }) => conflict !== null)
        .map(({ name }) => name),
    ).toEqual(["DUN-A", "PAR-A"]);
    // Its holder gives it up.
    names.observe(record(ann, "NYC-A"));
    expect(named()).toEqual(["DUN-A c", "PAR-A d"]);
    expect(names.conflicts(3)).toMatchObject({ count: 2, vacantCount: 1 });
    await settled(clock, names.resolveConflict("DUN-A", cat.id));
    expect(names.conflicts(3)).toMatchObject({ count: 1, vacantCount: 0 });
    names.observe(record(dan, "LON-A"));
    expect(named()).toEqual(["PAR-A d", "LON-A d"].slice(1));
    await settled(clock, names.forgetPin("LON-A"));
    expect(names.conflicts(3)).toEqual({ named: [], count: 0, vacantCount: 0 });
  });
});

describe("names of the configuration", () => {
  const configured = new Map([["DUN-A", ann.id]]);

  test("hold without any record; a claimant is told and changes nothing", async () => {
    const { names, conflicts } = await world({ configured });
    expect(names.resolve("DUN-A")).toEqual({
      kind: "node",
      id: ann.id,
      source: "configured",
      isVouched: true,
    });
    expect(names.machinesAt("dun")).toEqual([ann.id]);
    names.observe(record(bea, "DUN-A"));
    names.observe(record(bea, "DUN-A"));
    names.observe(record(ann, "DUN-A"));
    expect(conflicts).toEqual(["DUN-A a b"]);
    expect(names.resolve("DUN-A")).toMatchObject({ id: ann.id });
    expect(names.list()).toEqual([
      { name: "DUN-A", node: ann.id, source: "configured", isVouched: true, isHeld: true, conflict: bea.id },
    ]);
    expect(await codeOf(names.resolveConflict("DUN-A", bea.id))).toBe("GODWIT_NAME_CONFLICT");
  });

  test("outrank a pin of earlier, which counts again when the line goes", async () => {
    const first = await world();
    first.names.observe(record(bea, "DUN-A"));
    const second = await restart(first, { configured });
    expect(second.names.resolve("DUN-A")).toMatchObject({ id: ann.id, source: "configured" });
    expect(second.names.list().length).toBe(1);
    second.names.observe(record(bea, "DUN-B"));
    expect(second.names.machinesAt("DUN")).toEqual([ann.id]);
  });
});

describe("names of an authority", () => {
  const byAuthority = { authority: { id: authority.id, network: NETWORK, verify: verifySignature } };

  test("only what it signed counts, and what was pinned before does not", async () => {
    const first = await world();
    first.names.observe(record(cat, "DUN-C"));
    const { names, conflicts } = await restart(first, byAuthority);
    names.observe(record(ann, "DUN-A"));
    names.observe(record(cat, "DUN-C"));
    expect(names.list()).toEqual([]);
    names.observe(record(bea, "DUN-A", 1));
    names.observe(record(ann, "DUN-A"));
    expect(names.resolve("DUN-A")).toMatchObject({
      kind: "node",
      id: bea.id,
      source: "authority",
      isVouched: true,
    });
    expect(conflicts).toEqual([]);
  });

  test("the higher serial moves a name, an older proof never does, equal ones are a conflict", async () => {
    const first = await world(byAuthority);
    first.names.observe(record(ann, "DUN-A", 1));
    first.names.observe(record(bea, "DUN-A", 2));
    first.names.observe(record(ann, "DUN-A", 1));
    expect(first.names.resolve("DUN-A")).toMatchObject({ id: bea.id });
    first.names.observe(record(bea));
    const { names, conflicts } = await restart(first, byAuthority);
    names.observe(record(ann, "DUN-A", 1));
    expect(names.resolve("DUN-A")).toEqual({ kind: "unknown" });
    names.observe(record(bea, "DUN-A", 2));
    names.observe(record(dan, "DUN-A", 2));
    expect(names.resolve("DUN-A")).toEqual({ kind: "conflict", ids: [bea.id, dan.id] });
    expect(conflicts).toEqual(["DUN-A b d"]);
    names.observe(record(dan, "DUN-A", 3));
    expect(names.resolve("DUN-A")).toMatchObject({ id: dan.id });
  });
});

describe("addresses", () => {
  test("who writes to the short id of a table is told where the whole one is", () => {
    expect(() => parseAddress("u5pcee5qvw")).toThrow("godwit members --json");
    expect(() => parseAddress("not an id")).not.toThrow("godwit members --json");
  });

  test("ids, callsigns and locations in any case, canonical text", () => {
    const cases: [string, string, string][] = [
      [ann.id.toUpperCase(), "node", ann.id],
      ["dun-a", "machine", "DUN-A"],
      ["ABCDEFGH-12345678", "machine", "ABCDEFGH-12345678"],
      ["dun", "location", "DUN"],
      ["42", "location", "42"],
    ];
    for (const [text, kind, canonical] of cases) {
      const address = parseAddress(text);
      expect([address.kind, formatAddress(address)]).toEqual([kind, canonical] as never);
      expect(parseAddress(formatAddress(address))).toEqual(address);
    }
  });

  test("anything else is GODWIT_ADDRESS_INVALID", () => {
    const bad = ["", "D", "DUN-", "-A", "DUN-A-B", "DUN A", "TOOLONGLOC", "DUN-123456789", "DÜN", "DUN-A\n"];
    for (const text of [...bad, `${ann.id.slice(0, -1)}1`, `${ann.id}a`, " DUN"])
      expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: "GODWIT_ADDRESS_INVALID" }));
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        try {
          const address = parseAddress(text);
          expect(parseAddress(formatAddress(address))).toEqual(address);
        } catch (error) {
          expect(error).toMatchObject({ code: "GODWIT_ADDRESS_INVALID" });
        }
      }),
    );
  });
});

describe("forgetting a pin", () => {
  test("frees the name for the next claim, conflict or not, durably", async () => {
    const first = await world();
    first.names.observe(record(ann, "DUN-A"));
    first.names.observe(record(bea, "DUN-A"));
    const forgetting = first.names.forgetPin("dun-a");
    await first.clock.advance(10);
    await forgetting;
    expect(first.names.resolve("DUN-A")).toEqual({ kind: "unknown" });
    expect(first.names.machinesAt("DUN")).toEqual([]);
    const second = await restart(first);
    expect(second.names.list()).toEqual([]);
    second.names.observe(record(bea, "DUN-A"));
    expect(second.names.resolve("DUN-A")).toMatchObject({
      kind: "node",
      id: bea.id,
      source: "pinned",
      isVouched: false,
    });
  });

  test("is not for names that the configuration or the authority binds, nor for unknown ones", async () => {
    const { names } = await world({
      configured: new Map([["DUN-C", cat.id]]),
      authority: { id: authority.id, network: NETWORK, verify: verifySignature },
    });
    names.observe(record(ann, "DUN-A", 1));
    for (const name of ["DUN-A", "DUN-C"])
      await expect(names.forgetPin(name)).rejects.toMatchObject({ code: "GODWIT_NAME_CONFLICT" });
    await expect(names.forgetPin("DUN-X")).rejects.toMatchObject({ code: "GODWIT_NAME_UNKNOWN" });
    expect(names.resolve("DUN-A")).toMatchObject({ kind: "node", id: ann.id });
  });
});
