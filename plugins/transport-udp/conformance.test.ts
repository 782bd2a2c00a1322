import { transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

transportConformance({
  name: "udp",
  kind: "datagram",
  setup: () => ({
    plugin,
    listenConfig: { listen: ["127.0.0.1:0", "[::1]:0"] },
    dialConfig: { listen: [] },
    // Bit 7 clear, as in every handshake message.
    opening: Uint8Array.of(0x13, 1),
    nobody: "udp://name.invalid:1",
    badEndpoints: ["udp://", "udp://a", "udp://a:99999", "udp://[::1:1", "udp://a b:1", "udp://a:0"],
    badConfigs: [
      { listen: ["nonsense"] },
      { listen: "127.0.0.1:1" },
      { advertise: ["tcp://a:1"] },
      { mtu_max: 100 },
      { mtu_max: 65_000 },
    ],
  }),
});
