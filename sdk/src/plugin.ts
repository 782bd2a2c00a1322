import type { EngineContext, HealContext, PluginContext, ServiceContext } from "./context.ts";

export type PluginNamespace = "transport" | "discovery" | "service" | "engine" | "heal-action";

/** The part of Standard Schema v1 (https://standardschema.dev) that the host uses; zod, valibot and arktype have it. */
export interface StandardSchema<Output> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) =>
      | { readonly value: Output; readonly issues?: undefined }
      | {
          readonly issues: readonly {
            readonly message: string;
            readonly path?: readonly unknown[] | undefined;
          }[];
        }
      | Promise<unknown>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

/** Services are handed the mesh; engines and heal actions a place to register at. */
export type ContextOf<Namespace extends PluginNamespace> = Namespace extends "service"
  ? ServiceContext
  : Namespace extends "engine"
    ? EngineContext
    : Namespace extends "heal-action"
      ? HealContext
      : PluginContext;

export interface PluginDefinition<Config, Namespace extends PluginNamespace = PluginNamespace> {
  /** Kebab-case, unique within its namespace: `tcp` in `type = "tcp"`. */
  readonly id: string;
  readonly namespace: Namespace;
  /** Version range of this SDK, e.g. `^0.1.0`. */
  readonly sdk: string;
  /** Validates the plugin's own table of the configuration; unknown keys must be refused. */
  readonly config: StandardSchema<Config>;
  /** Shown to the operator before any code runs, and enforced for untrusted plugins. */
  readonly permissions: readonly string[];
  /**
   * What an operator should know of a table that is right, in sentences; `godwit config check` shows them and the log of a start has them. Pure,
   * and only asked of plugins whose code runs in the node.
   */
  warnings?(config: Config): readonly string[];
  /**
   * Resolves when the plugin does its work, at most 30 s later (then it is stopped and marked failed). Rejecting
   * undoes whatever was registered.
   */
  start(ctx: ContextOf<Namespace>, config: Config): Promise<void> | void;
}

/** A plugin whose configuration type the host need not know. */
export interface Plugin {
  readonly id: string;
  readonly namespace: PluginNamespace;
  readonly sdk: string;
  readonly config: StandardSchema<unknown>;
  readonly permissions: readonly string[];
  warnings?(config: unknown): readonly string[];
  /** The host calls it with a context of its namespace: of a service, a ServiceContext. */
  start(ctx: PluginContext, config: unknown): Promise<void> | void;
}

/** Declares a plugin; the identity function at run time. The result is a plugin file's default export. */
export function definePlugin<Config, const Namespace extends PluginNamespace>(
  definition: PluginDefinition<Config, Namespace>,
): Plugin {
  // Sound because the host only ever calls start with what definition.config returned, and a context of its namespace.
  return definition;
}
