/** `godwit install --systemd` and its undo. Works without a node; needs the right to write where it writes. */
import { existsSync, realpathSync } from "node:fs";
import { resolve } from "node:path";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { manual } from "../manual.ts";
import { install as installFiles, places, type Step, uninstall } from "../installing.ts";
import { versionText } from "./version.ts";

/** Where systemd says that it is the one that runs: sd_booted(3). */
const BOOTED = "/run/systemd/system";
const SYSTEMCTL_TIMEOUT_MS = 60_000;
/** Bun's name for the files inside a compiled binary. */
const EMBEDDED = "/$bunfs/";

export const install: CommandModule = {
  async run(context) {
    const { isSet } = context;
    if (!isSet("systemd")) throw godwitError("GODWIT_USAGE", "say for what: godwit install --systemd");
    if (isSet("purge") && !isSet("undo")) throw godwitError("GODWIT_USAGE", "--purge goes with --undo");
    const root = existing(context.option("root") ?? "/");
    const isDryRun = isSet("dry-run");
    // A tree is only files: whoever boots it finds them.
    const isLive = root === "/";
    if (isLive && !isDryRun && !existsSync(BOOTED))
      throw godwitError(
        "GODWIT_USAGE",
        "systemd does not run here; --root DIR installs into the tree of an image",
      );
    const run = isLive && !isDryRun ? systemctl : () => Promise.resolve();
    return isSet("undo") ? await undo(context, root, isDryRun, run) : await put(context, root, isDryRun, run);
  },
};

type Systemctl = (...words: string[]) => Promise<void>;

async function put(context: CommandContext, root: string, isDryRun: boolean, run: Systemctl) {
  const withSocket = context.isSet("api");
  const page = manual(context.commands, versionText());
  const steps = installFiles({ root, binary: ownBinary(), manual: page, withSocket, isDryRun });
  await run("daemon-reload");
  const units = withSocket ? "godwit.socket godwit.service" : "godwit.service";
  report(
    context,
    root,
    steps,
    root === "/" ? `next: edit ${places.config}, then systemctl start ${units}` : "",
  );
  return exitCodes.fine;
}

async function undo(context: CommandContext, root: string, isDryRun: boolean, run: Systemctl) {
  const isPurge = context.isSet("purge");
  const wish = { root, isPurge, isDryRun };
  // Before anything is stopped: is there anything to undo?
  uninstall({ ...wish, isDryRun: true });
  const hasSocket = existsSync(places.socket);
  await run("stop", ...(hasSocket ? ["godwit.socket"] : []), "godwit.service");
  const steps = uninstall(wish);
  await run("daemon-reload");
  report(context, root, steps, isPurge ? "" : `kept: ${places.config} and the state; --purge removes them`);
  return exitCodes.fine;
}

function report(context: CommandContext, root: string, steps: readonly Step[], next: string): void {
  const below = root === "/" ? "" : root;
  context.io.stdout(
    context.isJson
      ? `${JSON.stringify({ root, dry_run: context.isSet("dry-run"), steps })}\n`
      : [
          ...steps.map(({ change, path }) => `${change}: ${below}${path}`),
          ...(next === "" ? [] : [next]),
          "",
        ].join("\n"),
  );
}

function ownBinary(): string {
  if (!Bun.main.startsWith(EMBEDDED))
    throw godwitError("GODWIT_USAGE", "run from source there is nothing to install: bun run build");
  return realpathSync(process.execPath);
}

function existing(root: string): string {
  const path = resolve(root);
  if (!existsSync(path)) throw godwitError("GODWIT_USAGE", `there is no folder ${path}`);
  return path;
}

async function systemctl(...words: string[]): Promise<void> {
  const child = Bun.spawn(["systemctl", ...words], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    timeout: SYSTEMCTL_TIMEOUT_MS,
  });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0)
    throw godwitError("GODWIT_STATE_UNUSABLE", `systemctl ${words.join(" ")} failed: ${said.trim()}`);
}
