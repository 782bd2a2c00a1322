/** Pages behind frames, in a Worker and locked in, pass the suite that they pass in the node. */
import { afterAll, beforeAll } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Plugin, PluginContext } from "@godwit/sdk";
import { pagesConformance } from "@godwit/sdk/testkit";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { sdkModules } from "../../runtime/plugin/package/sdk-modules.ts";
import { GUEST_COMMAND, launchProcess, launchWorker } from "../../runtime/plugin/remote/launch.ts";
import { remotePlugin } from "../../runtime/plugin/remote/remote.ts";
import { boardPlugin } from "../../sdk/testkit/broken-pages.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-pages-"));
const board = boardPlugin();
let code: Uint8Array;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  const built = await Bun.build({
    entrypoints: [join(import.meta.dir, "plugin/conforming.ts")],
    target: "bun",
    format: "esm",
    external: [...sdkModules],
  });
  code = new Uint8Array(await built.outputs[0]!.arrayBuffer());
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function remote(level: "contained" | "untrusted"): Plugin {
  const isolated = remotePlugin(board, {
    level,
    code,
    launch: async (ctx) =>
      level === "contained"
        ? launchWorker()
        : launchProcess({
            command: [
              ...[binaryPath, GUEST_COMMAND],
              JSON.stringify({ folder, granted: [], acceptMissing: [], nodePid: process.pid }),
            ],
            log: ctx.log,
            clock: systemClock,
            memoryBytesMax: 2 ** 28,
          }),
  });
  // The suite's own clock stands still, and the far end goes by the machine's.
  const start: Plugin["start"] = (ctx, table) =>
    isolated.start(Object.create(ctx, { clock: { value: systemClock } }) as PluginContext, table);
  return { ...isolated, start };
}

for (const level of ["contained", "untrusted"] as const)
  pagesConformance({
    name: `board, ${level}`,
    setup: () => ({
      plugin: remote(level),
      config: {},
      pages: [
        { path: "/" },
        { path: "/news", isEndless: true },
        { path: "/echo", method: "POST", body: "x".repeat(200_000) },
      ],
    }),
  });
