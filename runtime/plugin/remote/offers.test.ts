/** Both sides of engines and heal actions over frames, over a channel in memory. */
import { describe, expect, test } from "bun:test";
import type { Engine, EngineEntry, EngineLease, HealAction } from "@godwit/sdk";
import { Scope } from "../../kernel/scope.ts";
import { decodeParts, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import { createOffers } from "../guest/offers.ts";
import type { ContextParts } from "../guest/parts.ts";
import { RemoteOffers } from "./offers.ts";
import type { RemoteContext } from "./parts.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const never = new AbortController().signal;

/** What crosses is frames; nothing waits for a turn that a test would have to give. */
function rig() {
  const engines: Engine[] = [];
  const actions: HealAction[] = [];
  const bed = new FrameBed(true);
  const remote = new RemoteOffers({
    calls: bed.node.calls,
    ctx: {
      engine: { register: (engine: Engine) => void engines.push(engine) },
      heal: { register: (action: HealAction) => void actions.push(action) },
    } as unknown as RemoteContext,
  });
  bed.onOther = (end, type, _id, body) => {
    if (end !== "node" || type !== PluginFrame.event) return;
    const { json, bytes: tail } = decodeParts(body);
    remote.onChange(json, tail);
  };
  const guest = createOffers({ ...bed.plugin, scope: new Scope("test") } as unknown as ContextParts);
  return { guest, engines, actions };
}

/** One key, one holder at a time. */
function quorum() {
  const log: string[] = [];
  const watchers = new Set<(key: string, entry: EngineEntry | undefined) => void>();
  let holder = 0n;
  let isHeld = false;
  const take = (): EngineLease | undefined => {
    if (isHeld) return undefined;
    isHeld = true;
    const fencingToken = ++holder;
    return {
      fencingToken,
      renew: async () => fencingToken === holder && isHeld,
      release: async () => void (isHeld = false),
    };
  };
  let entry: EngineEntry | undefined;
  const write = (value: Uint8Array): EngineEntry => {
    entry = { value: value.slice(), revision: String(Number(entry?.revision ?? 0) + 1) };
    for (const tell of watchers) tell("k", entry);
    return entry;
  };
  const engine: Engine = {
    guarantee: "quorum",
    get: async () => entry,
    put: async (_key, value) => write(value),
    delete: async () => {
      entry = undefined;
      for (const tell of watchers) tell("k", undefined);
    },
    cas: async (_key, expected, value) => (expected === entry?.revision ? write(value) : undefined),
    watch(prefix, onChange) {
      log.push(`watch ${prefix}`);
      watchers.add(onChange);
      return () => {
        log.push("unwatch");
        watchers.delete(onChange);
      };
    },
    lease: async () => take(),
    campaign: async (name, _ttlMs, signal) => {
      if (name !== "waits") return take()!;
      return await new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => {
          log.push("given up");
          reject(signal.reason as Error);
        }),
      );
    },
  };
  return { engine, log };
}

describe("an engine outside of the node's thread", () => {
  test("keys, compare and set, watches", async () => {
    const { guest, engines } = rig();
    const { engine, log } = quorum();
    guest.engine.register(engine);
    const [far] = engines;
    expect([far!.guarantee, await far!.get("k", never)]).toEqual(["quorum", undefined]);
    const seen: (string | undefined)[] = [];
    const off = far!.watch("k", (key, entry) => seen.push(`${key} ${entry?.revision}`));
    expect(await far!.put("k", bytes("é"), never)).toEqual({ value: bytes("é"), revision: "1" });
    expect(await far!.cas!("k", "7", bytes("b"), never)).toBeUndefined();
    expect(await far!.cas!("k", "1", bytes("b"), never)).toEqual({ value: bytes("b"), revision: "2" });
    await far!.delete("k", never);
    expect(await far!.cas!("k", undefined, bytes("c"), never)).toMatchObject({ revision: "1" });
    off();
    off();
    await far!.put("k", bytes("unseen"), never);
    expect(seen).toEqual(["k 1", "k 2", "k undefined", "k 1"]);
    expect(log).toEqual(["watch k", "unwatch"]);
  });

  test("leases are held, lost, and waited for until nobody wants them any more", async () => {
    const { guest, engines } = rig();
    const { engine, log } = quorum();
    guest.engine.register(engine);
    const [far] = engines;
    const lease = (await far!.lease!("leader", 1_000, never))!;
    expect([lease.fencingToken, await lease.renew(never)]).toEqual([1n, true]);
    expect(await far!.lease!("leader", 1_000, never)).toBeUndefined();
    await lease.release();
    const won = await far!.campaign!("leader", 1_000, never);
    expect([won.fencingToken, await won.renew(never)]).toEqual([2n, true]);
    expect(await lease.renew(never).catch((error: { code: string }) => error.code)).toBe("GODWIT_NOT_FOUND");
    const abort = new AbortController();
    const waiting = far!.campaign!("waits", 1_000, abort.signal).catch(() => "rejected");
    abort.abort();
    expect([await waiting, log]).toEqual(["rejected", ["given up"]]);
  });

  test("one without them has none", () => {
    const { guest, engines } = rig();
    const { cas: _cas, lease: _lease, campaign: _campaign, ...rest } = quorum().engine;
    guest.engine.register({ ...rest, guarantee: "eventual" });
    expect(Object.keys(engines[0]!).toSorted()).toEqual(["delete", "get", "guarantee", "put", "watch"]);
  });
});

describe("a heal action outside of the node's thread", () => {
  const healing = (run: HealAction["run"]) => {
    const { guest, actions } = rig();
    guest.heal.register({ name: "mend", summary: "mends", plan: async () => ["one", "two"], run });
    return actions[0]!;
  };
  const budget = (steps: number) => {
    const of = { stepsLeft: steps, spend: () => void of.stepsLeft-- };
    return of;
  };

  test("is planned, and what it spends is spent here", async () => {
    const action = healing(async (own) => {
      own.spend();
      own.spend();
      return ["did one", "did two"];
    });
    const mine = budget(5);
    expect([action.name, await action.plan(never)]).toEqual(["mend", ["one", "two"]]);
    expect([await action.run(mine, never), mine.stepsLeft]).toEqual([["did one", "did two"], 3]);
  });

  test("stops at its budget, and its own mistakes are its own", async () => {
    const greedy = healing(async (own) => {
      for (;;) own.spend();
    });
    const code = (promise: Promise<unknown>) => promise.catch((error: { code: string }) => error.code);
    expect(await code(greedy.run(budget(2), never))).toBe("GODWIT_HEAL_BUDGET");
    const broken = healing(async () => {
      throw new TypeError("oops");
    });
    expect(await code(broken.run(budget(2), never))).toBe("GODWIT_PLUGIN_FAILED");
    const lying = healing(async () => "nothing" as unknown as string[]);
    expect(await code(lying.run(budget(2), never))).toBe("GODWIT_DECODE");
  });
});
