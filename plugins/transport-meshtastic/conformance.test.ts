import { FakeServices, transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { FakeAir, FakeDoor } from "./testing.ts";

transportConformance({
  name: "meshtastic",
  kind: "datagram",
  setup: () => {
    const services = new FakeServices();
    const air = new FakeAir();
    const stop = new AbortController();
    for (const [at, name] of ["near", "far"].entries())
      new FakeDoor(air, services, name, 0x0a1b2c00 + at, stop.signal);
    return {
      plugin,
      hasMedium: true,
      listenConfig: { radio: "far" },
      dialConfig: { radio: "near" },
      hostOptions: () => ({ services }),
      opening: Uint8Array.of(0x13, 1),
      // Airtime passes.
      clockStepMs: 100,
      nobody: "meshtastic://0a1b2c00/ffff",
      badEndpoints: [
        "meshtastic://",
        "meshtastic://1",
        "meshtastic://00000000",
        "meshtastic://ffffffff/5f21",
        "meshtastic://0A1B2C3D",
        "meshtastic://0a1b2c3d/5f21/",
      ],
      badConfigs: [
        {},
        { radio: "" },
        { radio: "r", port: 1 },
        { radio: "r", hops: 8 },
        { radio: "r", airtime_percent: 50 },
      ],
      dispose: () => stop.abort(),
    };
  },
});
