import { afterAll } from "bun:test";
import { discoveryConformance } from "@godwit/sdk/testkit";
import { createMdns } from "./index.ts";
import { freeUdpPort, loopbackHost, ON_LOOPBACK } from "./testing.ts";

const port = await freeUdpPort();
/** Whom each instance under test finds. */
const other = loopbackHost(port, ["tcp://[::]:4860", "udp://127.0.0.1:4861"]);
await other.host.start(ON_LOOPBACK);
// Its clock is real: it answers while the checks look.
const ticking = setInterval(() => other.host.clock.advance(20), 5);
afterAll(async () => {
  clearInterval(ticking);
  await other.host.stop();
});

discoveryConformance({
  name: "mdns",
  setup: () => ({
    plugin: createMdns(port),
    config: ON_LOOPBACK,
    clockStepMs: "real time",
    expected: ["tcp://127.0.0.1:4860", "udp://127.0.0.1:4861"],
    badConfigs: [{ interfaces: [] }, { interfaces: ["far too long a name"] }, { announce: "yes" }],
    hostOptions() {
      const { self, network } = loopbackHost(port, ["tcp://127.0.0.1:1"]);
      return { self, network };
    },
  }),
});
