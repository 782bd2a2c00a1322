/**
 * `attack-run GODWIT PACKAGE`: every attack on the kernel that it runs on, one line of JSON each and a verdict. One file when
 * compiled (`bun test/sandbox/attack-run.ts --build FOLDER` makes it and the package), so that a guest without Bun runs it:
 *
 *   attack-run /bin/godwit /attacks.gwp [--accept landlock-net,...] [--report URL]     exit code 0: none worked
 *
 * `--report`: all lines at the end as one JSON list, posted there; a machine's console loses lines and mixes them.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ENDINGS } from "./attack-list.ts";
import { AttackNode, tryAll } from "./attack-node.ts";

/** Attacks that show that the harmless ones work where nothing stops them; on any machine. */
const CONTROL = [
  "read_secret",
  "write_outside",
  "tcp_socket",
  "udp_socket",
  "spawn",
  "signal_parent",
] as const;

const say = (line: object): void => console.log(JSON.stringify(line));

async function build(folder: string): Promise<void> {
  const { bundle, encode } = await import("./lab.ts");
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, "attacks.gwp"),
    encode({ id: "attacks", namespace: "service", code: await bundle("attacks") }),
  );
  const built = Bun.spawnSync([
    process.execPath,
    "build",
    "--compile",
    "--minify",
    `--outfile=${join(folder, "attack-run")}`,
    import.meta.path,
  ]);
  if (built.exitCode !== 0) throw new Error(built.stderr.toString());
}

async function main(words: readonly string[]): Promise<number> {
  if (words[0] === "--build") {
    await build(words[1]!);
    return 0;
  }
  const { values, positionals } = parseArgs({
    args: [...words],
    options: { accept: { type: "string" }, report: { type: "string" } },
    allowPositionals: true,
  });
  const [godwit = "", path = ""] = positionals;
  const plugin = new Uint8Array(readFileSync(path));
  const extra =
    values.accept === undefined
      ? ""
      : `accept_missing = ${JSON.stringify(values.accept.split(",").filter(Boolean))}`;
  let bad = 0;
  const judged: object[] = [];
  const judge = (attack: string, result: string, isGood: boolean) => {
    if (!isGood) bad++;
    const row = { attack, result, ok: isGood };
    judged.push(row);
    say(row);
  };
  for (const [name, result] of await tryAll({ godwit, plugin, trust: "untrusted", extra }))
    judge(name, result, result.startsWith("failed"));
  const control = await tryAll({ godwit, plugin, trust: "trusted", control: true });
  for (const name of CONTROL) {
    const result = control.get(name) ?? "not tried";
    judge(`control ${name}`, result, result.startsWith("worked"));
  }
  for (const { name, reason } of ENDINGS) {
    const node = await AttackNode.start({ godwit, plugin, trust: "untrusted", extra }, { [name]: [name] });
    try {
      const failed = await node.until(
        `the end of ${name}`,
        ({ event }) => event === "plugin failed",
        120_000,
      );
      const { text } = await node.health();
      judge(
        name,
        failed.reason ?? "",
        reason.test(failed.reason ?? "") && node.isAlive && text.includes(name),
      );
    } catch (error) {
      judge(name, String(error).slice(0, 500), false);
    } finally {
      await node.stop();
    }
  }
  if (values.report !== undefined) {
    const { status } = await fetch(values.report, { method: "POST", body: JSON.stringify(judged) });
    if (status !== 200) throw new Error(`${values.report} answered ${status}`);
  }
  say({ verdict: bad === 0 ? "held" : "broken", bad });
  return bad === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
