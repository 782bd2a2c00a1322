/** What a service manager and a container engine see of a node: from start to ready and healthy, and how long a stop takes. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { root, run } from "../../scripts/lib.ts";
import { Engine, missing as noEngine } from "../container/engine.ts";
import { Machine, missing as noMachine } from "../systemd/machine.ts";
import type { Bench, Measure } from "./bench.ts";

const LOOK_MS = 5;
const BINARY = "/usr/local/bin/godwit";

/** Seconds of systemd's monotonic clock, in ms. */
async function underSystemd(runs: number): Promise<Record<string, number[]>> {
  const machine = await Machine.boot();
  const samples: Record<string, number[]> = { ready: [], stopped: [] };
  try {
    await machine.must("/root/godwit", "install", "--systemd");
    const ms = async (from: string, to: string) => {
      const shown = await machine.show("godwit.service", from, to);
      return (Number(shown[to]) - Number(shown[from])) / 1_000;
    };
    for (let i = 0; i < runs; i++) {
      await machine.must("systemctl", "start", "godwit.service");
      samples["ready"]!.push(await ms("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"));
      await machine.must("systemctl", "stop", "godwit.service");
      samples["stopped"]!.push(await ms("ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic"));
    }
    return samples;
  } finally {
    await machine.close();
  }
}

async function inContainers(runs: number): Promise<Record<string, number[]>> {
  const engine = await Engine.start();
  const samples: Record<string, number[]> = { healthy: [], stopped: [], archive: [] };
  try {
    await run([process.execPath, "scripts/image.ts", "container", "--out", engine.dir], { cwd: root });
    samples["archive"]!.push(statSync(join(engine.dir, "godwit.oci.tar")).size / 2 ** 20);
    await engine.must("load", "--input", join(engine.dir, "godwit.oci.tar"));
    for (let i = 0; i < runs; i++) {
      const startMs = performance.now();
      await engine.must(
        ...["run", "--detach", "--name", "node", "--no-healthcheck", "--cgroups=disabled"],
        ...["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
        ...["--network=none", "localhost/godwit:latest"],
      );
      while ((await engine.podman("exec", "node", BINARY, "health")).code !== 0) await Bun.sleep(LOOK_MS);
      samples["healthy"]!.push(performance.now() - startMs);
      const stopMs = performance.now();
      await engine.must("stop", "--time", "15", "node");
      samples["stopped"]!.push(performance.now() - stopMs);
      await engine.must("rm", "--volumes", "node");
    }
    return samples;
  } finally {
    await engine.close();
  }
}

export const service: Bench = {
  name: "service",
  row: 16,
  how:
    "systemd in nspawn: from the start of the process to READY=1, and from the order to stop to its end, by systemd's clock; " +
    "podman: `podman run` until `podman exec NODE godwit health` is 0, and `podman stop`, both with what podman itself takes",
  async run({ runs, note }) {
    const why = noMachine ?? noEngine;
    if (why !== undefined) throw new Error(`service ${why}`);
    const systemd = await underSystemd(runs);
    note("systemd measured");
    const container = await inContainers(runs);
    const line = (what: string, unit: string, values: readonly number[] = []): Measure => ({
      what,
      unit,
      values,
    });
    return [
      line("systemd: process to READY", "ms", systemd["ready"]),
      line("systemd: stop", "ms", systemd["stopped"]),
      line("container: run to healthy", "ms", container["healthy"]),
      line("container: stop", "ms", container["stopped"]),
      line("container: OCI archive", "MiB", container["archive"]),
    ];
  },
};
