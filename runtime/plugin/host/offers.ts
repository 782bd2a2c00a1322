/**
 * What plugins offer to the node beyond pipes, hints and services: coordination engines and heal actions. Owns who offers what
 * now, and every check between the node and the plugin's code: bounds before, a deadline around, a budget inside. An offer ends
 * with the life of the plugin that made it.
 */
import {
  type Clock,
  type Engine,
  ENGINE_LIMITS,
  type EngineContext,
  type EngineEntry,
  type HealAction,
  type HealBudget,
  type HealContext,
} from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";

/** An engine or an action that does not answer within this is given up. */
export const OFFER_DEADLINE_MS = 30_000;
export const HEAL_STEPS_MAX = 1_000;
const ACTIONS_PER_INSTANCE_MAX = 16;
const ACTION_NAME = /^[a-z][a-z0-9-]{0,63}$/;
const REVISION = /^[\x21-\x7e]{1,128}$/;
/** Of what an action says it did. */
const [SENTENCES_MAX, SENTENCE_CHARS_MAX] = [1_000, 500];

export interface OfferedAction {
  readonly instance: string;
  readonly action: HealAction;
}

export class Offers {
  readonly #clock: Clock;
  readonly #engines = new Map<string, Engine>();
  readonly #actions = new Map<string, OfferedAction>();
  /** Names of actions that run now: a second run beside it could undo the first. */
  readonly #running = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The doors of these namespaces in a plugin's context; `check` throws for what it may not register. */
  doors(
    instance: string,
    scope: Scope,
    check: (what: "engine" | "heal-action") => void,
  ): Pick<EngineContext, "engine"> & Pick<HealContext, "heal"> {
    return {
      engine: {
        register: (engine) => {
          check("engine");
          if (scope.isClosed) return;
          if (this.#engines.has(instance))
            throw godwitError("GODWIT_ENGINE_INVALID", "an instance registers one engine");
          checkEngine(engine);
          this.#engines.set(instance, engine);
          scope.own(() => void this.#engines.delete(instance));
        },
      },
      heal: {
        register: (action) => {
          check("heal-action");
          if (scope.isClosed) return;
          const ofInstance = [...this.#actions.values()].filter((one) => one.instance === instance).length;
          if (!ACTION_NAME.test(action.name) || ofInstance >= ACTIONS_PER_INSTANCE_MAX)
            throw godwitError("GODWIT_HEAL_INVALID", `"${action.name}" is no name, or one action too many`);
          if (this.#actions.has(action.name))
            throw godwitError("GODWIT_HEAL_INVALID", `an action "${action.name}" is there already`);
          this.#actions.set(action.name, { instance, action });
          scope.own(() => void this.#actions.delete(action.name));
        },
      },
    };
  }

  engineOf(instance: string): Engine | undefined {
    return this.#engines.get(instance);
  }

  get actions(): readonly OfferedAction[] {
    return [...this.#actions.values()];
  }

  /** Throws GODWIT_NOT_FOUND, GODWIT_REQUEST_INVALID for a key out of bounds, GODWIT_TIMEOUT. */
  async get(instance: string, key: string): Promise<EngineEntry | undefined> {
    const engine = this.#engine(instance);
    checkKey(key);
    const entry = await this.#within((signal) => engine.get(key, signal));
    return entry === undefined ? undefined : checkEntry(entry);
  }

  /** `expected` given: compare and set, null for a key that must not be there. Throws GODWIT_ENGINE_UNABLE, GODWIT_ENGINE_CONFLICT too. */
  async put(
    instance: string,
    key: string,
    value: Uint8Array,
    expected?: string | null,
  ): Promise<EngineEntry> {
    const engine = this.#engine(instance);
    checkKey(key);
    if (value.length > ENGINE_LIMITS.valueBytes)
      throw godwitError("GODWIT_TOO_BIG", `a value has at most ${ENGINE_LIMITS.valueBytes} bytes`);
    if (expected === undefined)
      return checkEntry(await this.#within((signal) => engine.put(key, value, signal)));
    if (engine.cas === undefined)
      throw godwitError(
        "GODWIT_ENGINE_UNABLE",
        `"${instance}" is ${engine.guarantee}: it cannot compare and set`,
      );
    const entry = await this.#within((signal) => engine.cas!(key, expected ?? undefined, value, signal));
    if (entry === undefined)
      throw godwitError("GODWIT_ENGINE_CONFLICT", "another revision is there; read it and try again");
    return checkEntry(entry);
  }

  /** What the action would do. Throws GODWIT_NOT_FOUND, GODWIT_TIMEOUT. */
  async plan(name: string): Promise<readonly string[]> {
    const { action } = this.#action(name);
    return sentences(await this.#within((signal) => action.plan(signal)));
  }

  /** Does it, within so many steps and so long. Throws GODWIT_HEAL_BUDGET too, and then part of it may be done. */
  async heal(name: string, steps: number, withinMs: number): Promise<readonly string[]> {
    const { action } = this.#action(name);
    if (this.#running.has(name)) throw godwitError("GODWIT_HEAL_BUDGET", `"${name}" is running already`);
    this.#running.add(name);
    try {
      return sentences(
        await this.#within(
          (signal) => action.run(budgetOf(steps, signal), signal),
          withinMs,
          () => godwitError("GODWIT_HEAL_BUDGET", `"${name}" had ${withinMs / 1_000} s and was not done`),
        ),
      );
    } finally {
      this.#running.delete(name);
    }
  }

  #engine(instance: string): Engine {
    const engine = this.#engines.get(instance);
    if (engine === undefined) throw godwitError("GODWIT_NOT_FOUND", `no engine "${instance}" is running`);
    return engine;
  }

  #action(name: string): OfferedAction {
    const found = this.#actions.get(name);
    if (found === undefined) throw godwitError("GODWIT_NOT_FOUND", `no heal action "${name}" is offered`);
    return found;
  }

  /** A plugin's promise, or the deadline; what comes later is nobody's. */
  async #within<T>(
    work: (signal: AbortSignal) => Promise<T>,
    withinMs = OFFER_DEADLINE_MS,
    late = () => godwitError("GODWIT_TIMEOUT", `the plugin did not answer within ${withinMs / 1_000} s`),
  ): Promise<T> {
    const controller = new AbortController();
    const over = Promise.withResolvers<never>();
    const timer = this.#clock.after(withinMs, () => {
      const error = late();
      controller.abort(error);
      over.reject(error);
    });
    try {
      return await Promise.race([work(controller.signal), over.promise]);
    } catch (error) {
      const known = asGodwitError(error);
      // A bug of the plugin is not one of the node.
      throw known.kind === "bug" ? godwitError("GODWIT_PLUGIN_FAILED", known.message, error) : known;
    } finally {
      timer.cancel();
    }
  }
}

function checkEngine(engine: Engine): void {
  const extra = ["cas", "lease", "campaign"] as const;
  const has = extra.filter((name) => engine[name] !== undefined);
  const isEventual = engine.guarantee === "eventual";
  if (isEventual ? has.length > 0 : has.length < extra.length)
    throw godwitError(
      "GODWIT_ENGINE_INVALID",
      isEventual
        ? `an eventual engine cannot have ${has.join(", ")}: nothing decides who was first`
        : `a ${engine.guarantee} engine has to have ${extra.join(", ")}`,
    );
}

function checkKey(key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes < 1 || bytes > ENGINE_LIMITS.keyBytes)
    throw godwitError("GODWIT_REQUEST_INVALID", `a key has 1 to ${ENGINE_LIMITS.keyBytes} bytes of UTF-8`);
}

function checkEntry(entry: EngineEntry): EngineEntry {
  if (!(entry.value instanceof Uint8Array) || !REVISION.test(entry.revision))
    throw godwitError("GODWIT_PLUGIN_FAILED", "the engine answered no entry with a revision");
  return entry;
}

function budgetOf(steps: number, signal: AbortSignal): HealBudget {
  let left = Math.min(steps, HEAL_STEPS_MAX);
  return {
    get stepsLeft() {
      return left;
    },
    spend() {
      signal.throwIfAborted();
      if (left <= 0) throw godwitError("GODWIT_HEAL_BUDGET", `all ${steps} steps are used up`);
      left--;
    },
  };
}

const sentences = (told: readonly string[]): string[] =>
  (Array.isArray(told) ? told : [])
    .slice(0, SENTENCES_MAX)
    .map((one) => String(one).slice(0, SENTENCE_CHARS_MAX));
