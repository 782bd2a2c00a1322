/** What plugins stand on: bounds, places, processes, secrets. */
import type { Mutant } from "../mutant.ts";

const places = ["sdk/src/places.test.ts"];
const stream = ["sdk/src/stream-pipe.test.ts"];

export const mutants: readonly Mutant[] = [
  {
    id: "places-of-a-source",
    file: "sdk/src/places.ts",
    find: "if (source !== undefined && own !== undefined && own.count >= perSourceMax) {",
    replace: "if (source === undefined && own !== undefined && own.count >= perSourceMax) {",
    promise: "a crowd of one address costs that address its own places",
    tests: places,
  },
  {
    id: "places-in-all",
    file: "sdk/src/places.ts",
    find: "} else if (this.#count >= max || mustYield) {",
    replace: "} else if (mustYield) {",
    promise: "places are bounded in all",
    tests: places,
  },
  {
    id: "places-of-the-most",
    file: "sdk/src/places.ts",
    find: "one.yielding !== undefined && one.unproven >= own",
    replace: "one.yielding !== undefined",
    promise: "nobody of a source that has less yields to one that has more",
    tests: places,
  },
  {
    id: "places-twice-released",
    file: "sdk/src/places.ts",
    find: "        if (current === undefined) return;\n        current.delete(entry);\n        current = undefined;",
    replace: "        current?.delete(entry);\n        current = undefined;",
    promise: "a place that is given back twice counts once",
    tests: places,
  },
  {
    id: "paced",
    file: "sdk/src/process/paced.ts",
    find: "const TURN_BYTES = 16 * 1024;",
    replace: "const TURN_BYTES = 16 * 1024 * 1024;",
    promise: "a child that floods its output leaves the event loop to others",
    tests: ["sdk/src/process/paced.test.ts"],
  },
  {
    id: "paced-rest",
    file: "sdk/src/process/paced.ts",
    find: "tookMs += clock.monotonicMs() - startMs;",
    replace: "tookMs += 0 * startMs;",
    promise: "the longer what a child writes takes, the longer it waits",
    tests: ["sdk/src/process/paced.test.ts"],
  },
  {
    id: "stream-held",
    file: "sdk/src/stream-pipe.ts",
    find: "if (this.#heldBytes > HELD_BYTES_MAX)",
    replace: "if (this.#heldBytes > 1_000 * HELD_BYTES_MAX)",
    promise: "what comes while nobody reads is bounded",
    tests: stream,
  },
  {
    id: "private-left",
    file: "sdk/src/process/private-file.ts",
    find: "  await rm(fresh, { force: true });\n",
    replace: "",
    promise: "a file that a crash left, perhaps with another's rights, is not written into",
    tests: ["sdk/src/process/private-file.test.ts", "plugins/transport-wireguard/parts.test.ts"],
  },
  {
    id: "private-torn",
    file: "sdk/src/process/private-file.ts",
    find: "const done = earlier.catch(() => {}).then(() => replace(path, content));",
    replace: "const done = Promise.resolve(earlier && undefined).then(() => replace(path, content));",
    promise: "writes to one path go one after the other",
    tests: ["sdk/src/process/private-file.test.ts", "plugins/transport-wireguard/parts.test.ts"],
  },
  {
    id: "dial-late",
    file: "sdk/src/tcp/dial.ts",
    find: "          if (isOver) return seams.discard(connection);\n",
    replace: "          if (isOver) return;\n",
    promise: "a connection that came too late is closed",
    tests: ["plugins/transport-tcp/index.test.ts"],
  },
  {
    id: "dial-addresses",
    file: "sdk/src/tcp/dial.ts",
    find: "return [...new Set(out)].slice(0, ADDRESSES_MAX);",
    replace: "return [...new Set(out)];",
    promise: "of a name a bounded number of addresses is tried",
    tests: ["sdk/src/tcp/dial.test.ts"],
  },
];
