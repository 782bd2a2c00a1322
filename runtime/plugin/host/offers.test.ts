import { describe, expect, test } from "bun:test";
import type { Engine, EngineEntry, HealAction } from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { Scope } from "../../kernel/scope.ts";
import { Offers, OFFER_DEADLINE_MS } from "./offers.ts";

function rig() {
  const clock = new ManualClock();
  const offers = new Offers(clock);
  const scope = new Scope("test");
  return { clock, offers, scope, ...offers.doors("one", scope, () => {}) };
}
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "fulfilled",
    (error: { code?: string }) => error.code ?? "an error without a code",
  );
const entry = (text = "v", revision = "1"): EngineEntry => ({
  value: new TextEncoder().encode(text),
  revision,
});
const eventual = (change: Partial<Engine> = {}): Engine => ({
  guarantee: "eventual",
  get: async () => entry(),
  put: async () => entry(),
  delete: async () => {},
  watch: () => () => {},
  ...change,
});
const action = (change: Partial<HealAction> = {}): HealAction => ({
  name: "mend",
  summary: "mends",
  plan: async () => ["mend"],
  run: async (budget) => (budget.spend(), ["mended"]),
  ...change,
});

describe("engines", () => {
  test("what they have must go with what they say", () => {
    const cas = async () => entry();
    expect(() => rig().engine.register(eventual({ cas }))).toThrow("cannot have cas");
    expect(() => rig().engine.register(eventual({ guarantee: "strong", cas }))).toThrow("has to have");
    const { engine } = rig();
    engine.register(eventual());
    expect(() => engine.register(eventual())).toThrow("registers one engine");
  });

  test("an eventual one is not asked to compare and set", async () => {
    const { engine, offers } = rig();
    engine.register(eventual());
    expect(await codeOf(offers.put("one", "k", new Uint8Array(1), null))).toBe("GODWIT_ENGINE_UNABLE");
    expect((await offers.put("one", "k", new Uint8Array(1))).revision).toBe("1");
  });

  test("keys and values out of bounds never reach it, and what it answers is looked at", async () => {
    const { engine, offers } = rig();
    engine.register(
      eventual({ get: async () => ({ value: "text", revision: "" }) as unknown as EngineEntry }),
    );
    expect(await codeOf(offers.get("one", ""))).toBe("GODWIT_REQUEST_INVALID");
    expect(await codeOf(offers.get("one", "ü".repeat(129)))).toBe("GODWIT_REQUEST_INVALID");
    expect(await codeOf(offers.put("one", "k", new Uint8Array(65_537)))).toBe("GODWIT_TOO_BIG");
    expect(await codeOf(offers.get("one", "k"))).toBe("GODWIT_PLUGIN_FAILED");
    expect(await codeOf(offers.get("two", "k"))).toBe("GODWIT_NOT_FOUND");
  });

  test("one that never answers is given up, one that throws is no bug of the node, and each goes with its plugin", async () => {
    const { engine, offers, clock, scope } = rig();
    let signal: AbortSignal | undefined;
    engine.register(
      eventual({
        get: (_key, given) => ((signal = given), new Promise(() => {})),
        put: async () => {
          throw new TypeError("oops");
        },
      }),
    );
    const reading = codeOf(offers.get("one", "k"));
    void clock.advance(OFFER_DEADLINE_MS);
    expect(await reading).toBe("GODWIT_TIMEOUT");
    expect(signal?.aborted).toBe(true);
    expect(await codeOf(offers.put("one", "k", new Uint8Array(1)))).toBe("GODWIT_PLUGIN_FAILED");
    await scope.close();
    expect(offers.engineOf("one")).toBeUndefined();
  });
});

describe("heal actions", () => {
  test("run within steps and time, and not twice at once", async () => {
    const { heal, offers, clock } = rig();
    heal.register(action());
    expect(await offers.plan("mend")).toEqual(["mend"]);
    expect(await offers.heal("mend", 1, 1_000)).toEqual(["mended"]);
    expect(await codeOf(offers.heal("mend", 0, 1_000))).toBe("GODWIT_HEAL_BUDGET");
    heal.register(action({ name: "slow", run: () => new Promise(() => {}) }));
    const first = codeOf(offers.heal("slow", 1, 1_000));
    expect(await codeOf(offers.heal("slow", 1, 1_000))).toBe("GODWIT_HEAL_BUDGET");
    void clock.advance(1_000);
    expect(await first).toBe("GODWIT_HEAL_BUDGET");
    expect(await codeOf(offers.heal("none", 1, 1_000))).toBe("GODWIT_NOT_FOUND");
  });

  test("a budget that is over is over: spend throws after the deadline too", async () => {
    const { heal, offers, clock } = rig();
    const gate = Promise.withResolvers<void>();
    let late = "not tried";
    heal.register(
      action({
        async run(budget) {
          await gate.promise;
          try {
            budget.spend();
            late = "spent";
          } catch {
            late = "refused";
          }
          return [];
        },
      }),
    );
    const running = codeOf(offers.heal("mend", 5, 1_000));
    void clock.advance(1_000);
    expect(await running).toBe("GODWIT_HEAL_BUDGET");
    gate.resolve();
    await Bun.sleep(0);
    expect(late).toBe("refused");
  });

  test("names are checked, and go with their plugin", async () => {
    const { heal, offers, scope } = rig();
    expect(() => heal.register(action({ name: "Mend It" }))).toThrow("is no name");
    heal.register(action());
    expect(() => offers.doors("two", scope, () => {}).heal.register(action())).toThrow("is there already");
    await scope.close();
    expect(offers.actions).toEqual([]);
  });

  test("what they say is bounded", async () => {
    const { heal, offers } = rig();
    heal.register(action({ plan: async () => Array.from({ length: 2_000 }, () => "x".repeat(1_000)) }));
    const told = await offers.plan("mend");
    expect([told.length, told[0]!.length]).toEqual([1_000, 500]);
  });
});
