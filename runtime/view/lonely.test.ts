import { describe, expect, test } from "bun:test";
import { godwitError } from "../kernel/errors.ts";
import { Hub } from "../kernel/hub.ts";
import { ManualClock } from "../kernel/clock.ts";
import type { MeshEvents } from "../mesh/events.ts";
import { adviceOf, Loneliness, LONELY_GRACE_MS } from "./lonely.ts";

const lastFailure = {
  endpoint: "tcp://192.0.2.1:4860",
  error: godwitError("GODWIT_HANDSHAKE_FAILED", "the far end hung up"),
};

test("a node that nobody lets in says so at once, and is degraded after a minute without a neighbour", async () => {
  const clock = new ManualClock();
  const hub = new Hub<MeshEvents>(() => {});
  const alone = new Loneliness(clock, hub);
  const nobody = { peers: { count: 0 }, dialer: { lastFailure } };
  const [told] = alone.troubles(nobody);
  expect(told).toMatchObject({ name: "links", isNotice: true });
  expect(told!.reason).toContain("tcp://192.0.2.1:4860 failed last: the far end hung up");
  expect(told!.reason).toContain("godwit invite");
  await clock.advance(LONELY_GRACE_MS);
  expect(alone.troubles(nobody)).toMatchObject([{ isNotice: false }]);
  expect(alone.troubles({ ...nobody, peers: { count: 1 } })).toEqual([]);
  expect(alone.troubles({ ...nobody, dialer: { lastFailure: undefined } })).toEqual([]);
  // It had one until now: the grace begins anew.
  hub.emit("peerDown", { peer: {} as MeshEvents["peerDown"]["peer"], reason: "gone" });
  expect(alone.troubles(nobody)).toMatchObject([{ isNotice: true }]);
});

describe("a node that was told of nobody", () => {
  const address = (name: string, scope: "private" | "global" | "link") => ({
    address: "10.0.0.1",
    family: 4 as const,
    prefixLength: 24,
    interface: name,
    scope,
    isAdvertisable: scope !== "link",
  });
  const running = (...types: string[]) =>
    types.map((type) => ({ instance: { namespace: "discovery" as const, type, name: type, options: {} } }));
  const nobody = { peers: { count: 0 }, hints: { isEmpty: true } };

  test("says what it could use, multicast DNS only on a LAN", () => {
    const ways = adviceOf(nobody, running("static"), [address("eth0", "private"), address("wan", "global")]);
    expect(ways[0]).toContain("nobody is known here");
    expect(ways.at(-1)).toBe('[discovery.lan] type = "mdns", which finds the nodes of this LAN (eth0)');
    expect(adviceOf(nobody, [], [address("wan", "global"), address("veth1", "link")]).join()).not.toContain(
      "mdns",
    );
  });

  test("says nothing where it has a neighbour, heard of somebody or looks for others", () => {
    const lan = [address("eth0", "private")];
    expect(adviceOf({ ...nobody, peers: { count: 1 } }, [], lan)).toEqual([]);
    expect(adviceOf({ ...nobody, hints: { isEmpty: false } }, running("static"), lan)).toEqual([]);
    expect(adviceOf(nobody, running("static", "mdns"), lan)).toEqual([]);
  });
});
