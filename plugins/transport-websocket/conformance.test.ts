import { transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

transportConformance({
  name: "websocket",
  kind: "stream",
  setup: () => ({
    plugin,
    listenConfig: { listen: ["127.0.0.1:0", "[::1]:0"] },
    dialConfig: {},
    // The client does not tell when it has drained, so that the clock must go on.
    clockStepMs: 2,
    badEndpoints: ["ws://", "ws://a:99999", "ws://a b:1", "wss://a:1/?q", "ws://u@a:1/", "ws://a:0/"],
    badConfigs: [
      { listen: ["nonsense"] },
      { listen: "127.0.0.1:1" },
      { advertise: ["tcp://a:1"] },
      { proxy: "socks5://a:1" },
      { path: "nowhere" },
    ],
  }),
});
