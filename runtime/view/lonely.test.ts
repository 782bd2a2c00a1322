import { describe, expect, test } from "bun:test";
import { type ErrorCode, godwitError } from "../kernel/errors.ts";
import { Hub } from "../kernel/hub.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { ManualClock } from "../kernel/clock.ts";
import type { MeshEvents } from "../mesh/events.ts";
import { adviceOf, Loneliness, LONELY_GRACE_MS } from "./lonely.ts";

const lastFailure = {
  endpoint: "tcp://192.0.2.1:4860",
  error: godwitError("GODWIT_HANDSHAKE_FAILED", "the far end hung up"),
};

const never = { failingMs: undefined, error: undefined, isSelf: false, nodeId: undefined };
const target = (endpoint: string, more: Partial<Seen["dialer"]["targets"][number]> = {}) =>
  ({ ...never, endpoint, state: "waiting", ...more }) as const;
const failing = (endpoint: string, code: ErrorCode, failingMs = 0) =>
  target(endpoint, { error: godwitError(code, `not ${endpoint}`), failingMs });
type Seen = Parameters<Loneliness["troubles"]>[0];

/** Peers are those ids; every endpoint was named by the operator but for those in `heard`. */
function seenWith(peers: readonly NodeId[], targets: Seen["dialer"]["targets"], heard = ""): Seen {
  const last = targets.findLast(({ error }) => error !== undefined);
  return {
    peers: { count: peers.length, get: (id) => peers.find((one) => one === id) },
    dialer: {
      targets,
      lastFailure: last === undefined ? undefined : { endpoint: last.endpoint, error: last.error! },
    },
    hints: { namings: (endpoint) => (endpoint === heard ? [] : undefined) },
  };
}
const [wanted, other] = [1, 2].map((n) => formatNodeId(new Uint8Array(32).fill(n))) as [NodeId, NodeId];

test("a node that nobody lets in says so at once, and is degraded after a minute without a neighbour", async () => {
  const clock = new ManualClock();
  const hub = new Hub<MeshEvents>(() => {});
  const alone = new Loneliness(clock, hub);
  const nobody = { ...seenWith([], []), dialer: { lastFailure, targets: [] } };
  const [told] = alone.troubles(nobody);
  expect(told).toMatchObject({ name: "links", isNotice: true });
  expect(told!.reason).toContain("tcp://192.0.2.1:4860 failed last: the far end hung up");
  expect(told!.reason).toContain("godwit invite");
  const error = godwitError(
    "GODWIT_DIAL_FAILED",
    `${lastFailure.endpoint} cannot be reached: nobody answers`,
  );
  const [unreached] = alone.troubles({
    ...nobody,
    dialer: { lastFailure: { ...lastFailure, error }, targets: [] },
  });
  expect(unreached!.reason).toContain(
    "tcp://192.0.2.1:4860 failed last: cannot be reached: nobody answers; ",
  );
  await clock.advance(LONELY_GRACE_MS);
  expect(alone.troubles(nobody)).toMatchObject([{ isNotice: false }]);
  expect(alone.troubles({ ...nobody, peers: { count: 1, get: () => undefined } })).toEqual([]);
  expect(alone.troubles(seenWith([], []))).toEqual([]);
  // It had one until now: the grace begins anew.
  hub.emit("peerDown", { peer: {} as MeshEvents["peerDown"]["peer"], reason: "gone" });
  expect(alone.troubles(nobody)).toMatchObject([{ isNotice: true }]);
});

describe("where no endpoint that the operator named leads to a link", () => {
  const troubles = (seen: Seen) =>
    new Loneliness(new ManualClock(), new Hub<MeshEvents>(() => {})).troubles(seen);
  const both = (code: ErrorCode, ms = LONELY_GRACE_MS) => [
    failing("tcp://a:1", "GODWIT_HANDSHAKE_FAILED", ms),
    failing("tcp://b:1", code, ms),
  ];

  test("one cause of all is said as that, with its remedy", () => {
    const [told] = troubles(seenWith([], both("GODWIT_HANDSHAKE_FAILED")));
    expect(told!.reason).toContain(
      "all 2 fail for one cause, tcp://b:1: not tcp://b:1; is it of the same network",
    );
    const [mixed] = troubles(seenWith([], both("GODWIT_DIAL_FAILED")));
    expect(mixed!.reason).toContain("tcp://b:1 failed last");
  });

  test("the node is degraded although strangers are linked, after a minute", () => {
    const [told] = troubles(seenWith([other], both("GODWIT_HANDSHAKE_FAILED")));
    expect(told).toMatchObject({ name: "dials", isNotice: false });
    expect(told!.reason).toContain(
      "no endpoint that the configuration names led to a link for 60 s, others are linked; all 2 fail",
    );
    expect(troubles(seenWith([other], both("GODWIT_DIAL_FAILED", 59_000)))).toMatchObject([
      { isNotice: true },
    ]);
  });

  test("it is well where one of them is linked, is met another way, was not tried yet, or is this node", () => {
    const [a, b] = both("GODWIT_DIAL_FAILED") as [
      Seen["dialer"]["targets"][number],
      Seen["dialer"]["targets"][number],
    ];
    for (const one of [
      target("tcp://b:1", { state: "linked" }),
      { ...b, nodeId: other },
      target("tcp://b:1"),
    ])
      expect(troubles(seenWith([other], [a, one]))).toEqual([]);
    expect(troubles(seenWith([other], [{ ...b, isSelf: true }]))).toEqual([]);
    // Another node is there than the one that this leads to.
    expect(troubles(seenWith([other], [{ ...b, nodeId: wanted }]))).toHaveLength(1);
    // What a discovery heard of is no wish of the operator's.
    expect(troubles(seenWith([other], [a], a.endpoint))).toEqual([]);
  });

  test("a neighbour that comes is seen at once, and targets are looked at once a second at most", async () => {
    const clock = new ManualClock();
    const alone = new Loneliness(clock, new Hub<MeshEvents>(() => {}));
    let looks = 0;
    const counted = (peers: readonly NodeId[], targets: Seen["dialer"]["targets"]): Seen => {
      const seen = seenWith(peers, targets);
      const { lastFailure: last } = seen.dialer;
      return {
        ...seen,
        dialer: {
          lastFailure: last,
          get targets() {
            return (looks++, targets);
          },
        },
      };
    };
    for (let i = 0; i < 100; i++) alone.troubles(counted([], both("GODWIT_DIAL_FAILED")));
    expect(looks).toBe(1);
    expect(alone.troubles(counted([wanted], [target("tcp://a:1", { state: "linked" })]))).toEqual([]);
    await clock.advance(1_000);
    alone.troubles(counted([wanted], []));
    expect(looks).toBe(3);
  });
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
