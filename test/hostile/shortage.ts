/**
 * `bun shortage.ts PORT`, under a low `ulimit -n`: dials PORT in each way that a node has, where there is room, where what is left is
 * for links, and where it is for nobody. Says as JSON who was refused for want of descriptors. Ends by itself.
 */
import { closeSync, openSync } from "node:fs";
import { descriptorMarks } from "@godwit/sdk/places";
import { TestHost } from "@godwit/sdk/testkit";
import tcp from "../../plugins/transport-tcp/index.ts";
import { openSocks } from "../../plugins/transport-tor/socks.ts";
import websocket from "../../plugins/transport-websocket/index.ts";
import { Scope } from "../../runtime/kernel/scope.ts";
import { openPluginNet } from "../../runtime/plugin/host/net.ts";
import { allowAll } from "../../runtime/plugin/permissions.ts";

const port = Number(process.argv[2]);
const host = new TestHost(tcp);
await host.start({ listen: [] });
const web = new TestHost(websocket);
await web.start({});
const scope = new Scope("plugin");
const net = openPluginNet(scope, allowAll);
const signal = () => AbortSignal.timeout(2_000);
const ways: Readonly<Record<string, () => Promise<{ close?(): void; reset?(): void; destroy?(): void }>>> = {
  tcp: () => host.driver!.dial(`tcp://127.0.0.1:${port}`, signal(), undefined, undefined),
  websocket: () => web.driver!.dial(`ws://127.0.0.1:${port}/godwit`, signal(), undefined, undefined),
  tor: () =>
    openSocks(
      { host: "127.0.0.1", port },
      { host: "example.onion", port: 1 },
      { user: "u", password: "p" },
      signal(),
    ),
  plugin: () => net.connect("127.0.0.1", port, signal()),
};

/** Whoever was refused while `descriptor` was the next one. */
async function refusedAt(descriptor: number): Promise<string[]> {
  const held: number[] = [];
  for (let next = 0; next < descriptor - 1; held.push(next)) next = openSync("/dev/null", "r");
  const refused: string[] = [];
  for (const [name, dial] of Object.entries(ways)) {
    try {
      const opened = await dial();
      opened.close?.();
      opened.reset?.();
      opened.destroy?.();
    } catch (error) {
      if (String(error).includes("too few descriptors")) refused.push(name);
    }
  }
  for (const one of held) closeSync(one);
  return refused;
}

const { strangers, guests, all } = descriptorMarks();
const said = {
  room: await refusedAt(strangers - 8),
  links: await refusedAt(guests),
  nobody: await refusedAt(all),
};
console.log(JSON.stringify(said));
process.exit(0);
