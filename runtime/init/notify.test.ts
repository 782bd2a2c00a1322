import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { openNotifier, Service, socketAddress, watchdogIntervalMs } from "./notify.ts";
import { NotifySocket } from "./testing.ts";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-notify-"))));
afterEach(() => rmSync(folder, { recursive: true }));

describe("the notification socket", () => {
  for (const kind of ["a path", "an abstract name"])
    test(`hears datagrams under ${kind}`, () => {
      const name = kind === "a path" ? join(folder, "notify") : `@${folder.slice(1)}`;
      const manager = new NotifySocket(name);
      const notifier = openNotifier({ NOTIFY_SOCKET: name }, silentLog);
      expect(notifier.isHeard).toBe(true);
      expect(notifier.send(["READY=1", "STATUS=here"])).toBe(true);
      expect(manager.received()).toEqual([["READY=1", "STATUS=here"]]);
      notifier.send(["RELOADING=1"]);
      const [[first, second]] = manager.received() as [[string, string]];
      expect(first).toBe("RELOADING=1");
      expect(second).toMatch(/^MONOTONIC_USEC=\d+$/);
      notifier.close();
      expect(notifier.send(["WATCHDOG=1"])).toBe(false);
      manager.close();
    });

  test("a manager that is gone, or none, or of another kind, is no failure", () => {
    const gone = openNotifier({ NOTIFY_SOCKET: join(folder, "nobody") }, silentLog);
    expect(gone.send(["READY=1"])).toBe(false);
    gone.close();
    for (const env of [{}, { NOTIFY_SOCKET: "" }, { NOTIFY_SOCKET: "vsock:2:1234" }, { NOTIFY_SOCKET: "x" }])
      expect(openNotifier(env, silentLog).isHeard).toBe(false);
  });

  test("addresses end as the kernel wants them, and fit", () => {
    expect([...socketAddress("/a")!]).toEqual([1, 0, 0x2f, 0x61, 0]);
    expect([...socketAddress("@a")!]).toEqual([1, 0, 0, 0x61]);
    expect(socketAddress(`/${"a".repeat(106)}`)).toHaveLength(110);
    expect(socketAddress(`/${"a".repeat(107)}`)).toBeUndefined();
  });
});

test("the watchdog's interval is ours only when it is meant for this process", () => {
  expect(watchdogIntervalMs({ WATCHDOG_USEC: "30000000" }, 7)).toBe(30_000);
  expect(watchdogIntervalMs({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "7" }, 7)).toBe(30_000);
  expect(watchdogIntervalMs({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "8" }, 7)).toBeUndefined();
  for (const text of [undefined, "", "0", "-5", "1e9", "many"])
    expect(watchdogIntervalMs({ WATCHDOG_USEC: text }, 7)).toBeUndefined();
});

describe("a service", () => {
  function rig(env: Record<string, string> = {}) {
    const clock = new ManualClock();
    const sent: string[][] = [];
    const node = { isHealthy: true, status: "0 peers" };
    const service = new Service({
      notifier: { isHeard: true, send: (lines) => (sent.push([...lines]), true), close() {} },
      env,
      pid: 7,
      clock,
      log: silentLog,
      pulse: { isHealthy: () => node.isHealthy, status: () => node.status },
    });
    const take = () => sent.splice(0).flat();
    return { clock, node, service, take };
  }

  test("says READY once, and its status only when it changed", async () => {
    const { clock, node, service, take } = rig();
    service.ready();
    expect(take()).toEqual(["READY=1", "STATUS=0 peers"]);
    await clock.advance(10_000);
    expect(take()).toEqual([]);
    node.status = "1 peer\nWATCHDOG=trigger";
    await clock.advance(2_000);
    // What names and reasons of others contain cannot become a field of ours.
    expect(take()).toEqual(["STATUS=1 peer WATCHDOG=trigger"]);
  });

  test("feeds the watchdog three times an interval, while healthy and no longer", async () => {
    const { clock, node, service, take } = rig({ WATCHDOG_USEC: "3000000" });
    service.ready();
    await clock.advance(3_000);
    expect(take().filter((line) => line === "WATCHDOG=1")).toHaveLength(4);
    node.isHealthy = false;
    await clock.advance(30_000);
    expect(take()).not.toContain("WATCHDOG=1");
    node.isHealthy = true;
    await clock.advance(1_000);
    expect(take()).toContain("WATCHDOG=1");
  });

  test("a reload that fails is over all the same; after STOPPING nothing is said", async () => {
    const { clock, service, take } = rig({ WATCHDOG_USEC: "3000000" });
    service.ready();
    take();
    await expect(service.reloading(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    await Promise.resolve();
    await Promise.resolve();
    expect(take()).toEqual(["RELOADING=1", "READY=1"]);
    service.stopping();
    service.stopping();
    expect(take()).toEqual(["STOPPING=1", "STATUS=stopping"]);
    await clock.advance(60_000);
    expect(take()).toEqual([]);
  });
});
