import { transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { FakeTor } from "./testing.ts";

transportConformance({
  name: "tor",
  kind: "stream",
  async setup() {
    const tor = await new FakeTor().start();
    return {
      plugin,
      listenConfig: tor.config,
      dialConfig: { ...tor.config, listen: [] },
      badEndpoints: [
        "tor://",
        "tor://a",
        "tor://a:0",
        "tor://abc.onion:1",
        `tor://${"a".repeat(56)}.onion:1`,
      ],
      badConfigs: [
        { listen: ["0.0.0.0:1"] },
        { listen: ["unix:/a b"] },
        { mode: "supervised", socks: "a:1" },
        { bridges: ["a\nb"] },
      ],
      nobody: "tor://nobody.example:1",
      async openVanishing(dialler) {
        const accepted = Promise.withResolvers<{ terminate(): void }>();
        const server = Bun.listen({
          hostname: "127.0.0.1",
          port: 0,
          socket: { open: (socket) => accepted.resolve(socket), data() {} },
        });
        tor.routes.set("far.example:1", { host: "127.0.0.1", port: server.port });
        const pipe = await dialler.driver!.dial("tor://far.example:1", new AbortController().signal);
        const socket = await accepted.promise;
        return {
          pipe,
          vanish() {
            socket.terminate();
            server.stop(true);
          },
        };
      },
      dispose: () => tor.dispose(),
    };
  },
});
