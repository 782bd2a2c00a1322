/** Built-in transports and a service behind frames, in a Worker and locked in, pass the suites that they pass in the node. */
import { afterAll, beforeAll, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Plugin, PluginContext } from "@godwit/sdk";
import {
  runCheck,
  serviceConformance,
  type TestHost,
  transportChecks,
  transportConformance,
  type TransportSetup,
} from "@godwit/sdk/testkit";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { GUEST_COMMAND, launchProcess, launchWorker } from "../../runtime/plugin/remote/launch.ts";
import { parsePermission } from "../../runtime/plugin/permissions.ts";
import { remotePlugin } from "../../runtime/plugin/remote/remote.ts";
import type { SandboxOrder } from "../../runtime/plugin/sandbox/order.ts";
import { sdkModules } from "../../runtime/plugin/package/sdk-modules.ts";
import telex from "../../plugins/service-telex/index.ts";
import channel from "./plugins/channel.ts";
import tcp from "../../plugins/transport-tcp/index.ts";
import udp from "../../plugins/transport-udp/index.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-conformance-"));
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function codeOf(path: string): Promise<Uint8Array> {
  const built = await Bun.build({
    entrypoints: [join(root, path)],
    target: "bun",
    format: "esm",
    external: [...sdkModules],
  });
  return new Uint8Array(await built.outputs[0]!.arrayBuffer());
}
const code = {
  tcp: await codeOf("plugins/transport-tcp/index.ts"),
  udp: await codeOf("plugins/transport-udp/index.ts"),
  telex: await codeOf("plugins/service-telex/index.ts"),
  channel: await codeOf("test/sandbox/plugins/channel.ts"),
};

type Level = "contained" | "untrusted";

function remote(plugin: Plugin, level: Level, bytes: Uint8Array, grant: string): Plugin {
  const order: SandboxOrder = {
    folder,
    granted: [parsePermission(grant)!],
    acceptMissing: [],
    nodePid: process.pid,
  };
  const isolated = remotePlugin(plugin, {
    level,
    code: bytes,
    launch: async (ctx) =>
      level === "contained"
        ? launchWorker()
        : launchProcess({
            command: [binaryPath, GUEST_COMMAND, JSON.stringify(order)],
            log: ctx.log,
            clock: systemClock,
            memoryBytesMax: 2 ** 28,
          }),
  });
  // The suite's own clock stands still or runs ahead, and the far end goes by the machine's.
  return {
    ...isolated,
    config: asWritten(plugin.config),
    start: (ctx, table) => isolated.start(withClock(ctx), table),
  };
}

/** The far end judges the table as it was written, like that of a package. */
const asWritten = (schema: Plugin["config"]): Plugin["config"] => ({
  "~standard": {
    ...schema["~standard"],
    validate: async (value) => {
      const result = (await schema["~standard"].validate(value)) as { issues?: readonly unknown[] };
      return result.issues === undefined ? { value } : result;
    },
  },
});

const withClock = (ctx: PluginContext): PluginContext =>
  Object.create(ctx, { clock: { value: systemClock } }) as PluginContext;

for (const level of ["contained", "untrusted"] as const) {
  transportConformance({
    name: `tcp, ${level}`,
    kind: "stream",
    setup: () => ({
      plugin: remote(tcp, level, code.tcp, "net.tcp"),
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
        const pipe = await dialler.driver!.dial(
          `tcp://127.0.0.1:${server.port}`,
          new AbortController().signal,
        );
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

  // Its checks wait a moment for datagrams, which is not long enough through two more processes on a busy machine.
  if (level === "contained")
    transportConformance({
      name: `udp, ${level}`,
      kind: "datagram",
      setup: () => ({
        plugin: remote(udp, level, code.udp, "net.udp"),
        listenConfig: { listen: ["127.0.0.1:0", "[::1]:0"] },
        dialConfig: { listen: [] },
        // Bit 7 clear, as in every handshake message.
        opening: Uint8Array.of(0x13, 1),
        nobody: "udp://name.invalid:1",
        badEndpoints: ["udp://", "udp://a", "udp://a:99999", "udp://[::1:1", "udp://a b:1", "udp://a:0"],
        badConfigs: [{ listen: ["nonsense"] }, { listen: "127.0.0.1:1" }, { mtu_max: 100 }],
      }),
    });

  // What a radio has and UDP has not: over both kinds of channel between plugin and node.
  for (const about of [/^a pipe with answerMs/, /^a shared channel/, /^what is sent to all/])
    test(`channel, ${level}: ${about.source}`, async () => {
      const check = transportChecks.find(({ name }) => about.test(name))!;
      await runCheck(check, { name: "channel", setup: () => onChannel(level) });
    });

  serviceConformance({
    name: `telex, ${level}`,
    setup: () => ({
      plugin: remote(telex, level, code.telex, "net.tcp"),
      // Locked in it cannot ask the kernel which user calls.
      config: { listen: "127.0.0.1:0", allow_from: ["127.0.0.0/8"] },
      badConfigs: [{ listen: "0.0.0.0:0" }, { listen: "nonsense" }, { message_max: "1" }],
      clockStepMs: 10,
      prepare: call,
    }),
  });
}

const onChannel = (level: Level): TransportSetup => ({
  plugin: remote(channel, level, code.channel, "net.udp"),
  kind: "datagram",
  hasMedium: true,
  listenConfig: { listen: "here" },
  dialConfig: {},
  opening: Uint8Array.of(0x13, 1),
  badEndpoints: [],
});

/** A person on the line, so that what comes is shown live. */
async function call(host: TestHost): Promise<() => void> {
  const { fields } = host.logs.find(({ event }) => event === "telex listening")!;
  const port = Number(String(fields["address"]).split(":").at(-1));
  const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
  while (host.counters.get("calls{result=accepted}") !== 1)
    await new Promise((resolve) => setImmediate(resolve));
  return () => socket.terminate();
}
