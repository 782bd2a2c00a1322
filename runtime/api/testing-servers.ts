/** The API on real sockets for tests: a folder, a scope and a fake node for each test, which end with it. */
import { afterEach, beforeEach } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { Scope } from "../kernel/scope.ts";
import { type ApiServerOptions, type ApiServers, startApiServers } from "./server.ts";
import { createRig, type Rig } from "./testing.ts";

export interface ServerRig {
  readonly folder: string;
  readonly scope: Scope;
  readonly rig: Rig;
  /** On one port of loopback that the kernel chooses and a socket in the folder, unless told otherwise; ends with `into`. */
  start(more?: Partial<ApiServerOptions>, into?: Scope): Promise<ApiServers>;
}

/** Called once in a test file: what it answers is another for each test. */
export function useServerRig(): ServerRig {
  let folder: string;
  let scope: Scope;
  let rig: Rig;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "godwit-api-"));
    scope = new Scope("api");
    rig = createRig({ clock: systemClock });
    scope.signal.addEventListener("abort", () => rig.stop.abort());
  });
  afterEach(async () => {
    await scope.close();
    rmSync(folder, { recursive: true });
  });
  return {
    get folder() {
      return folder;
    },
    get scope() {
      return scope;
    },
    get rig() {
      return rig;
    },
    start: (more = {}, into = scope) =>
      startApiServers(
        {
          app: rig.app,
          clock: systemClock,
          log: silentLog,
          metrics: new Metrics(),
          listen: [{ host: "127.0.0.1", port: 0 }],
          socketPath: join(folder, "own.sock"),
          ...more,
        },
        into,
      ),
  };
}
