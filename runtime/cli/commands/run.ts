/** `godwit run`: the node in the foreground until a signal asks it to stop; SIGHUP reads the configuration anew. */
import pkg from "../../../package.json" with { type: "json" };
import { existsSync } from "node:fs";
import type { Log } from "@godwit/sdk";
import { type Config, loadConfig, parseConfig } from "../../config/load.ts";
import { unheardOf } from "../../config/old-variables.ts";
import { Backoff } from "../../kernel/backoff.ts";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { shortId } from "../../kernel/ids.ts";
import { every, sleep, systemClock } from "../../kernel/clock.ts";
import { forbidCoreDumps } from "../../init/core-dumps.ts";
import { releaseStartCode } from "../../kernel/memory.ts";
import { giveBackAfterWork } from "../../kernel/rest.ts";
import { takeListeners } from "../../init/activation.ts";
import { openNotifier, Service } from "../../init/notify.ts";
import { createColours, wantsColour } from "../../kernel/colours.ts";
import { autoFormat, createLog, type LogSettings, stderrSinkFor } from "../../kernel/log.ts";
import { RecentLog } from "../../kernel/recent-log.ts";
import { systemRandom } from "../../kernel/random.ts";
import { compileAfterStart } from "../../kernel/start-code.ts";
import { type GodwitNode, startNode } from "../../node/node.ts";
import { exitCodes, type CommandModule } from "../command.ts";
import { readInvitation } from "../invitation.ts";
import { joinByToken, joinConfigPath } from "../joining.ts";
import { type NodeSignals, nodeSignals } from "../signals.ts";

/** Set by the build. */
declare const GODWIT_VERSION: string | undefined;

type Environment = Readonly<Record<string, string | undefined>>;

/** Between attempts of a first start to join. */
const JOIN_BACKOFF = { firstMs: 1_000, capMs: 60_000, factor: 2 } as const;
/** One attempt to join and the pause after it take less; a service manager is asked for as much each time. */
const JOIN_ATTEMPT_MAX_MS = 300_000;
/** When what only the start needs has been used. */
const SETTLED_MS = 5_000;
/** A stop that takes longer is a bug; whoever waits for us has waited enough. */
const STOP_MAX_MS = 10_000;

const IMPORT_ADVICE =
  "godwit config import --env makes a configuration of them; docs/moving.md says what each is called here";

export const run: CommandModule = {
  async run({ option, env }) {
    const signals = nodeSignals();
    const dumpable = forbidCoreDumps();
    const token = option("join") ?? env["GODWIT_JOIN"];
    if (token) await firstStart(token, option("config"), env, signals);
    const readConfig = await configReader(option("config"), option("telex-config"), env);
    const config = await readConfig();
    const recent = new RecentLog(systemClock);
    const logged = {
      ...logSettings(config.node, env),
      clock: systemClock,
      sink: stderrSinkFor(env),
      recent,
      colours: coloursOf(env),
    };
    const log = createLog(logged);
    const notifier = openNotifier(env, log);
    const version = typeof GODWIT_VERSION === "string" ? GODWIT_VERSION : pkg.version;
    if (dumpable !== undefined) log.warn("keys may get into core dumps", { reason: dumpable });
    const unheard = unheardOf(env, config.origin.document);
    if (unheard.length > 0)
      log.warn("variables of another system are set, and not read", {
        variables: unheard.join(" "),
        advice: IMPORT_ADVICE,
      });
    if (process.pid === 1) await reapOrphans(log);
    const node = await startNode({
      config,
      readConfig,
      clock: systemClock,
      random: systemRandom,
      log,
      recent,
      applyLog: (changed) => void Object.assign(logged, logSettings(changed, env)),
      version,
      passed: takeListeners(env, process.pid),
    });
    const service = new Service({
      notifier,
      env,
      pid: process.pid,
      clock: systemClock,
      log,
      pulse: { isHealthy: () => node.view.health().status !== "down", status: () => statusLine(node) },
    });
    service.ready();
    compileAfterStart(systemClock);
    const settled = systemClock.after(SETTLED_MS, () =>
      log.debug("start code released", { bytes: releaseStartCode() }),
    );
    const rest = giveBackAfterWork(systemClock);
    signals.onHangup(() => {
      service
        .reloading(() => node.reload())
        .catch((error: unknown) => {
          log.error("configuration not reloaded; the old one stays in force", {
            error: asGodwitError(error),
          });
        });
    });
    const name = await signals.stopped;
    // Nothing is read anew for a node that goes.
    signals.onHangup(() => {});
    settled.cancel();
    rest.cancel();
    service.stopping();
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
      notifier.close();
    }
  },
};

