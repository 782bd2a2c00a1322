/** A transport of a third party, outside of the node's thread, carries a link between two real nodes. */
import { afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab } from "../../scripts/lab.ts";
import { bundle, install } from "./lab.ts";

let code: Uint8Array;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  code = await bundle("brokered");
});
let lab: Lab;
afterEach(async () => {
  await lab.close();
});

for (const trust of ["trusted", "contained", "untrusted"] as const)
  test(`${trust}: a message goes over a link of a stranger's transport`, async () => {
    lab = await Lab.create();
    const port = freePort();
    const table = (listen: string, grant: string) =>
      `[transports.strange]\ntype = "brokered"\ntrust = "${trust}"\ngrant = [${grant}]\n${listen}\n`;
    const a = await lab.add({
      callsign: "SBX-A",
      listen: [],
      extra: table(`listen = "127.0.0.1:${port}"`, `"broker.listen:${port}"`),
    });
    const b = await lab.add({
      callsign: "SBX-B",
      listen: [],
      peers: [`brk://127.0.0.1:${port}`],
      extra: table("", `"broker.connect:127.0.0.1:${port}"`),
    });
    for (const node of [a, b])
      await install(node.stateDir, {
        id: "brokered",
        namespace: "transport",
        permissions: ["broker.connect:*:*", "broker.listen:*"],
        code,
      });
    await Promise.all([a.start(), b.start()]);
    await a.until(
      "link",
      async () => (await a.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected === 1,
      20_000,
    );
    const peers = await a.json<{ peers: { links: { address: string }[] }[] }>("/mesh/peers");
    expect(JSON.stringify(peers)).toContain("brk://");
  }, 60_000);
