/** Settings that an operator changes while the node runs: each part that uses one has it at once, for the links that there are as well. */
import { expect, test } from "bun:test";
import { generateIdentity } from "../identity/keys.ts";
import { encodeRecord } from "../identity/record.ts";
import { ManualClock } from "../kernel/clock.ts";
import type { MeshSettings } from "./deps.ts";
import { Mesh } from "./mesh.ts";
import { depsFor, neighbour, settled } from "./testing.ts";

/** A mesh with one neighbour, whose record says what it is called and where it is. */
async function linked() {
  const clock = new ManualClock();
  const made = await depsFor(clock, 1, { linksWanted: 0 });
  const mesh = await settled(clock, Mesh.open(made.deps));
  mesh.start();
  const far = generateIdentity(made.random);
  const link = neighbour(clock, mesh, made.identity.id, far);
  const fields = { sequence: 1, callsign: "LON-B", location: "LON", capabilities: [] };
  const endpoints = ["tcp://10.0.0.2:4860"];
  mesh.records.offer(
    encodeRecord(far, { ...fields, endpoints, prekey: undefined, nameProof: undefined }, "test"),
  );
  const configure = (settings: Partial<MeshSettings>) => mesh.configure({ ...made.deps, ...settings });
  return { ...made, clock, mesh, far, link, configure };
}

type World = Awaited<ReturnType<typeof linked>>;
const targetsOf = ({ mesh, far }: World) => mesh.dialer.targets.filter(({ nodeId }) => nodeId === far.id);

/** What the manager makes of it: trust/manager.test.ts. */
async function toManager(settings: Partial<MeshSettings>): Promise<void> {
  const { mesh, configure } = await linked();
  const told: unknown[] = [];
  mesh.manager.configure = (all) => void told.push(all);
  configure(settings);
  expect(told).toEqual([expect.objectContaining(settings)]);
}

