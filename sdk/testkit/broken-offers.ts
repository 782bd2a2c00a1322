/** Engines and heal actions for the kit's own tests: correct as long as no fault is asked for, and wrong in one way when one is. */
import {
  definePlugin,
  type Engine,
  type EngineEntry,
  type EngineGuarantee,
  type EngineLease,
  type Plugin,
} from "../src/index.ts";
import { schemaOf } from "./broken.ts";

export type EngineFault =
  | "boasts"
  | "cas-ignores-expected"
  | "cas-over-something"
  | "deaf-watch"
  | "forgets-abort"
  | "keeps-bytes"
  | "leases-twice"
  | "lends-bytes"
  | "one-revision"
  | "refuses-to-delete-nothing"
  | "same-token"
  | "watches-everything"
  | "watches-for-ever";

/** Keys in memory: all that a test needs of any guarantee. */
export const memoryEngine = (guarantee: EngineGuarantee, fault?: EngineFault): Plugin =>
  definePlugin({
    id: "keys",
    namespace: "engine",
    sdk: "^0.1.0",
    permissions: [],
    config: schemaOf([]),
    start(ctx) {
      const entries = new Map<string, EngineEntry>();
      const watchers = new Set<{ prefix: string; tell: Parameters<Engine["watch"]>[1] }>();
      const holders = new Map<string, bigint>();
      let [writes, tokens] = [0, 0n];
      const check = (signal: AbortSignal) => {
        if (fault !== "forgets-abort") signal.throwIfAborted();
      };
      const copyOf = (entry: EngineEntry): EngineEntry =>
        fault === "lends-bytes" ? entry : { ...entry, value: entry.value.slice() };
      const tell = (key: string, entry: EngineEntry | undefined) => {
        if (fault === "deaf-watch") return;
        for (const { prefix, tell: onChange } of watchers)
          if (key.startsWith(prefix) || fault === "watches-everything") onChange(key, entry);
      };
      const write = (key: string, value: Uint8Array): EngineEntry => {
        const entry = {
          value: fault === "keeps-bytes" ? value : value.slice(),
          revision: fault === "one-revision" ? "1" : String(++writes),
        };
        entries.set(key, entry);
        tell(key, entry);
        return copyOf(entry);
      };
      const lease = (name: string): EngineLease | undefined => {
        if (holders.has(name) && fault !== "leases-twice") return undefined;
        const fencingToken = fault === "same-token" ? 1n : ++tokens;
        const isHeld = () => holders.get(name) === fencingToken;
        holders.set(name, fencingToken);
        let isReleased = false;
        return {
          fencingToken,
          renew: async () => !isReleased && isHeld(),
          async release() {
            isReleased = true;
            if (isHeld()) holders.delete(name);
          },
        };
      };
      const ordered: Pick<Engine, "cas" | "lease" | "campaign"> = {
        async cas(key, expected, value, signal) {
          check(signal);
          const is = entries.get(key)?.revision;
          if (fault === "cas-over-something" && expected === undefined) return write(key, value);
          if (is !== expected && fault !== "cas-ignores-expected") return undefined;
          return write(key, value);
        },
        lease: async (name, _ttlMs, signal) => (check(signal), lease(name)),
        async campaign(name, _ttlMs, signal) {
          for (;;) {
            check(signal);
            const won = lease(name);
            if (won !== undefined) return won;
            await new Promise((resolve) => setImmediate(resolve));
          }
        },
      };
      const isOrdered = guarantee !== "eventual" || fault === "boasts";
      ctx.engine.register({
        guarantee,
        async get(key, signal) {
          check(signal);
          const entry = entries.get(key);
          return entry === undefined ? undefined : copyOf(entry);
        },
        async put(key, value, signal) {
          check(signal);
          return write(key, value);
        },
        async delete(key, signal) {
          check(signal);
          if (!entries.delete(key)) {
            if (fault === "refuses-to-delete-nothing") throw new Error("nothing there");
            return;
          }
          tell(key, undefined);
        },
        watch(prefix, onChange) {
          const watcher = { prefix, tell: onChange };
          watchers.add(watcher);
          return () => void (fault === "watches-for-ever" || watchers.delete(watcher));
        },
        ...(isOrdered ? ordered : {}),
      });
    },
  });

export type HealFault =
  | "bad-name"
  | "forgets-abort"
  | "ignores-budget"
  | "plan-heals"
  | "plans-always"
  | "pretends"
  | "silent"
  | "spends-for-nothing"
  | "spends-nothing";

/** Deletes every key of its storage but one. */
export const pruneAction = (fault?: HealFault): Plugin =>
  definePlugin({
    id: "prune",
    namespace: "heal-action",
    sdk: "^0.1.0",
    permissions: [],
    config: schemaOf([]),
    start(ctx) {
      const surplus = async () => (await ctx.storage.keys()).slice(1);
      ctx.heal.register({
        name: fault === "bad-name" ? "Prune It" : "prune",
        summary: "deletes all keys but one",
        async plan(signal) {
          signal.throwIfAborted();
          const keys = await surplus();
          if (fault === "plan-heals") for (const key of keys) await ctx.storage.delete(key);
          return fault === "plans-always" ? ["delete something"] : keys.map((key) => `delete ${key}`);
        },
        async run(budget, signal) {
          if (fault !== "forgets-abort") signal.throwIfAborted();
          if (fault === "spends-for-nothing") budget.spend();
          const done: string[] = [];
          for (const key of await surplus()) {
            if (fault === "ignores-budget") {
              if (budget.stepsLeft > 0) budget.spend();
            } else if (fault !== "spends-nothing") budget.spend();
            if (fault !== "pretends") await ctx.storage.delete(key);
            if (fault !== "silent") done.push(`deleted ${key}`);
          }
          return done;
        },
      });
    },
  });
