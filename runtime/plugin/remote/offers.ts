/**
 * Engines and heal actions of a plugin outside of the node's thread, as the node calls them. What comes back is held against a
 * schema here and against the contract where offers are kept (host/offers.ts); a lease's token is what the plugin says.
 */
import { type Engine, ENGINE_LIMITS, type EngineEntry, type EngineLease } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import type { Calls } from "../frames/calls.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";

/** Watches of one engine at a time. */
const WATCHES_MAX = 1_024;
const engineSchema = z.object({
  guarantee: z.enum(["eventual", "quorum", "strong"]),
  has: z.array(z.enum(["cas", "lease", "campaign"])).max(3),
});
const actionSchema = z.object({ name: z.string().max(64), summary: z.string().max(512) });
const entrySchema = z.object({ revision: z.string().max(128) }).nullable();
const leaseSchema = z
  .object({ lease: z.number().int().positive(), fencingToken: z.string().regex(/^\d{1,40}$/) })
  .nullable();
const sentencesSchema = z.array(z.string().max(1_024)).max(1_000);
const ranSchema = z.object({ done: sentencesSchema, spent: z.number().int().min(0).max(1_000_000) });
const changeSchema = z.object({
  watch: z.number().int(),
  key: z.string().max(ENGINE_LIMITS.keyBytes),
  revision: z.string().max(128).optional(),
});

type Watching = (key: string, entry: EngineEntry | undefined) => void;

export class RemoteOffers {
  readonly #calls: Calls;
  readonly #watches = new Map<number, Watching>();
  #nextWatch = 1;

  constructor({ ctx, calls }: Pick<RemoteParts, "ctx" | "calls">) {
    this.#calls = calls;
    calls.add("engine.register", (args) => {
      const { guarantee, has } = parseJson(engineSchema, args);
      ctx.engine.register(this.#engine(guarantee, new Set(has)));
      return {};
    });
    calls.add("heal.register", (args) => {
      const { name, summary } = parseJson(actionSchema, args);
      ctx.heal.register({
        name,
        summary,
        plan: (signal) =>
          calls.ask("heal.plan", { action: name }, (value) => parseJson(sentencesSchema, value), { signal }),
        run: async (budget, signal) => {
          const asked = { action: name, steps: budget.stepsLeft };
          const read = (value: unknown) => parseJson(ranSchema, value);
          const { done, spent } = await calls.ask("heal.run", asked, read, { signal });
          for (let i = 0; i < Math.min(spent, asked.steps); i++) budget.spend();
          return done;
        },
      });
      return {};
    });
  }

  /** A change of a watched key. Throws GODWIT_DECODE. */
  onChange(json: unknown, bytes: Uint8Array): void {
    const { watch, key, revision } = parseJson(changeSchema, json);
    this.#watches.get(watch)?.(key, revision === undefined ? undefined : { value: bytes.slice(), revision });
  }

  #engine(guarantee: Engine["guarantee"], has: ReadonlySet<"cas" | "lease" | "campaign">): Engine {
    const calls = this.#calls;
    const entry = (value: unknown, bytes: Uint8Array): EngineEntry | undefined => {
      const found = parseJson(entrySchema, value);
      if (bytes.length > ENGINE_LIMITS.valueBytes)
        throw godwitError("GODWIT_DECODE", "plugin frame: a value beyond what an engine may hold");
      return found === null ? undefined : { value: bytes.slice(), revision: found.revision };
    };
    const written = (value: unknown, bytes: Uint8Array): EngineEntry => {
      const found = entry(value, bytes);
      if (found === undefined) throw godwitError("GODWIT_DECODE", "plugin frame: a write without an entry");
      return found;
    };
    const lease = (value: unknown) => this.#lease(parseJson(leaseSchema, value));
    return {
      guarantee,
      get: (key, signal) => calls.ask("engine.get", { key }, entry, { signal }),
      put: (key, value, signal) => calls.ask("engine.put", { key }, written, { signal, bytes: value }),
      delete: (key, signal) => calls.ask("engine.delete", { key }, () => {}, { signal }),
      watch: (prefix, onChange) => this.#watch(prefix, onChange),
      ...(has.has("cas")
        ? {
            cas: (key, expected, value, signal) =>
              calls.ask("engine.cas", { key, ...(expected === undefined ? {} : { expected }) }, entry, {
                signal,
                bytes: value,
              }),
          }
        : {}),
      ...(has.has("lease")
        ? { lease: (name, ttlMs, signal) => calls.ask("engine.lease", { name, ttlMs }, lease, { signal }) }
        : {}),
      ...(has.has("campaign")
        ? {
            campaign: async (name, ttlMs, signal) => {
              const won = await calls.ask("engine.campaign", { name, ttlMs }, lease, { signal });
              if (won !== undefined) return won;
              throw godwitError("GODWIT_DECODE", "plugin frame: a campaign that ended without a lease");
            },
          }
        : {}),
    };
  }

  #lease(told: z.output<typeof leaseSchema>): EngineLease | undefined {
    if (told === null) return undefined;
    const { lease } = told;
    return {
      fencingToken: BigInt(told.fencingToken),
      renew: (signal) => this.#calls.ask("lease.renew", { lease }, (value) => value === true, { signal }),
      release: () => this.#calls.ask("lease.release", { lease }, () => {}),
    };
  }

  #watch(prefix: string, onChange: Watching): () => void {
    if (this.#watches.size >= WATCHES_MAX)
      throw godwitError("GODWIT_QUEUE_FULL", `an engine has at most ${WATCHES_MAX} watches`);
    const watch = this.#nextWatch++;
    this.#watches.set(watch, onChange);
    // A plugin that is gone watches nothing, and its engine is gone with it.
    const tell = (method: string) =>
      void this.#calls.ask(method, { prefix, watch }, () => {}).catch(() => {});
    tell("engine.watch");
    return () => {
      if (this.#watches.delete(watch)) tell("engine.unwatch");
    };
  }
}
