/** Every check of engines and heal actions is shown one that breaks it, and none objects to one that is as it should be. */
import { describe, expect, test } from "bun:test";
import type { EngineGuarantee } from "../src/index.ts";
import { type EngineFault, type HealFault, memoryEngine, pruneAction } from "./broken-offers.ts";
import { engineChecks, type EngineSetup, healActionChecks, type HealActionSetup } from "./index.ts";
import { verdict } from "./broken-verdict.ts";

const engine = (guarantee: EngineGuarantee, fault?: EngineFault) => (): EngineSetup => ({
  plugin: memoryEngine(guarantee, fault),
  config: {},
});
const action = (fault?: HealFault) => (): HealActionSetup => ({
  plugin: pruneAction(fault),
  config: {},
  action: "prune",
  async trouble(host) {
    for (const key of ["a", "b", "c"]) await host.storage.set(key, new Uint8Array(1));
  },
  isHealed: async (host) => (await host.storage.keys()).length <= 1,
});

describe("nothing is wrong with the correct ones", () => {
  for (const guarantee of ["eventual", "quorum", "strong"] as const)
    test.each(engineChecks.map(({ name }) => name))(`${guarantee}: %s`, async (name) => {
      expect(await verdict(engineChecks, name, { name: "x", setup: engine(guarantee) })).toBe("passes");
    });
  test.each(healActionChecks.map(({ name }) => name))("heal action: %s", async (name) => {
    expect(await verdict(healActionChecks, name, { name: "x", setup: action() })).toBe("passes");
  });
});

const engines: readonly (readonly [EngineFault, EngineGuarantee, name: string, says: string])[] = [
  ["boasts", "eventual", "its methods", "nothing decides who was first"],
  ["keeps-bytes", "strong", "keys are put", "changed with the caller's bytes"],
  ["lends-bytes", "strong", "keys are put", "bytes that get had handed out"],
  ["one-revision", "strong", "keys are put", "two writes have one revision"],
  ["refuses-to-delete-nothing", "eventual", "keys are put", "delete of nothing rejects"],
  ["deaf-watch", "eventual", "watch tells", "tells of a write"],
  ["watches-everything", "eventual", "watch tells", "watch told of"],
  ["watches-for-ever", "eventual", "watch tells", "still tells"],
  ["forgets-abort", "quorum", "a call that was aborted", "does not reject with the signal's reason"],
  ["cas-ignores-expected", "strong", "quorum and strong: compare", "writes where something is"],
  ["cas-over-something", "quorum", "quorum and strong: compare", "writes where something is"],
  ["leases-twice", "strong", "quorum and strong: a lease", "leased twice"],
  ["same-token", "strong", "quorum and strong: a lease", "no greater fencing token"],
];
const actions: readonly (readonly [HealFault, name: string, says: string])[] = [
  ["bad-name", "its words", 'registers no action "prune"'],
  ["plan-heals", "plan says", "the first has changed something"],
  ["plans-always", "plan says", "without any trouble it plans"],
  ["pretends", "run heals", "the trouble is still there"],
  ["silent", "run heals", "does not say what it did"],
  ["spends-nothing", "run heals", "without spending a step"],
  ["spends-for-nothing", "run heals", "nothing to do spends steps"],
  ["ignores-budget", "run stays", "ran with no step left"],
  ["forgets-abort", "a run that was aborted", "signal's reason"],
];

describe("a broken one is caught", () => {
  test.concurrent.each(engines)("engine %s, %s, by: %s", async (fault, guarantee, name, says) => {
    expect(await verdict(engineChecks, name, { name: "x", setup: engine(guarantee, fault) })).toContain(says);
  });
  test.concurrent.each(actions)("heal action %s, by: %s", async (fault, name, says) => {
    expect(await verdict(healActionChecks, name, { name: "x", setup: action(fault) })).toContain(says);
  });
});
