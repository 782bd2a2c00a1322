import { transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

transportConformance({
  name: "websocket",
  kind: "stream",
  setup: () => ({
    plugin,
    listenConfig: { listen: ["127.0.0.1:0", "[::1]:0"] },
    dialConfig: {},
    badEndpoints: [
      "ws://",
      "ws://a:99999",
      "ws://a b:1",
      "wss://a:1/?q",
      "ws://u@a:1/",
      "ws://a:0/",
      "ws://[fe80::1%]:1/",
    ],
    badConfigs: [
      { listen: ["nonsense"] },
      { listen: "127.0.0.1:1" },
      { advertise: ["tcp://a:1"] },
      { advertise: ["ws://[fe80::1%eth0]:1/godwit"] },
      { proxy: "socks5://a:1" },
      { proxy: "http://u:%zz@a:1" },
      { path: "nowhere" },
    ],
  }),
});
