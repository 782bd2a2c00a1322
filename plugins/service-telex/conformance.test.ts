import { serviceConformance, type TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

/** A person on the line, so that what comes is shown live. */
async function call(host: TestHost): Promise<() => void> {
  const { fields } = host.logs.find(({ event }) => event === "telex listening")!;
  const port = Number(String(fields["address"]).split(":").at(-1));
  const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
  while (host.counters.get("calls{result=accepted}") !== 1)
    await new Promise((resolve) => setImmediate(resolve));
  return () => socket.terminate();
}

serviceConformance({
  name: "telex",
  setup: () => ({
    plugin,
    config: { listen: "127.0.0.1:0" },
    badConfigs: [{ listen: "0.0.0.0:0" }, { listen: "nonsense" }, { message_max: "1" }],
    clockStepMs: 10,
    prepare: call,
  }),
});
