/** Where a plugin runs and what it is given there, by its table and its origin. Whatever would run is a program of the machine that shows what it got. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Plugin, PluginContext } from "@godwit/sdk";
import { z } from "zod/mini";
import { systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { Scope } from "../kernel/scope.ts";
import type { PluginInstance } from "./host/instance.ts";
import {
  createIsolation,
  judgeFolder,
  type InstalledCode,
  levelOf,
  pluginDoorPolicy,
  pluginEnginePolicy,
  pluginNetPolicy,
  pluginPagesReach,
  pluginRegisterPolicy,
  pluginSerialPolicy,
  type TrustLevel,
} from "./isolation.ts";
import type { PluginPackage } from "./package/package.ts";
import { FOLDER_BYTES_MAX, FOLDER_ENTRIES_MAX } from "./sandbox/protections.ts";
import type { SandboxOrder } from "./sandbox/order.ts";

/** In memory where that is: thousands of files take seconds on a busy disk. */
const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
const root = mkdtempSync(join(base, "godwit-isolation-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const scopes: Scope[] = [];
afterEach(async () => {
  for (const scope of scopes.splice(0)) await scope.close().catch(() => {});
});

const ASKED = [
  ...["broker.connect:*:*", "broker.listen:*", "broker.udp:*", "serial:*", "discovery"],
  ...["service:radio", "service.offer:radio", "http.pages.public", "engine.members", "engine.streams"],
];
const own: Plugin = {
  ...{ id: "own", namespace: "transport", sdk: "^0.1.0", permissions: ASKED, config: z.strictObject({}) },
  start() {},
};
const installed = (
  code = new Uint8Array(0),
  runtime: "bun" | "exec" = "bun",
  hash = "a".repeat(64),
): InstalledCode => ({
  ...own,
  package: {
    manifest: { id: "theirs", version: "1.0.0", runtime },
    publisher: "p",
    code: Buffer.from(code),
    hash,
  } as unknown as PluginPackage,
});
const table = (trust?: TrustLevel, grant: readonly string[] = []): PluginInstance => ({
  ...{ namespace: "transport", name: "mine", type: "own", options: {}, grant },
  ...(trust === undefined ? {} : { trust }),
});

describe("what is not trusted gets what was granted, and nothing else:", () => {
  for (const level of ["contained", "untrusted"] as const)
    test(level, () => {
      const plugin = installed();
      const bare = table(level);
      const net = pluginNetPolicy(plugin, bare);
      expect([net.mayConnect("192.0.2.1", 1), net.mayListen(1), net.mayDatagrams(1)]).toEqual([
        false,
        false,
        false,
      ]);
      expect(pluginSerialPolicy(plugin, bare).mayOpen("/dev/ttyACM0")).toBe(false);
      expect(pluginRegisterPolicy(plugin, bare).isTrusted).toBe(false);
      expect(pluginRegisterPolicy(plugin, bare).may("discovery")).toBe(false);
      const door = pluginDoorPolicy(plugin, bare);
      expect([door.mayUse("radio"), door.mayOffer("radio")]).toEqual([false, false]);
      expect(pluginEnginePolicy(plugin, bare)).toEqual({ mayReadMembers: false, mayStream: false });
      expect(pluginPagesReach(plugin, bare)).toBeUndefined();

      const given = table(level, [
        ...["broker.listen:80", "serial:/dev/ttyACM0", "discovery", "service:radio", "http.pages"],
        ...["engine.members", "broker.connect:a.example:1", "files.read:/etc"],
      ]);
      expect([1, 80].map((port) => pluginNetPolicy(plugin, given).mayListen(port))).toEqual([false, true]);
      expect(pluginNetPolicy(plugin, given).mayConnect("a.example", 1)).toBe(true);
      expect(pluginSerialPolicy(plugin, given).mayOpen("/dev/ttyACM0")).toBe(true);
      expect(pluginSerialPolicy(plugin, given).mayOpen("/dev/ttyACM1")).toBe(false);
      expect(pluginRegisterPolicy(plugin, given).may("discovery")).toBe(true);
      expect(pluginRegisterPolicy(plugin, given).isTrusted).toBe(false);
      expect(pluginDoorPolicy(plugin, given).mayUse("radio")).toBe(true);
      expect(pluginDoorPolicy(plugin, given).mayOffer("radio")).toBe(false);
      expect(pluginEnginePolicy(plugin, given)).toEqual({ mayReadMembers: true, mayStream: false });
      expect(pluginPagesReach(plugin, given)).toBe("local");
    });
});

test("what is trusted may all, but lets strangers into its pages only where that was granted", () => {
  for (const [plugin, instance] of [
    [own, table()],
    [installed(), table("trusted")],
  ] as const) {
    expect(pluginNetPolicy(plugin, instance).mayConnect("192.0.2.1", 1)).toBe(true);
    expect(pluginSerialPolicy(plugin, instance).mayOpen("/dev/ttyACM0")).toBe(true);
    expect(pluginRegisterPolicy(plugin, instance).isTrusted).toBe(true);
    expect(pluginDoorPolicy(plugin, instance).mayUse("radio")).toBe(true);
    expect(pluginEnginePolicy(plugin, instance)).toEqual({ mayReadMembers: true, mayStream: true });
    expect(pluginPagesReach(plugin, instance)).toBe("local");
    expect(pluginPagesReach(plugin, { ...instance, grant: ["http.pages.public"] })).toBe("public");
  }
});

test("a plugin of others runs untrusted where its table says nothing, and one of Godwit's in the node", () => {
  expect([levelOf(own, {}), levelOf(installed(), {}), levelOf(installed(), { trust: "contained" })]).toEqual([
    "trusted",
    "untrusted",
    "contained",
  ]);
});

test("what cannot run as its table says is refused before it starts", () => {
  const isolate = createIsolation(root);
  const refusal = expect.objectContaining({ code: "GODWIT_CONFIG_INVALID" });
  const attempt = (plugin: Plugin, trust: TrustLevel): unknown => {
    try {
      return isolate(plugin, table(trust)) === plugin ? "in the node" : "elsewhere";
    } catch (error) {
      return error;
    }
  };
  const program = installed(new Uint8Array(1), "exec");
  expect((["trusted", "contained", "untrusted"] as const).map((trust) => attempt(own, trust))).toEqual([
    "in the node",
    refusal,
    refusal,
  ]);
  expect((["trusted", "contained", "untrusted"] as const).map((trust) => attempt(program, trust))).toEqual([
    refusal,
    refusal,
    "elsewhere",
  ]);
  expect(
    (["trusted", "contained", "untrusted"] as const).map((trust) => attempt(installed(), trust)),
  ).toEqual(["in the node", "elsewhere", "elsewhere"]);
});

/** Runs what would run in place of the plugin: a shell that keeps the order it was given. Answers that, and what it was told in the end. */
async function order(
  plugin: InstalledCode,
  instance: PluginInstance,
  stateDir: string,
): Promise<SandboxOrder> {
  const kept = join(stateDir, "order.json");
  const scope = new Scope("plugin", { onFailure() {} });
  scopes.push(scope);
  const folder = join(stateDir, "folder");
  mkdirSync(folder, { recursive: true });
  // Its installation made it.
  mkdirSync(join(stateDir, "plugins/theirs/1.0.0"), { recursive: true });
  const ctx = {
    ...{ clock: systemClock, log: silentLog, instance: "mine" },
    folder: async () => folder,
    counter: () => ({ add() {} }),
    gauge: () => ({ set() {} }),
    network: { addresses: () => [], refusal: () => undefined, onChange() {} },
    own: (dispose: () => void) => scope.own(dispose),
    spawn: (name: string, task: (signal: AbortSignal) => Promise<void>) => scope.spawn(name, task),
  } as unknown as PluginContext;
  const isolate = createIsolation(stateDir, ["/bin/sh", "-c", `printf '%s' "$1" > ${kept}; exit 9`]);
  // It says no hello, and ends.
  await expect(
    Promise.resolve(isolate(plugin, instance).start(ctx, {})).then(() => "it ran"),
  ).rejects.toMatchObject({ message: "its process ended with exit code 9" });
  return JSON.parse(readFileSync(kept, "utf8")) as SandboxOrder;
}
const stateDir = (): string => mkdtempSync(join(root, "state-"));

test("the sandbox lets through what was granted of what was asked for, and not the rest of either", async () => {
  const { granted, exec } = await order(
    installed(),
    table(undefined, ["broker.listen:80", "files.read:/etc"]),
    stateDir(),
  );
  expect(granted).toEqual([{ kind: "broker.listen", port: 80 }]);
  expect(exec).toBeUndefined();
});

describe("a program of its own", () => {
  const code = Buffer.from("#!/bin/sh\nexit 0\n");
  const program = installed(code, "exec", "b".repeat(64));

  test("is written where everybody may read and run it, and nobody change it", async () => {
    const { exec } = await order(program, table(), stateDir());
    expect(readFileSync(exec!)).toEqual(code);
    expect(statSync(exec!).mode & 0o777).toBe(0o555);
  });

  test.each([
    [
      "other bytes of the same length",
      (path: string) => writeFileSync(path, code.toString().replace("0", "1")),
      0o555,
    ],
    ["fewer bytes", (path: string) => truncateSync(path, 4), 0o555],
    ["the right bytes that others may change", () => {}, 0o777],
  ])("that was changed is the verified one again before it runs: %s", async (_name, change, mode) => {
    const dir = stateDir();
    const { exec } = await order(program, table(), dir);
    chmodSync(exec!, 0o755);
    change(exec!);
    chmodSync(exec!, mode);
    await order(program, table(), dir);
    expect(readFileSync(exec!)).toEqual(code);
    expect(statSync(exec!).mode & 0o777).toBe(0o555);
  });

  test("that is there already is not written again: a full disk keeps nothing from starting", async () => {
    const dir = stateDir();
    const { exec } = await order(program, table(), dir);
    const { ino, mtimeMs } = statSync(exec!);
    await order(program, table(), dir);
    expect([statSync(exec!).ino, statSync(exec!).mtimeMs]).toEqual([ino, mtimeMs]);
    expect(readdirSync(join(exec!, "..")).length).toBe(1);
  });
});

test.each([
  [
    "holds too much",
    (folder: string) => writeFileSync(join(folder, "big"), Buffer.alloc(FOLDER_BYTES_MAX + 4_096)),
    "MiB",
  ],
  [
    "has too many files",
    (folder: string) => {
      mkdirSync(join(folder, "deep"));
      for (let i = 0; i < FOLDER_ENTRIES_MAX; i++) writeFileSync(join(folder, "deep", String(i)), "");
    },
    "files",
  ],
])("a plugin whose folder %s is told to end", async (_name, fill, word) => {
  const dir = stateDir();
  await order(installed(), table(), dir);
  const found = await judgeFolder(join(dir, "folder"));
  expect(found).toBeUndefined();
  fill(join(dir, "folder"));
  expect(await judgeFolder(join(dir, "folder"))).toContain(word);
  rmSync(dir, { recursive: true });
});
