/** What a manifest may say. Loaded when there is one: a start without packages makes no schema for them. */
import * as z from "zod";

const permission = z.string().regex(/^[\x20-\x7e]{1,200}$/);
/** Versions with `^`, `~` or a comparison before them, all of which hold. What is no range would fit every SDK. */
const SDK_RANGE =
  /^(?:[\^~=]|[<>]=?)?\d+(?:\.\d+){0,2}(?:-[0-9A-Za-z.-]+)?(?: (?:[\^~=]|[<>]=?)?\d+(?:\.\d+){0,2}(?:-[0-9A-Za-z.-]+)?)*$/;
const pluginId = z.string().regex(/^[a-z][a-z0-9-]{0,63}$/);
export const manifestSchema = z.strictObject({
  id: pluginId,
  namespace: z.enum(["transport", "discovery", "service", "engine", "heal-action"]),
  version: z
    .string()
    .max(64)
    .regex(/^\d{1,9}\.\d{1,9}\.\d{1,9}(?:-[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*)?$/),
  /** Range of the SDK, like `^0.1.0`. */
  sdk: z.string().max(64).regex(SDK_RANGE),
  permissions: z.array(permission).max(64),
  /** Ids of plugins that have to be installed as well. */
  requires: z.array(pluginId).max(16).optional(),
  /** File of the author's folder that exports the plugin; relative to the manifest. */
  entry: z.string().min(1).max(200),
  /** What `entry` is: a module for Godwit's own runtime (`godwit`, the default), or a program that speaks frames over fd 3. */
  runtime: z.enum(["godwit", "exec"]).optional(),
  /** JSON Schema of the plugin's own table; judges it without running any code. */
  config: z.record(z.string(), z.unknown()),
});

export type PluginManifest = Readonly<z.infer<typeof manifestSchema>>;

/** Throws when it is no JSON Schema. */
export const schemaOf = (config: PluginManifest["config"]): z.ZodType => z.fromJSONSchema(config);
