/** What was granted works, exactly that and nothing beside it. */
import { beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { AttackNode, type AttackOptions } from "./attack-node.ts";
import { bundle, encode } from "./lab.ts";

let plugin: Uint8Array;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  plugin = encode({
    id: "attacks",
    namespace: "service",
    permissions: [
      ...["net.tcp", "net.udp", "files.read:*", "files.write:*"],
      ...["broker.connect:*:*", "broker.listen:*", "broker.udp:*"],
    ],
    code: await bundle("attacks"),
  });
});

const tried = [
  ...["tcp_socket", "udp_socket", "raw_socket", "netlink_socket", "unix_socket"],
  ...["tcp_connect", "tcp_listen", "tcp_listen_anywhere", "tcp_bind", "udp_bind", "bind_to_device"],
  ...["proc_net_tcp", "proc_net_of_task", "proc_mounts", "broker_connect", "broker_listen", "broker_udp"],
  ...["read_secret", "read_folder", "write_outside", "read_node_key", "read_passwd", "spawn"],
] as const;

async function workingWith(extra: AttackOptions["extra"]): Promise<string[]> {
  const node = await AttackNode.start(
    { godwit: binaryPath, plugin, trust: "untrusted", ...(extra === undefined ? {} : { extra }) },
    { hostile: [...tried] },
  );
  try {
    await node.until("all attacks", ({ event }) => event === "attacks done");
    return node.lines.flatMap(({ event, name, result }) =>
      event === "attack" && name !== undefined && result?.startsWith("worked") === true ? [name] : [],
    );
  } finally {
    await node.stop();
  }
}

test("nothing", async () => {
  expect(await workingWith(undefined)).toEqual([]);
}, 60_000);

test("what was not granted is named in health, by the plugin that goes on as by the one that fails", async () => {
  const node = await AttackNode.start(
    { godwit: binaryPath, plugin, trust: "untrusted", extra: 'grant = ["net.udp"]' },
    { hostile: ["broker_listen"] },
  );
  const code = `import { z } from "@godwit/sdk";
export default { id: "attacks", namespace: "service", config: z.looseObject({}), start() { process.getBuiltinModule("fs").readFileSync("/etc/passwd"); } };`;
  const failing = await AttackNode.start(
    {
      godwit: binaryPath,
      plugin: encode({
        id: "attacks",
        namespace: "service",
        permissions: ["files.read:/etc"],
        code: new TextEncoder().encode(code),
      }),
      trust: "untrusted",
    },
    { hostile: [] },
  );
  try {
    await node.until("all attacks", ({ event }) => event === "attacks done");
    expect(node.lines).toContainEqual(expect.objectContaining({ event: "plugin refused something" }));
    const { text } = await node.health();
    const check = (JSON.parse(text) as Health).checks.find(({ name }) => name === "service.hostile")!;
    expect(check.status).toBe("ok");
    expect(check.reason).toMatch(/was not granted broker\.listen:\d+: its table gives it by grant/);
    await failing.until("it to fail", ({ event }) => event === "plugin failed");
    const down = (JSON.parse((await failing.health()).text) as Health).checks.find(
      ({ name }) => name === "service.hostile",
    )!;
    expect(down.status).toBe("down");
    expect(down.reason).toContain("/etc/passwd");
    expect(down.reason).toContain('its table gives it by grant = ["files.read:/etc"]');
  } finally {
    await Promise.all([node.stop(), failing.stop()]);
  }
}, 60_000);
interface Health {
  readonly checks: readonly { readonly name: string; readonly status: string; readonly reason: string }[];
}

test("UDP sockets of its own", async () => {
  expect(await workingWith('grant = ["net.udp"]')).toEqual(["udp_socket", "udp_bind"]);
}, 60_000);

test("TCP sockets of its own, any port", async () => {
  expect(await workingWith('grant = ["net.tcp"]')).toEqual([
    ...["tcp_socket", "tcp_connect", "tcp_listen", "tcp_listen_anywhere", "tcp_bind"],
  ]);
}, 60_000);

// Needs Landlock's fourth version, which the node names where it is missing.
test("TCP to one port: another one is closed, and so is listening", async () => {
  expect(await workingWith((_dir, port) => `grant = ["net.tcp.connect:${port}"]`)).toEqual([
    "tcp_socket",
    "tcp_connect",
  ]);
  expect(await workingWith((_dir, port) => `grant = ["net.tcp.connect:${port === 1 ? 2 : 1}"]`)).toEqual([
    "tcp_socket",
  ]);
}, 60_000);

test("a folder to read, and one to write", async () => {
  expect(await workingWith((dir) => `grant = ["files.read:${dir}/secret"]`)).toEqual(["read_secret"]);
  expect(await workingWith((dir) => `grant = ["files.write:${dir}/open"]`)).toEqual([
    "read_folder",
    "write_outside",
  ]);
}, 60_000);

test("what the node opens for it", async () => {
  expect(await workingWith((_dir, port) => `grant = ["broker.connect:127.0.0.1:${port}"]`)).toEqual([
    "broker_connect",
  ]);
  expect(
    await workingWith('grant = ["broker.connect:127.0.0.1:1", "broker.listen:0", "broker.udp:0"]'),
  ).toEqual(["broker_listen", "broker_udp"]);
}, 60_000);
