/** `ctx.engine` and `ctx.heal` over frames: what the plugin registered is called by the node, and its answers travel back. */
import type { Engine, EngineContext, EngineEntry, EngineLease, HealAction, HealContext } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import type { Reply } from "../frames/calls.ts";
import { EMPTY, PluginFrame } from "../frames/frames.ts";
import type { ContextParts } from "./parts.ts";

export type GuestOffers = Pick<EngineContext, "engine"> & Pick<HealContext, "heal">;

interface Asked {
  readonly key: string;
  readonly expected?: string;
  readonly prefix: string;
  readonly watch: number;
  readonly name: string;
  readonly ttlMs: number;
  readonly lease: number;
  readonly action: string;
  readonly steps: number;
}
type Answering = (asked: Asked, signal: AbortSignal, bytes: Uint8Array) => Promise<Reply>;

const toldEntry = (entry: EngineEntry | undefined): Reply =>
  entry === undefined ? { json: null } : { json: { revision: entry.revision }, bytes: entry.value };

export function createOffers({ calls, port, scope }: ContextParts): GuestOffers {
  let engine: Engine | undefined;
  const actions = new Map<string, HealAction>();
  const leases = new Map<number, EngineLease>();
  const watches = new Map<number, () => void>();
  let nextLease = 1;
  const theEngine = (): Engine => {
    if (engine === undefined) throw godwitError("GODWIT_NOT_FOUND", "no engine is registered");
    return engine;
  };
  const hold = (lease: EngineLease | undefined): Reply => {
    if (lease === undefined) return { json: null };
    leases.set(nextLease, lease);
    return { json: { lease: nextLease++, fencingToken: lease.fencingToken.toString() } };
  };
  const theLease = (number: number): EngineLease => {
    const lease = leases.get(number);
    if (lease === undefined) throw godwitError("GODWIT_NOT_FOUND", "there is no such lease");
    return lease;
  };
  const theAction = (name: string): HealAction => {
    const action = actions.get(name);
    if (action === undefined) throw godwitError("GODWIT_NOT_FOUND", "there is no such action");
    return action;
  };
  const answers: Readonly<Record<string, Answering>> = {
    "engine.get": async ({ key }, signal) => toldEntry(await theEngine().get(key, signal)),
    "engine.put": async ({ key }, signal, bytes) => toldEntry(await theEngine().put(key, bytes, signal)),
    "engine.delete": async ({ key }, signal) => ({ json: (await theEngine().delete(key, signal)) ?? null }),
    "engine.cas": async ({ key, expected }, signal, bytes) =>
      toldEntry(await theEngine().cas?.(key, expected, bytes, signal)),
    "engine.lease": async ({ name, ttlMs }, signal) => hold(await theEngine().lease?.(name, ttlMs, signal)),
    "engine.campaign": async ({ name, ttlMs }, signal) =>
      hold(await theEngine().campaign?.(name, ttlMs, signal)),
    "lease.renew": async ({ lease }, signal) => ({ json: await theLease(lease).renew(signal) }),
    async "lease.release"({ lease }) {
      await theLease(lease).release();
      leases.delete(lease);
      return { json: null };
    },
    async "engine.watch"({ prefix, watch }) {
      const off = theEngine().watch(prefix, (key, entry) => {
        if (!watches.has(watch)) return;
        const revision = entry === undefined ? {} : { revision: entry.revision };
        const event = { event: "engine-change", watch, key, ...revision };
        port.sendParts(PluginFrame.event, 0, event, entry?.value ?? EMPTY);
      });
      watches.set(watch, off);
      return { json: null };
    },
    async "engine.unwatch"({ watch }) {
      watches.get(watch)?.();
      watches.delete(watch);
      return { json: null };
    },
    "heal.plan": async ({ action }, signal) => ({ json: await theAction(action).plan(signal) }),
    async "heal.run"({ action, steps }, signal) {
      let left = steps;
      const budget = {
        get stepsLeft() {
          return left;
        },
        spend() {
          signal.throwIfAborted();
          if (left <= 0) throw godwitError("GODWIT_HEAL_BUDGET", `all ${steps} steps are used up`);
          left--;
        },
      };
      const done = await theAction(action).run(budget, signal);
      return { json: { done, spent: steps - left } };
    },
  };

  for (const [name, answering] of Object.entries(answers))
    calls.add(name, (asked, bytes, cancelled) =>
      answering(asked as Asked, AbortSignal.any([cancelled, scope.signal]), bytes.slice()),
    );

  return {
    engine: {
      register(given) {
        const has = (["cas", "lease", "campaign"] as const).filter((name) => given[name] !== undefined);
        calls.askNow("engine.register", { guarantee: given.guarantee, has });
        engine = given;
      },
    },
    heal: {
      register(action) {
        calls.askNow("heal.register", { name: action.name, summary: action.summary });
        actions.set(action.name, action);
      },
    },
  };
}