/** Reads the configuration, now and at each reload: Godwit's own, or the file of a Project Telex node, in which nothing is ever changed. */
async function configReader(
  path: string | undefined,
  telexPath: string | undefined,
  env: Environment,
): Promise<() => Promise<Config>> {
  if (telexPath === undefined) return () => loadConfig({ path, env });
  if (path !== undefined)
    throw godwitError("GODWIT_USAGE", "--telex-config is read in the place of --config: name one of them");
  const { telexConfig } = await import("./import-telex.ts");
  return async () => parseConfig(telexConfig(telexPath, env, []), { path: telexPath, format: "toml", env });
}

const coloursOf = (env: Environment) => createColours(wantsColour(process.stderr.isTTY, env));

const logSettings = ({ logLevel, logFormat }: Config["node"], env: Environment): LogSettings => ({
  level: logLevel,
  format: logFormat === "auto" ? autoFormat(env) : logFormat,
});

/** What `systemctl status` shows. */
function statusLine({ view }: GodwitNode): string {
  const { peers, members, queue } = view.status();
  const faults = view.health().checks.filter((check) => check.status !== "ok");
  return [
    `${peers.connected} peers linked`,
    `${members.alive} nodes alive`,
    `${queue.messages} messages queued`,
    ...faults.map(({ name, status, reason }) => `${name} ${status}: ${reason}`),
  ].join(", ");
}

/**
 * An image's first start has nothing but a token. It tries until it is in or knows that it never will be; every later
 * start finds its configuration and asks nobody.
 */
async function firstStart(
  token: string,
  named: string | undefined,
  env: Environment,
  signals: NodeSignals,
): Promise<void> {
  const format = autoFormat(env);
  const sink = stderrSinkFor(env);
  const log = createLog({ level: "info", format, clock: systemClock, sink, colours: coloursOf(env) });
  const configPath = joinConfigPath(named, env);
  if (existsSync(configPath))
    return log.info("invitation not needed", { reason: `${configPath} is there already` });
  // It may take days until somebody answers.
  compileAfterStart(systemClock);
  const line = readInvitation(token, env);
  const backoff = new Backoff(JOIN_BACKOFF, systemRandom);
  const notifier = openNotifier(env, log);
  const stop = new AbortController();
  void signals.stopped.then(() =>
    stop.abort(godwitError("GODWIT_STOPPED", "stopped before the node had joined")),
  );
  try {
    for (;;) {
      // A start that waits for a member is no start that hangs.
      notifier.send(["STATUS=joining by invitation", `EXTEND_TIMEOUT_USEC=${JOIN_ATTEMPT_MAX_MS * 1_000}`]);
      try {
        const { id, member, config } = await joinByToken({
          token: line,
          configPath,
          callsign: undefined,
          stateDir: undefined,
          env,
          clock: systemClock,
          random: systemRandom,
          log,
          signal: stop.signal,
        });
        return log.info("joined", { id: shortId(id), member: shortId(member), config });
      } catch (thrown) {
        const error = asGodwitError(thrown);
        if (error.retry === "never" || stop.signal.aborted) throw error;
        const pauseMs = backoff.nextMs();
        log.warn("not joined yet", { error, again_in_seconds: Math.round(pauseMs / 1_000) });
        await sleep(systemClock, pauseMs, stop.signal);
      }
    }
  } finally {
    notifier.close();
  }
}

/** The first process of a container gets the orphans of all others in it. Loaded by that one alone. */
async function reapOrphans(log: Log): Promise<void> {
  const [{ ORPHAN_LOOK_MS, OrphanReaper }, { openSys }] = await Promise.all([
    import("../../init/orphans.ts"),
    import("../../init/sys.ts"),
  ]);
  const reaper = new OrphanReaper(openSys());
  every(systemClock, ORPHAN_LOOK_MS, () => {
    const count = reaper.look();
    if (count > 0) log.debug("orphans reaped", { count });
  });
}
