import { expect, test } from "bun:test";
import { parseConfig } from "../config/load.ts";
import { builtinDialling, builtinPlugins } from "../registry.ts";
import { undialable } from "./dialable.ts";
import { checkConfig } from "./node.ts";

const config = (text: string) => parseConfig(text, { env: {}, format: "toml", path: "test" });
const peers = (...list: string[]) => `[discovery.st]\ntype = "static"\npeers = ${JSON.stringify(list)}\n`;
const LAN = '[transports.lan]\ntype = "tcp"\n';

test("config check says which peers no transport of the configuration can dial", async () => {
  const id = "a".repeat(52);
  const text =
    LAN +
    peers("tcp://a.example.org:4860", `tcp://192.0.2.1:1#${id}`, "udp://192.0.2.1:4860", "tcp://a:99999");
  expect((await undialable(config(text))).map(({ path }) => path)).toEqual([
    "discovery.st.peers[2]",
    "discovery.st.peers[3]",
  ]);
  const error = await checkConfig(config(text)).catch(String);
  expect(error).toContain('type = "udp"');
  expect(error).toContain("tcp://");
  expect(await checkConfig(config(LAN + peers("tcp://a.example.org.:4860")))).toEqual([]);
});

test("endpoints that a transport advertises are judged too; hosts, tables that are off and foreign schemes are not", async () => {
  const found = async (text: string) => (await undialable(config(text))).map(({ path }) => path);
  expect(await found(`${LAN}advertise = ["tcp://a:0"]\n`)).toEqual(["transports.lan.advertise[0]"]);
  expect(await found(`${LAN}[transports.wg]\ntype = "wireguard"\nadvertise = ["192.0.2.1:51820"]\n`)).toEqual(
    [],
  );
  expect(await found(`${LAN}${peers("udp://a:1")}enabled = false\n`)).toEqual([]);
  expect(await found(`${LAN}[transports.x]\ntype = "lora"\n${peers("lora://7", "tcp://a")}`)).toEqual([
    "discovery.st.peers[1]",
  ]);
  expect(await found(peers("tcp://a:1"))).toEqual([]);
});

test("every built-in transport has a row", () => {
  const transports = builtinPlugins.filter(({ namespace }) => namespace === "transport").map(({ id }) => id);
  expect(Object.keys(builtinDialling).sort()).toEqual([...transports].sort());
});
