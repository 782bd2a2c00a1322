import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../config/load.ts";
import { findSocket, quickSocket } from "./socket.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-socket-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

test("the quick way and the configuration agree on where the socket is", async () => {
  const paths = [
    undefined,
    file("a.toml", '[api]\nsocket = "/run/a.sock"\n'),
    file("b.toml", '[node]\nstate_dir = "/var/b"\n'),
    file("c.json", '{"node": {"state_dir": "/var/c"}}'),
    file("d.conf", '{"api": {"socket": "/run/d"}}'),
    file("e.toml", ""),
  ];
  const environments: Record<string, string>[] = [
    {},
    { HOME: folder },
    { HOME: folder, XDG_STATE_HOME: `${folder}/state` },
    { GODWIT_API__SOCKET: "/run/env.sock" },
    { GODWIT_NODE__STATE_DIR: "/var/env" },
    { GODWIT_CONFIG: paths[2]! },
  ];
  for (const path of paths)
    for (const env of environments) {
      const { api } = await loadConfig({ path, env });
      expect(quickSocket(path, env)).toBe(api.socket);
      expect(await findSocket(undefined, path, env)).toBe(api.socket);
    }
});

test("a whole table in the environment, or a name in small letters, goes the way of the configuration", async () => {
  const config = file("plain.toml", '[node]\nstate_dir = "/var/p"\n');
  const said: [string, string, string][] = [
    ["GODWIT_API", '{ socket = "/run/t.sock" }', "/run/t.sock"],
    ["GODWIT_API", '{"socket": "/run/j.sock"}', "/run/j.sock"],
    ["GODWIT_NODE", '{ state_dir = "/var/t" }', "/var/t/godwit.sock"],
    ["GODWIT_api__Socket", "/run/small.sock", "/run/small.sock"],
    ["GODWIT_NODE__state_dir", "/var/small", "/var/small/godwit.sock"],
    ["GODWIT_NODE__CALLSIGN", "DUN-A", "/var/p/godwit.sock"],
  ];
  for (const [name, value, socket] of said) {
    const env = { [name]: value };
    expect([name, (await loadConfig({ path: config, env })).api.socket]).toEqual([name, socket]);
    expect([name, await findSocket(undefined, config, env)]).toEqual([name, socket]);
  }
});

test("--socket goes before GODWIT_SOCKET before the configuration", async () => {
  const env = { GODWIT_SOCKET: "/env", GODWIT_API__SOCKET: "/config" };
  expect(await findSocket("relative.sock", undefined, env)).toBe("relative.sock");
  expect(await findSocket(undefined, undefined, env)).toBe("/env");
  expect(await findSocket(undefined, undefined, { ...env, GODWIT_SOCKET: "" })).toBe("/config");
});

test("a file that is wrong elsewhere does not keep the operator out; one that is wrong here is explained", async () => {
  const half = file(
    "half.toml",
    '[node]\nstate_dir = "/var/h"\ncallsing = "x"\nnetwork_secret = "file:/nonexistent"\n',
  );
  expect(await findSocket(undefined, half, {})).toBe("/var/h/godwit.sock");
  const relative = file("relative.toml", '[api]\nsocket = "here.sock"\n');
  await expect(findSocket(undefined, relative, {})).rejects.toThrow("absolute path");
  await expect(findSocket(undefined, file("broken.toml", "[api\n"), {})).rejects.toThrow("line 1");
  await expect(findSocket(undefined, join(folder, "none.toml"), {})).rejects.toThrow("cannot read");
  for (const text of ["null", "7", '"text"'])
    await expect(findSocket(undefined, file("odd.json", text), {})).rejects.toThrow(/expected|object/);
});
