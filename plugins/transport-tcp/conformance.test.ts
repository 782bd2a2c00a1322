import { transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

transportConformance({
  name: "tcp",
  kind: "stream",
  setup: () => ({
    plugin,
    listenConfig: { listen: ["127.0.0.1:0", "[::1]:0"] },
    dialConfig: { listen: [] },
    badEndpoints: ["tcp://", "tcp://a", "tcp://a:99999", "tcp://[::1:1", "tcp://a b:1"],
    badConfigs: [{ listen: ["nonsense"] }, { listen: "127.0.0.1:1" }, { advertise: ["udp://a:1"] }],
    async openVanishing(dialler) {
      const { promise, resolve } = Promise.withResolvers<{ terminate(): void }>();
      const server = Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        socket: { open: (socket) => resolve(socket), data() {} },
      });
      const pipe = await dialler.driver!.dial(`tcp://127.0.0.1:${server.port}`, new AbortController().signal);
      const socket = await promise;
      return {
        pipe,
        vanish() {
          socket.terminate();
          server.stop(true);
        },
      };
    },
  }),
});
