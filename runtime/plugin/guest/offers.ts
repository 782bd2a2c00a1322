/** `ctx.engine` and `ctx.heal` over frames: what the plugin registered is called by the node, and its answers travel back. */
import type { Engine, EngineContext, EngineEntry, EngineLease, HealAction, HealContext } from "@godwit/sdk";
import { asGodwitError, GodwitError, godwitError } from "../../kernel/errors.ts";
import { EMPTY, PluginFrame, wireErrorOf } from "../frames/frames.ts";
import type { ContextParts } from "./parts.ts";

export interface GuestOffers extends Pick<EngineContext, "engine">, Pick<HealContext, "heal"> {
  /** The node asks the plugin; `bytes` are the handler's. */
  onCall(id: number, call: { readonly method: string }, bytes: Uint8Array): void;
  onCancel(id: number): void;
}

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
interface Told {
  readonly value: unknown;
  readonly bytes?: Uint8Array;
}
type Answering = (asked: Asked, signal: AbortSignal, bytes: Uint8Array) => Promise<Told>;

const toldEntry = (entry: EngineEntry | undefined): Told =>
  entry === undefined ? { value: null } : { value: { revision: entry.revision }, bytes: entry.value };

export function createOffers({ calls, port, scope }: ContextParts): GuestOffers {
  let engine: Engine | undefined;
  const actions = new Map<string, HealAction>();
  const leases = new Map<number, EngineLease>();
  const watches = new Map<number, () => void>();
  const running = new Map<number, AbortController>();
  let nextLease = 1;
  const theEngine = (): Engine => {
    if (engine === undefined) throw godwitError("GODWIT_NOT_FOUND", "no engine is registered");
    return engine;
  };
  const hold = (lease: EngineLease | undefined): Told => {
    if (lease === undefined) return { value: null };
    leases.set(nextLease, lease);
    return { value: { lease: nextLease++, fencingToken: lease.fencingToken.toString() } };
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
    "engine.delete": async ({ key }, signal) => ({ value: (await theEngine().delete(key, signal)) ?? null }),
    "engine.cas": async ({ key, expected }, signal, bytes) =>
      toldEntry(await theEngine().cas?.(key, expected, bytes, signal)),
    "engine.lease": async ({ name, ttlMs }, signal) => hold(await theEngine().lease?.(name, ttlMs, signal)),
    "engine.campaign": async ({ name, ttlMs }, signal) =>
      hold(await theEngine().campaign?.(name, ttlMs, signal)),
    "lease.renew": async ({ lease }, signal) => ({ value: await theLease(lease).renew(signal) }),
    async "lease.release"({ lease }) {
      await theLease(lease).release();
      leases.delete(lease);
      return { value: null };
    },
    async "engine.watch"({ prefix, watch }) {
      const off = theEngine().watch(prefix, (key, entry) => {
        if (!watches.has(watch)) return;
        const revision = entry === undefined ? {} : { revision: entry.revision };
        const event = { event: "engine-change", watch, key, ...revision };
        port.sendParts(PluginFrame.event, 0, event, entry?.value ?? EMPTY);
      });
      watches.set(watch, off);
      return { value: null };
    },
    async "engine.unwatch"({ watch }) {
      watches.get(watch)?.();
      watches.delete(watch);
      return { value: null };
    },
    "heal.plan": async ({ action }, signal) => ({ value: await theAction(action).plan(signal) }),
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
      return { value: { done, spent: steps - left } };
    },
  };

  async function answer(id: number, answering: Answering, asked: Asked, bytes: Uint8Array): Promise<void> {
    const controller = new AbortController();
    running.set(id, controller);
    try {
      const signal = AbortSignal.any([controller.signal, scope.signal]);
      const told = await answering(asked, signal, bytes);
      port.sendParts(PluginFrame.answer, id, { value: told.value }, told.bytes ?? EMPTY);
    } catch (error) {
      // What the plugin itself throws is its failure, not a fault of Godwit.
      const known =
        error instanceof GodwitError
          ? error
          : godwitError("GODWIT_PLUGIN_FAILED", error instanceof Error ? error.message : String(error));
      port.sendParts(PluginFrame.answer, id, { error: wireErrorOf(asGodwitError(known)) });
    } finally {
      running.delete(id);
    }
  }

  return {
    engine: {
      register(given) {
        const has = (["cas", "lease", "campaign"] as const).filter((name) => given[name] !== undefined);
        calls.callNow("engine.register", { guarantee: given.guarantee, has });
        engine = given;
      },
    },
    heal: {
      register(action) {
        calls.callNow("heal.register", { name: action.name, summary: action.summary });
        actions.set(action.name, action);
      },
    },
    onCall(id, call, bytes) {
      const answering = Object.hasOwn(answers, call.method) ? answers[call.method] : undefined;
      if (answering !== undefined) return void answer(id, answering, call as unknown as Asked, bytes);
      port.sendParts(PluginFrame.answer, id, {
        error: { code: "GODWIT_NOT_FOUND", message: `there is no call ${call.method} here` },
      });
    },
    onCancel: (id) =>
      running.get(id)?.abort(new DOMException("the node gave up what it asked", "AbortError")),
  };
}
