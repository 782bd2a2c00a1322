import { discoveryConformance, FakeSelf, TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

/** Between two steps of the clock of the member that is joined. */
const STEP_MS = 20;
/** As in tags: where its transport listens, at its address. */
const ENDPOINT = "tcp://127.0.0.1:4860";

discoveryConformance({
  name: "serf",
  async setup() {
    const self = new FakeSelf({ callsign: "LON-A", plugin: "discovery.serf" });
    self.set([ENDPOINT]);
    const other = new TestHost(plugin, { self });
    const listen = "127.0.0.1:0";
    await other.start({ listen });
    const ticking = setInterval(() => other.clock.advance(STEP_MS), STEP_MS);
    const { port } = (await other.request("members")) as { port: number };
    return {
      plugin,
      config: { listen, join: [`127.0.0.1:${port}`], profile: "local" },
      expected: [ENDPOINT],
      clockStepMs: "real time",
      badConfigs: [
        { listen: "a" },
        { join: ["a b"] },
        { join: "127.0.0.1" },
        { encrypt_key: "c2VjcmV0" },
        { profile: "moon" },
        { name: "a b" },
        { name: "n".repeat(129) },
        { tags: { godwit: "x" } },
        { tags: { a: "x".repeat(341) } },
        { tags: { a: "x".repeat(170), b: "x".repeat(170) } },
        { tags: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`t${i}`, "x"])) },
        { label: "x".repeat(256) },
      ],
      async dispose() {
        // Its leave takes time, which goes on until then.
        await other.stop();
        clearInterval(ticking);
      },
    };
  },
});
