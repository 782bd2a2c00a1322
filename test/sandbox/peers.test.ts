/** `ctx.peers`, `ctx.self` and `ctx.onRequest` of a third party's plugin, in the node's process, in a Worker and in a sandbox. */
import { afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { bundle, install } from "./lab.ts";

let code: Uint8Array;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  code = await bundle("neighbours");
});
let lab: Lab;
afterEach(async () => {
  await lab.close();
});

interface Heard {
  readonly heard: Readonly<Record<string, string>>;
  readonly changes: number;
  readonly input: unknown;
  readonly network: string;
  readonly self: { id: string; endpoints: string[]; isSigned: boolean; isForged: boolean };
}

for (const trust of ["trusted", "contained", "untrusted"] as const)
  test(`${trust}: neighbours' plugins talk to each other, and to the operator`, async () => {
    lab = await Lab.create();
    const extra = `[discovery.near]\ntype = "neighbours"\ntrust = "${trust}"\n`;
    const a = await lab.add({ callsign: "NBR-A", extra });
    const b = await lab.add({ callsign: "NBR-B", peers: [a.endpoint], extra });
    for (const node of [a, b])
      await install(node.stateDir, { id: "neighbours", namespace: "discovery", code });
    await Promise.all([a.start(), b.start()]);
    const ask = async (request: string) =>
      await b.api("/plugins/neighbours/requests", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ request, input: { x: [1, null, "é"] } }),
      });
    const idOfA = (await a.json<{ node: { id: string } }>("/mesh/status")).node.id;
    await b.until(
      "a greeting",
      async () => ((await (await ask("heard")).json()) as Heard).heard[idOfA] === "hello from NBR-A",
      20_000,
    );
    const told = (await (await ask("heard")).json()) as Heard;
    expect(told.input).toEqual({ x: [1, null, "é"] });
    expect(told.network).toBe((await b.json<{ network: string }>("/mesh/status")).network);
    const idOfB = (await b.json<{ node: { id: string } }>("/mesh/status")).node.id;
    expect(told.self).toEqual({ id: idOfB, endpoints: [b.endpoint], isSigned: true, isForged: false });
    const refused = await ask("nonsense");
    expect([refused.status >= 400, await refused.text()]).toEqual([
      true,
      expect.stringContaining("it knows no nonsense"),
    ]);
    await a.kill("SIGKILL");
    await b.until(
      "word of a change",
      async () => ((await (await ask("heard")).json()) as Heard).changes > told.changes,
      20_000,
    );
  }, 60_000);
