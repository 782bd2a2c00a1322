/** Ports that another program has, said in one way wherever a node listens; the node goes on meanwhile. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import type { HealthView, StatusView } from "../../runtime/view/contract/node.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";

let lab: Lab;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(async () => {
  await lab?.close();
});

test("who has the port of a transport, a forward, a service or the API is told with its id and what to choose instead", async () => {
  const listeners = Array.from({ length: 5 }, () =>
    Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } }),
  );
  const [lan, api, web, telex, forward] = listeners.map(({ port }) => port) as [
    ...[number, number, number, number, number],
  ];
  const udp = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0 });
  const table = (type: string, port: number) =>
    `[transports.${type}]\ntype = "${type}"\nlisten = ["127.0.0.1:${port}"]\n`;
  try {
    const node = await lab.add({
      callsign: "PRT-A",
      network: "prt",
      listen: [`127.0.0.1:${lan}`],
      apiListen: [`127.0.0.1:${api}`],
      extra: `${table("udp", udp.port)}${table("websocket", web)}
[services.telex]
type = "telex"
listen = "127.0.0.1:${telex}"
[[forwards]]
listen = "127.0.0.1:${forward}"
to = "PRT-B"
target = "localhost:80"
`,
    });
    await node.start();
    const { checks } = await node.json<HealthView>("/health");
    const reasons = new Map(checks.map(({ name, reason }) => [name, reason]));
    const said = (port: number, setting: string) =>
      expect.stringMatching(
        new RegExp(
          `port ${port} of 127\\.0\\.0\\.1 is taken by PID ${process.pid} \\(.+\\): end that, or choose another port, like \\d+, in ${setting}`,
        ),
      );
    expect(Object.fromEntries(reasons)).toMatchObject({
      "transport.lan": said(lan, "listen"),
      "transport.udp": said(udp.port, "listen"),
      "transport.websocket": said(web, "listen"),
      "service.telex": said(telex, "listen"),
      api: said(api, "api\\.listen"),
      forwards: said(forward, "\\[\\[forwards\\]\\]"),
    });
    // Tried twice more meanwhile, it is logged once.
    const upFor = async () => (await node.json<StatusView>("/mesh/status")).node.uptime_seconds;
    await node.until("two more tries", async () => (await upFor()) >= 5, 20_000, 100);
    expect(node.logLines.filter((line) => line.includes("forward address missing"))).toHaveLength(1);
    for (const listener of listeners) listener.stop(true);
    udp.close();
    await node.until(
      "all of them to listen",
      async () =>
        (await node.json<HealthView>("/health")).checks.every(
          ({ reason }) => !reason.includes("is taken by"),
        ),
      20_000,
    );
    await node.kill("SIGTERM");
  } finally {
    for (const listener of listeners) listener.stop(true);
    udp.close();
  }
}, 60_000);
