/**
 * The transport conformance suite of the SDK over a real daemon. Not a suite by itself: yggdrasil.test.ts runs it inside the
 * namespace that has the daemon's interface, with the admin socket in GODWIT_TEST_YGGDRASIL.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import type { HostAddress, Plugin } from "@godwit/sdk";
import { transportConformance } from "@godwit/sdk/testkit";
import plugin from "../../plugins/transport-yggdrasil/index.ts";

const admin = process.env["GODWIT_TEST_YGGDRASIL"] ?? "";
const addresses: readonly HostAddress[] = Object.entries(networkInterfaces()).flatMap(([name, own = []]) =>
  own.map(({ address, family }) => ({
    address,
    family: family === "IPv6" ? 6 : 4,
    prefixLength: 7,
    interface: name,
    scope: "global",
    isAdvertisable: true,
  })),
);
const overlay = addresses.find(
  ({ interface: name, address }) => name === "ygg0" && address.startsWith("2"),
)!.address;

transportConformance({
  name: "yggdrasil",
  kind: "stream",
  setup() {
    const folder = mkdtempSync(join(tmpdir(), "godwit-ygg-"));
    // The test host knows no interfaces of this machine, and has no folder.
    const here: Plugin = {
      ...plugin,
      start: (ctx, config) =>
        plugin.start(
          {
            ...ctx,
            folder: async () => folder,
            network: { addresses: () => addresses, refusal: () => undefined, onChange() {} },
          },
          config,
        ),
    };
    return {
      plugin: here,
      listenConfig: { admin, port: 0 },
      dialConfig: { admin, port: 0 },
      badEndpoints: [
        "yggdrasil://",
        "yggdrasil://127.0.0.1:1",
        "yggdrasil://[2001:db8::1]:1",
        "yggdrasil://[200:1::2]:0",
        "yggdrasil://[200:1::2]:1?peer=unix:///x",
      ],
      badConfigs: [{ admin: "http://a" }, { port: 65_536 }, { mtu: 1_280 }, { peers: ["http://a:1"] }],
      async openVanishing(dialler) {
        const accepted = Promise.withResolvers<{ terminate(): void }>();
        const server = Bun.listen({
          hostname: overlay,
          port: 0,
          socket: { open: (socket) => accepted.resolve(socket), data() {} },
        });
        const endpoint = `yggdrasil://[${overlay}]:${server.port}`;
        const pipe = await dialler.driver!.dial(endpoint, new AbortController().signal);
        const socket = await accepted.promise;
        return {
          pipe,
          vanish() {
            socket.terminate();
            server.stop(true);
          },
        };
      },
      dispose: () => rmSync(folder, { recursive: true, force: true }),
    };
  },
});
