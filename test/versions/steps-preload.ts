/**
 * Loaded in front of `godwit store convert` that runs from source: kills it with SIGKILL before the n-th call that changes a name in a
 * folder, `KILL_AT=n`. Wraps what the two files of the conversion import, so that production code has no hooks.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const COUNTED = join(import.meta.dir, "counted-fs.ts");

Bun.plugin({
  name: "counted fs",
  setup(build) {
    build.onLoad({ filter: /runtime\/store\/(take-place|earlier-part|going-back)\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace('from "node:fs"', `from ${JSON.stringify(COUNTED)}`),
      loader: "ts",
    }));
  },
});
