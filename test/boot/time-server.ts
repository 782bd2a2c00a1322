/** A real time server, chrony, that leaves this machine's clock alone. Taken out of its package, because installing it would start it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PackageRoot } from "../../scripts/images/packages.ts";
import { Steps } from "../../scripts/steps.ts";
import { freePort } from "../../scripts/lab.ts";

export interface TimeServer extends AsyncDisposable {
  /** On loopback; nobody answers there before `start`. */
  readonly port: number;
  start(): void;
}

export async function startTimeServer(): Promise<TimeServer> {
  const arch = process.arch === "arm64" ? "arm64" : "x64";
  const { folder } = await new PackageRoot(arch, new Steps(undefined)).get("chrony");
  const port = freePort();
  const work = mkdtempSync(join(tmpdir(), "godwit-chrony-"));
  const lines = ["local stratum 5", "allow all", "cmdport 0", "bindaddress 127.0.0.1"];
  const config = join(work, "chrony.conf");
  writeFileSync(config, `${[...lines, `port ${port}`, `pidfile ${join(work, "pid")}`].join("\n")}\n`);
  let child: Bun.Subprocess | undefined;
  return {
    port,
    start() {
      // -x: never touches the clock; -d: stays in the foreground.
      child = Bun.spawn([join(folder, "usr/sbin/chronyd"), "-d", "-x", "-u", "root", "-f", config], {
        stdin: "ignore",
        stdout: "ignore",
        stderr: "ignore",
      });
    },
    async [Symbol.asyncDispose]() {
      child?.kill();
      await child?.exited;
      rmSync(work, { recursive: true, force: true });
    },
  };
}
