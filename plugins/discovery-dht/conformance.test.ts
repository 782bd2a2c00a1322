import { discoveryConformance, FakePeers, FakeSelf } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { PLUGIN } from "./keys.ts";
import { loopbackAddress, TestMesh } from "./testing.ts";

discoveryConformance({
  name: "dht",
  async setup() {
    const mesh = new TestMesh();
    const { place } = await mesh.add({ endpoints: ["tcp://192.0.2.7:4860", "tor://example.onion:1"] });
    const listen = [`${loopbackAddress()}:0`];
    return {
      plugin,
      config: { listen, bootstrap: [place] },
      clockStepMs: "real time",
      withinMs: 20_000,
      expected: ["tcp://192.0.2.7:4860", "tor://example.onion:1"],
      hostOptions() {
        const self = new FakeSelf({ plugin: PLUGIN });
        self.secrets = ["ours"];
        self.set(["tcp://192.0.2.8:4860"]);
        return { self, identity: self.id, peers: new FakePeers({ id: self.id }) };
      },
      badConfigs: [
        { listen: ["everywhere"] },
        { bootstrap: ["192.0.2.1"] },
        { bootstrap: ["192.0.2.1:0"] },
        { public: "yes" },
        { bootstrap: "192.0.2.1:4862" },
      ],
      dispose: () => mesh[Symbol.asyncDispose](),
    };
  },
});
