/** `godwit run`: the node in the foreground until SIGTERM or SIGINT; SIGHUP reads the configuration anew. */
import pkg from "../../../package.json" with { type: "json" };
import { loadConfig } from "../../config/load.ts";
import { asGodwitError } from "../../kernel/errors.ts";
import { systemClock } from "../../kernel/clock.ts";
import { releaseStartCode } from "../../kernel/memory.ts";
import { createLog, stderrSink } from "../../kernel/log.ts";
import { systemRandom } from "../../kernel/random.ts";
import { startNode } from "../../node.ts";
import { exitCodes, type CommandModule } from "../command.ts";

/** Set by the build. */
declare const GODWIT_VERSION: string | undefined;

/** When what only the start needs has been used. */
const SETTLED_MS = 5_000;
/** A stop that takes longer is a bug; whoever waits for us has waited enough. */
const STOP_MAX_MS = 10_000;

export const run: CommandModule = {
  async run({ option, env }) {
    const readConfig = () => loadConfig({ path: option("config"), env });
    const config = await readConfig();
    const { logLevel, logFormat } = config.node;
    const format = logFormat === "auto" ? (process.stderr.isTTY ? "text" : "json") : logFormat;
    const log = createLog({ level: logLevel, format, clock: systemClock, sink: stderrSink });
    const version = typeof GODWIT_VERSION === "string" ? GODWIT_VERSION : pkg.version;
    const stopAsked = stopSignal();
    const node = await startNode({
      config,
      readConfig,
      clock: systemClock,
      random: systemRandom,
      log,
      version,
    });
    const settled = systemClock.after(SETTLED_MS, () =>
      log.debug("start code released", { bytes: releaseStartCode() }),
    );
    const onHangup = () => {
      node.reload().catch((error: unknown) => {
        log.error("configuration not reloaded; the old one stays in force", { error: asGodwitError(error) });
      });
    };
    process.on("SIGHUP", onHangup);
    const name = await stopAsked;
    process.off("SIGHUP", onHangup);
    settled.cancel();
    log.info("stopping", { signal: name });
    const deadline = systemClock.after(STOP_MAX_MS, () => {
      log.error("stop took too long");
      process.exit(exitCodes.failed);
    });
    try {
      await node.stop();
      log.info("stopped");
      return exitCodes.fine;
    } catch (error) {
      log.error("stopped badly", { error: asGodwitError(error) });
      return exitCodes.failed;
    } finally {
      deadline.cancel();
    }
  },
};

/** The name of the first signal that asks for a stop. A second one ends the process at once, as the system does. */
function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
  });
}
