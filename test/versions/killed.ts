/** A command that is killed at random moments and run again until it is through. */
import { seededRandom } from "../../runtime/kernel/random.ts";

export interface Through {
  readonly kills: number;
  readonly stdout: string;
}

/**
 * The moments lie in order over `withinMs`, each within its part, so that the first kills come early however fast the
 * command is. After `killsMax` it is let run. Throws when a run that nobody killed failed. */
export async function throughKills(
  command: readonly string[],
  killsMax: number,
  { seed, withinMs }: { readonly seed: number; readonly withinMs: number },
): Promise<Through> {
  const random = seededRandom(seed);
  for (let kills = 0; ; kills++) {
    const child = Bun.spawn([...command], { stdout: "pipe", stderr: "pipe", env: { NO_COLOR: "1" } });
    const isLast = kills >= killsMax;
    const timer = isLast
      ? undefined
      : setTimeout(() => child.kill("SIGKILL"), ((kills + random.float()) / killsMax) * withinMs);
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    const code = await child.exited;
    clearTimeout(timer);
    if (child.signalCode === "SIGKILL") continue;
    if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}\n${stderr}`);
    return { kills, stdout };
  }
}
