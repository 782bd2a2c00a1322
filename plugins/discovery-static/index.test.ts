import { expect, test } from "bun:test";
import type { Hint } from "@godwit/sdk";
import { TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

const validate = (value: unknown) =>
  plugin.config["~standard"].validate(value) as {
    value?: { peers: string[] };
    issues?: readonly { message: string; path?: readonly unknown[] }[];
  };

async function hintsOf(peers: readonly string[]): Promise<Hint[]> {
  const host = new TestHost(plugin);
  await host.start({ peers, dns_servers: ["127.0.0.1:1"] });
  const hints = [...host.hints.values()];
  await host.stop();
  return hints;
}

test("every entry is a permanent hint, with the node id it insists on in lower case", async () => {
  const id = `${"B".repeat(51)}Q`;
  expect(await hintsOf(["tcp://a.example:4860", `tcp://[fd00::1]:1#${id}`])).toEqual([
    { endpoint: "tcp://a.example:4860", permanent: true },
    { endpoint: "tcp://[fd00::1]:1", permanent: true, nodeId: id.toLowerCase() },
  ]);
  expect(await hintsOf([])).toEqual([]);
});

test("what is no endpoint, no node id or no known key is refused with its place", () => {
  const bad = ["a:1", "tcp://", "TCP://a:1", "tcp://a b:1", "tcp://a:1#short", `tcp://a:1#${"b".repeat(52)}`];
  for (const peer of bad) {
    const { issues } = validate({ peers: ["tcp://ok:1", peer] });
    expect(issues?.[0]?.path).toEqual(["peers", 1]);
  }
  expect(validate({ peers: [], nodes: [] }).issues?.length).toBe(1);
  expect(validate({ peers: Array.from({ length: 1_025 }, () => "tcp://a:1") }).issues?.length).toBe(1);
});
