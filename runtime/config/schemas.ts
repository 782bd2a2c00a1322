/**
 * The schemas of the configuration for those who rarely need them: making them takes longer than all else that a start does with its
 * configuration. Loaded at the first call, at once, because whoever reads a configuration gets it or its problems and waits for nothing.
 */
import type * as Problems from "./schema-problems.ts";
import type * as Schema from "./schema.ts";
import type * as Values from "./schema-values.ts";

export const schemas = (): typeof Problems & typeof Schema & typeof Values => ({
  ...(require("./schema-problems.ts") as typeof Problems),
  ...(require("./schema.ts") as typeof Schema),
  ...(require("./schema-values.ts") as typeof Values),
});
