/** A plugin in another language, packed and run as its author would: the Python discovery of the examples. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { builtinPlugins } from "../../runtime/registry.ts";
import { installPackage, trustPublisher } from "../../runtime/plugin/installed.ts";
import { publisher } from "./lab.ts";
import { bundleFolder, writePackage } from "../../runtime/plugin/package/pack.ts";

let lab: Lab;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(async () => {
  await lab?.close();
});

const PYTHON = "/usr/bin/python3";
const skipped = existsSync(PYTHON) ? "" : ` [skipped: ${PYTHON} is not installed]`;

test.skipIf(skipped !== "")(
  `the Python discovery finds a node for another, without a socket of its own${skipped}`,
  async () => {
    const a = await lab.add({ callsign: "PYT-A" });
    let asked = 0;
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch(request) {
        asked++;
        return new URL(request.url).pathname === "/peers"
          ? new Response(`# all nodes\n${a.endpoint}\n`)
          : new Response("", { status: 404 });
      },
    });
    try {
      const b = await lab.add({
        callsign: "PYT-B",
        extra: `[discovery.web]
type = "http-list"
grant = ["broker.connect:127.0.0.1:${server.port}"]
host = "127.0.0.1"
port = ${server.port}
path = "/peers"
seconds = 1
`,
      });
      const bundle = await bundleFolder(join(root, "sdk/examples/discovery-python"));
      const path = writePackage(bundle, publisher, join(lab.dir, "python.gwp"));
      await trustPublisher(b.stateDir, publisher.id);
      await installPackage(b.stateDir, readFileSync(path), builtinPlugins);
      await Promise.all([a.start(), b.start()]);
      await b.until(
        "the link",
        async () => (await b.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected === 1,
        20_000,
      );
      const hints = await b.json<{ hints: { source: string; endpoint: string; verdict: string }[] }>(
        "/mesh/discovery",
      );
      expect(hints.hints).toContainEqual(
        expect.objectContaining({ source: "discovery.web", endpoint: a.endpoint, verdict: "linked" }),
      );
      const health = await b.json<{ checks: { name: string; status: string }[] }>("/health");
      expect(health.checks).toContainEqual({
        name: "discovery.web",
        status: "ok",
        reason: "running",
      } as never);
      const before = asked;
      await b.until("another fetch", async () => asked > before, 10_000);
      expect(await b.kill("SIGTERM")).toBeUndefined();
    } finally {
      await server.stop(true);
    }
  },
  60_000,
);
