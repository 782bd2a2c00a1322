/**
 * A hostile plugin at the level "untrusted" on this machine's kernel: every attack is tried by a real plugin of a real node, and
 * each is a test that fails if the attack works. The same plugin, trusted, shows that the harmless ones work where nothing
 * stops them, so that it is the sandbox that does.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { ATTACK_NAMES, CONTROLLED, ENDINGS } from "./attack-list.ts";
import { AttackNode, type Trust, tryAll } from "./attack-node.ts";
import { bundle, encode } from "./lab.ts";

let plugin: Uint8Array;
let launchers: string;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  plugin = encode({ id: "attacks", namespace: "service", code: await bundle("attacks") });
  launchers = mkdtempSync(join(tmpdir(), "godwit-no-landlock-"));
});
afterAll(() => rmSync(launchers, { recursive: true }));
const options = (trust: Trust, control = false) => ({ godwit: binaryPath, plugin, trust, control });

describe("untrusted", () => {
  let results: ReadonlyMap<string, string>;
  beforeAll(async () => {
    results = await tryAll(options("untrusted"));
  }, 90_000);

  test("all that is listed was tried", () => {
    expect([...results.keys()].sort()).toEqual([...ATTACK_NAMES].sort());
  });

  test.each([...ATTACK_NAMES])("%s does not work", (name) => {
    expect(results.get(name)).toStartWith("failed");
  });

  test("descriptors end long before the machine's", () => {
    expect(results.get("descriptors")).toMatch(/^failed: after \d{2,3}$/);
  });
});

describe("trusted, to compare", () => {
  let results: ReadonlyMap<string, string>;
  beforeAll(async () => {
    results = await tryAll(options("trusted", true));
  }, 90_000);

  test.each([...CONTROLLED])("%s works", (name) => {
    expect(results.get(name)).toStartWith("worked");
  });
});

describe("an attack that ends the plugin ends nothing else", () => {
  let node: AttackNode;
  beforeAll(async () => {
    node = await AttackNode.start(
      options("untrusted"),
      Object.fromEntries(ENDINGS.map(({ name }) => [name, [name]])),
    );
  }, 60_000);
  afterAll(async () => {
    await node?.stop();
  });

  const endOf = (name: string) =>
    node.until(`the end of ${name}`, (line) => line.event === "plugin failed" && line.name === name, 60_000);

  test.each(ENDINGS.map(({ name, reason }) => [name, reason] as const))(
    "%s",
    async (name, reason) => {
      const failed = await endOf(name);
      expect(failed.reason).toMatch(reason);
      expect(node.isAlive).toBe(true);
      const health = await node.health();
      expect(health.text).toContain(`"service.${name}"`);
    },
    70_000,
  );

  test("frames that broke the protocol are counted", async () => {
    await Promise.all(ENDINGS.map(({ name }) => endOf(name)));
    expect(await node.api("/metrics")).toMatch(/godwit_plugin_attacks_protocol_errors_total [1-9]/);
  }, 70_000);
});

test("what would survive its stop does not: no process is left when its table goes, nor when the node is killed", async () => {
  const node = await AttackNode.start(options("untrusted"), { first: ["survive"], second: ["survive"] });
  try {
    const pidOf = async (name: string) =>
      (await node.until("an attacker", (line) => line.event === "surviving" && isOf(line, name))).pid!;
    const [first, second] = [await pidOf("first"), await pidOf("second")];
    expect([isProcess(first), isProcess(second)]).toEqual([true, true]);
    await node.write({ second: ["survive"] });
    await node.api("/reload", { method: "POST" });
    expect([isProcess(first), isProcess(second)]).toEqual([false, true]);
    node.kill();
    await gone(second);
  } finally {
    await node.stop();
  }
}, 60_000);

test("one that never looks at its channel again does not outlive the node", async () => {
  const node = await AttackNode.start(options("untrusted"), { hostile: ["outlive"] });
  try {
    const { pid } = await node.until("the attacker", ({ event }) => event === "surviving");
    await Bun.sleep(200);
    expect(isProcess(pid!)).toBe(true);
    node.kill();
    await gone(pid!);
  } finally {
    await node.stop();
  }
}, 60_000);

test("its files are its own user's, and the node's stay the node's", async () => {
  const node = await AttackNode.start(options("untrusted"), { hostile: ["large_file"] });
  try {
    const { uid } = await node.until("the attacker", ({ event }) => event === "attacker");
    const isRoot = process.getuid!() === 0;
    expect(uid).toBe(
      isRoot ? statSync(join(node.stateDir, "plugin-files/service.hostile")).uid : process.getuid!(),
    );
    if (isRoot) expect(uid).toBeGreaterThan(65_535);
    expect(statSync(join(node.stateDir, "identity.key")).uid).toBe(process.getuid!());
  } finally {
    await node.stop();
  }
}, 60_000);

test("a node that cannot lock a plugin in says what is missing, and does not run it", async () => {
  // A kernel without Landlock, as far as the node can see: a filter of ours that knows no such calls.
  const node = await AttackNode.start(
    { ...options("untrusted"), godwit: await withoutLandlock() },
    { hostile: ["read_secret"] },
  );
  try {
    const failed = await node.until("the refusal", ({ event }) => event === "plugin failed");
    expect(failed.reason).toContain("landlock");
    expect(failed.reason).toContain('accept_missing = ["landlock"]');
    expect(node.find(({ event }) => event === "attacker")).toBeUndefined();
  } finally {
    await node.stop();
  }
}, 60_000);

test("accepted, the other protections still hold", async () => {
  const node = await AttackNode.start(
    { ...options("untrusted"), godwit: await withoutLandlock(), extra: 'accept_missing = ["landlock"]' },
    { hostile: ["read_node_key", "tcp_socket", "spawn", "kill_parent", "ptrace_parent", "parent_environ"] },
  );
  try {
    await node.until("all attacks", ({ event }) => event === "attacks done");
    const isRoot = process.getuid!() === 0;
    for (const { event, name, result } of node.lines)
      if (event === "attack" && (isRoot || (name !== "read_node_key" && name !== "parent_environ")))
        expect(`${name} ${result}`).toContain(`${name} failed`);
  } finally {
    await node.stop();
  }
}, 60_000);

const isOf = (line: object, name: string): boolean =>
  (line as { plugin?: string }).plugin === `service.${name}`;

function isProcess(pid: number): boolean {
  try {
    // A zombie runs nothing any more.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

async function gone(pid: number): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (isProcess(pid)) {
    if (performance.now() > endMs) throw new Error(`process ${pid} is still there`);
    await Bun.sleep(10);
  }
}

/** A launcher that lets the node see a kernel without Landlock: by a filter under which it then starts. */
async function withoutLandlock(): Promise<string> {
  const { writeLauncher } = await import("./no-landlock.ts");
  return await writeLauncher(launchers, binaryPath);
}
