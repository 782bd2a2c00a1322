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