/** One check for each setting; the limits of mail have theirs in custody/limits.test.ts, and here that they get there. */
const seen: Readonly<Record<keyof MeshSettings, () => Promise<void>>> = {
  async limits() {
    const { mesh, configure, deps } = await linked();
    const countMax = () => mesh.custody.fills.map((fill) => fill.countMax);
    configure({ limits: { ...deps.limits, inboxMessagesMax: 7, outboxMessagesMax: 8 } });
    expect(countMax()).toEqual([7, 8]);
    // Nobody else's object was written to.
    expect(deps.limits.inboxMessagesMax).not.toBe(7);
  },
  async names() {
    const world = await linked();
    const { mesh, configure, far, random } = world;
    const { id: other } = generateIdentity(random);
    const held = () => {
      const found = mesh.names.resolve("LON-B");
      return found.kind === "node" ? [found.id, found.source] : [found.kind];
    };
    expect(held()).toEqual([far.id, "pinned"]);
    configure({ names: new Map([["LON-B", other]]) });
    expect(held()).toEqual([other, "configured"]);
    expect([mesh.names.isConfigured(other), mesh.acquaintances.isKnown(other)]).toEqual([true, true]);
    // Whoever claims it beside is shown, as from a start.
    expect(mesh.names.conflicts(4)).toMatchObject({ named: [{ name: "LON-B", conflict: far.id }], count: 1 });
    expect(mesh.names.machinesAt("LON")).toEqual([other]);
    configure({ names: new Map() });
    expect(held()).toEqual([far.id, "pinned"]);
    expect([mesh.names.conflicts(4).count, mesh.acquaintances.isKnown(other)]).toEqual([0, false]);
    configure({ names: new Map([["DUN-A", other]]) });
    configure({ names: new Map() });
    expect([mesh.names.resolve("DUN-A").kind, mesh.names.machinesAt("DUN")]).toEqual(["unknown", []]);
  },
  async trust() {
    const world = await linked();
    const { mesh, configure, far, link, heard } = world;
    configure({ trust: new Map([[far.id, "trusted"]]) });
    expect(mesh.book.hasRights(far.id)).toBe(true);
    expect(mesh.hints.pinnedBy("book", far.id)).toEqual(["tcp://10.0.0.2:4860"]);
    expect(heard).toContain("trustChanged");
    heard.length = 0;
    configure({ trust: new Map([[far.id, "trusted"]]) });
    expect(heard).toEqual([]);
    configure({ trust: new Map() });
    expect([mesh.book.trustOf(far.id), mesh.book.hasRights(far.id)]).toEqual(["member", false]);
    expect(mesh.hints.pinnedBy("book", far.id)).toEqual([]);
    expect(targetsOf(world)).toHaveLength(1);
    expect([mesh.peers.count, link.isClosed]).toEqual([1, false]);
    configure({ trust: new Map([[far.id, "blocked"]]) });
    expect([mesh.isRefused(far.id), link.isClosed]).toEqual([true, true]);
    expect(targetsOf(world)).toEqual([]);
    expect(mesh.names.resolve("LON-B").kind).toBe("unknown");
    configure({ trust: new Map() });
    expect(mesh.isRefused(far.id)).toBe(false);
    expect(mesh.names.resolve("LON-B").kind).toBe("node");
  },
  async trustRules() {
    const { clock, mesh, configure, far, link } = await linked();
    const rule = { callsigns: [], transports: ["tcp"], networks: ["10.0.0.0/8"] };
    configure({ trustRules: [{ ...rule, level: "trusted" }] });
    expect(mesh.book.standing(far.id)).toMatchObject({ level: "trusted", by: "rule" });
    configure({ trustRules: [{ ...rule, level: "blocked" }] });
    expect([mesh.isRefused(far.id), link.isClosed]).toEqual([true, true]);
    await clock.advance(1);
    expect(mesh.peers.count).toBe(0);
    // It outlives its link, and other settings, and not its rule.
    configure({ trustRules: [{ ...rule, level: "blocked" }], hopCostMs: 50 });
    expect(mesh.isRefused(far.id)).toBe(true);
    configure({ trustRules: [] });
    expect(mesh.isRefused(far.id)).toBe(false);
  },
  promoteAfterMs: () => toManager({ promoteAfterMs: 1_000 }),
  promoteOnionsAfterMs: () => toManager({ promoteOnionsAfterMs: 1_000 }),
  reviewMs: () => toManager({ reviewMs: 1_000 }),
  linksWanted: () => toManager({ linksWanted: 3 }),
  async dialNetworks() {
    const { mesh, configure } = await linked();
    const refusal = () => mesh.places.refusalOf("10.9.9.9", [{ by: "member" }])?.reason;
    expect(refusal()).toBe("private");
    configure({ dialNetworks: ["10.0.0.0/8"] });
    expect(refusal()).toBeUndefined();
    configure({ dialNetworks: [] });
    expect(refusal()).toBe("private");
  },
  async hopCostMs() {
    const { mesh, configure, far } = await linked();
    const told: number[] = [];
    mesh.router.neighbourCost = (id, { cost }) => void (id === far.id && told.push(cost));
    configure({ hopCostMs: 50 });
    configure({ hopCostMs: 50 });
    configure({ hopCostMs: 0 });
    expect(told).toHaveLength(2);
    expect(told[0]! - told[1]!).toBeGreaterThanOrEqual(500);
  },
  async destinationsMax() {
    const { mesh, configure } = await linked();
    // What the router makes of it: route/router.test.ts.
    const told: number[] = [];
    mesh.router.setDestinationsMax = (count) => void told.push(count);
    configure({ destinationsMax: 17 });
    expect(told).toEqual([17]);
  },
};

for (const [name, check] of Object.entries(seen)) test(`a change of ${name} is in force at once`, check);

test("settings that are the same as before change nothing, and tell nobody", async () => {
  const { mesh, configure, heard, link } = await linked();
  heard.length = 0;
  configure({});
  expect([heard, link.isClosed, mesh.peers.count]).toEqual([[], false, 1]);
});
