/**
 * The list of parts: what one more costs, what it may rely on, and that nothing of a mesh outlives its stop. Tests the
 * folder's part.ts, part-list.ts and dispatch.ts; the engines are tested in their rooms, and all of it in test/sim.
 */
import { describe, expect, test } from "bun:test";
import type { Clock } from "@godwit/sdk";
import { ManualClock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { generateIdentity } from "../identity/keys.ts";
import { encodeRecord } from "../identity/record.ts";
import { type FakeSession } from "../peer/testing.ts";
import { encodeOffer, makeBundle } from "../wire/bundle.ts";
import { isCompactBundle } from "../wire/compact.ts";
import { FrameType } from "../wire/constants.ts";
import { encodePacket, PacketKind, packetPayload } from "../wire/packet.ts";
import { encodeBeacon } from "../wire/route-messages.ts";
import { decodeHello, GoodbyeReason } from "../wire/peer-messages.ts";
import type { MeshDeps } from "./deps.ts";
import type { MakePart, MeshPart, PartContext } from "./part.ts";
import { Mesh } from "./mesh.ts";
import { depsFor, neighbour, settled } from "./testing.ts";
import { testTime } from "../time/testing.ts";

/** Of no part, and for tests alone. */
const TEST_FRAME = 0xf0;
const TEST_KIND = 0xf0;

/** Of a gateway. */
const beacon = encodeBeacon({ seqno: 1, hasProof: true, gatewayMetric: 10 });

// Here is all of it: a part in one function, and its row in one line.

const echoPart: MakePart<{ readonly log: string[] }> = ({ deps, scope, mesh }: PartContext) => {
  const log: string[] = [];
  const note =
    (what: string) =>
    (...about: unknown[]) =>
      void log.push([what, ...about.filter((one) => typeof one !== "object")].join(" "));
  deps.clock.after(1e9, note("timer"));
  scope.spawn("waits", (signal) =>
    new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve())).then(
      note("task ended"),
    ),
  );
  return {
    engine: { log },
    frames: [
      { types: [TEST_FRAME, TEST_FRAME + 1], take: (_from, type, { length }) => note("frame")(type, length) },
    ],
    packets: [{ kind: TEST_KIND, take: (_header, { length }) => note("packet")(length) }],
    load: async () => note("load")(),
    start: note("start"),
    peerUp: () =>
      log.push(
        `up, the router knows ${mesh.router.nextHops(mesh.router.routes()[0]?.destination ?? deps.identity.id, "any").length} ways`,
      ),
    peerQuiet: note("quiet"),
    peerDown: note("down"),
    linkUp: note("link up"),
    linkDown: note("link down"),
    linkMeasured: note("measured"),
    writable: note("writable"),
    routeChanged: note("route"),
    defaultRouteChanged: note("default route"),
    directoryChanged: note("directory"),
    revoked: note("revoked"),
    refused: note("refused"),
    stop: () => log.push(`stop, ${mesh.peers.count} linked`),
  };
};

class MeshWithEcho extends Mesh {
  readonly echo = this.part("echo", echoPart);
}

async function echoMesh(changes: Partial<MeshDeps> = {}) {
  const clock = new ManualClock();
  const made = await depsFor(clock, 1, changes);
  const mesh = await settled(clock, MeshWithEcho.open(made.deps));
  const far = generateIdentity(made.random);
  return { clock, mesh, far, log: mesh.echo.log, ...made };
}

describe("a part that is added", () => {
  test("is one function and one row: it loads, hears, takes its frames and packets, and stops", async () => {
    const { clock, mesh, far, log, identity, deps } = await echoMesh();
    mesh.start();
    const session = neighbour(clock, mesh, identity.id, far);
    session.receive(Uint8Array.of(TEST_FRAME + 1, 1, 2));
    const header = {
      priority: 1,
      plane: "any",
      hopsLeft: 3,
      source: far.id,
      destination: identity.id,
    } as const;
    session.receive(encodePacket({ ...header, kind: TEST_KIND }, new Uint8Array(5)));
    session.drain();
    await settled(
      clock,
      mesh.setTrust(formatNodeId(new Uint8Array(32).fill(9)), {
        level: "blocked",
        reason: "",
        by: "operator",
      }),
    );
    session.close();
    await clock.advance(10);
    expect(log).toEqual([
      ...[
        "directory",
        "load",
        "start",
        "up, the router knows 0 ways",
        "link up",
        "frame 241 3",
        "packet 5",
        "writable",
      ],
      `refused ${formatNodeId(new Uint8Array(32).fill(9))}`,
      ...["link down closed", "down closed false"],
    ]);
    neighbour(clock, mesh, identity.id, far);
    log.length = 0;
    await settled(clock, mesh.stop());
    // While the links are there, and its task before; the last word is its own.
    expect(log).toEqual(["task ended ", "stop, 1 linked"]);
    expect(deps.clock).toBe(clock);
  });

  test("its own packets reach it as well, and those of a refused node do not", async () => {
    const { mesh, log, identity, far, clock, metrics } = await echoMesh();
    mesh.packets.send(identity.id, TEST_KIND, new Uint8Array(7), { priority: 1 });
    const session = neighbour(clock, mesh, identity.id, far);
    const header = { priority: 1, plane: "any", hopsLeft: 3, destination: identity.id } as const;
    const blocked = formatNodeId(new Uint8Array(32).fill(9));
    await settled(clock, mesh.setTrust(blocked, { level: "blocked", reason: "", by: "operator" }));
    session.receive(encodePacket({ ...header, source: blocked, kind: TEST_KIND }, new Uint8Array(8)));
    expect(log.filter((line) => line.startsWith("packet"))).toEqual(["packet 7"]);
    expect(await metrics.render()).toContain('godwit_packets_dropped_total{reason="refused"} 1');
    await mesh.stop();
  });
});

test("mail that waits on an edge node leaves when a gateway appears over a slow link", async () => {
  const { clock, mesh, far, identity, random } = await echoMesh();
  mesh.start();
  const farther = generateIdentity(random);
  const fields = { sequence: 1, callsign: undefined, location: undefined, endpoints: [], capabilities: [] };
  const record = encodeRecord(farther, { ...fields, prekey: undefined, nameProof: undefined }, "test");
  expect(mesh.records.offer(record)).not.toBe("invalid");
  await settled(clock, mesh.custody.send({ to: farther.id, body: new Uint8Array(8) }));
  const session = neighbour(clock, mesh, identity.id, far, "slow");
  await clock.advance(10);
  const bundles = () => session.sent.filter(([type]) => isCompactBundle(type));
  expect(bundles()).toHaveLength(0);
  session.receive(beacon);
  await clock.advance(10);
  expect(bundles()).toHaveLength(1);
  await settled(clock, mesh.stop());
});

describe("members on a node that becomes an edge", () => {
  /** Its only fast link, to a member, has just closed; `isHeard`: and a gateway is heard over a slow one. */
  async function edge(isHeard: boolean) {
    const made = await echoMesh();
    const { clock, mesh, far, identity, random } = made;
    mesh.start();
    const member = generateIdentity(random);
    const slow = neighbour(clock, mesh, identity.id, far, "slow");
    const fast = neighbour(clock, mesh, identity.id, member);
    if (isHeard) slow.receive(beacon);
    await clock.advance(10);
    fast.close();
    await clock.advance(200);
    return { ...made, slow, state: () => mesh.members.stateOf(member.id) };
  }
  const pings = ({ sent }: FakeSession) =>
    sent.filter(([type]) => type === FrameType.packet || type === FrameType.compactPacket);

  test("whom its gateway reaches is not failed, and is when the gateway goes", async () => {
    const { clock, mesh, slow, state } = await edge(true);
    await clock.advance(500);
    expect(state()).toBe("alive");
    slow.close();
    await clock.advance(500);
    expect(state()).toBe("failed");
    await settled(clock, mesh.stop());
  });

  test("whom nothing led to is asked again when a gateway appears", async () => {
    const { clock, mesh, slow, state } = await edge(false);
    await clock.advance(500);
    expect([state(), pings(slow)]).toEqual(["failed", []]);
    slow.receive(beacon);
    await clock.advance(2_000);
    expect(pings(slow)).toHaveLength(1);
    // One every twenty minutes: the channel is not for asking.
    await clock.advance(3_600_000);
    expect(pings(slow).length).toBeLessThanOrEqual(4);
    expect(pings(slow).length).toBeGreaterThanOrEqual(3);
    await settled(clock, mesh.stop());
  });
});

test("a member that is gone for a day is forgotten, and whoever hears is told", async () => {
  const { clock, mesh, heard } = await echoMesh();
  mesh.start();
  const gone = formatNodeId(new Uint8Array(32).fill(9));
  mesh.members.onRoute(gone, true);
  mesh.members.onRoute(gone, false);
  await clock.advance(60_000);
  expect([mesh.members.row(gone)?.state, heard.includes("memberForgotten")]).toEqual(["failed", false]);
  await clock.advance(25 * 3_600_000);
  expect([mesh.members.row(gone), heard.filter((kind) => kind === "memberForgotten").length]).toEqual([
    undefined,
    1,
  ]);
  await settled(clock, mesh.stop());
});

test("what routing, membership and custody say into a link without room is counted under their names", async () => {
  const { clock, mesh, far, identity, metrics } = await echoMesh();
  const session = neighbour(clock, mesh, identity.id, far, "fast", 8);
  const header = {
    kind: 0,
    priority: 1,
    source: far.id,
    destination: identity.id,
    lifetimeMs: 1_000,
  } as const;
  // Its life is over: acknowledged, so that nobody keeps it.
  const { id } = makeBundle(header, new Uint8Array(9));
  session.receive(
    encodeOffer({ id, header, journey: { remainingMs: 0, hops: 1, trace: [] }, sealedBytes: 9 }),
  );
  await clock.advance(2_500);
  const text = await metrics.render();
  for (const part of ["routing", "membership", "custody"])
    expect(text).toMatch(new RegExp(`frames_refused_total\\{part="${part}",reason="too_wide"\\} [1-9]`));
  await settled(clock, mesh.stop());
});

describe("dispatch", () => {
  const refusal = async (part: Partial<MeshPart>, name = "second") => {
    class Twice extends MeshWithEcho {
      readonly second = this.part(name, () => ({ engine: undefined, ...part }));
    }
    const clock = new ManualClock();
    const { deps } = await depsFor(clock);
    return settled(clock, Twice.open(deps)).then(
      () => "opened",
      (error: Error) => error.message,
    );
  };
  const take = () => {};

  test("two that take the same are refused when the table is made, both named", async () => {
    expect(await refusal({ frames: [{ types: [TEST_FRAME - 1, TEST_FRAME], take }] })).toBe(
      "frame type 240 is taken by echo and by second",
    );
    expect(await refusal({ frames: [{ types: [0x35, 0x36], take }] })).toBe(
      "frame type 53 is taken by custody and by second",
    );
    expect(await refusal({ packets: [{ kind: PacketKind.punch, take }] })).toBe(
      "packet kind 5 is taken by punching and by second",
    );
    expect(await refusal({ frames: [{ types: [FrameType.hello, FrameType.hello], take }] })).toContain(
      "the link itself",
    );
    expect(await refusal({ packets: [{ kind: PacketKind.traceReply, take }] })).toContain(
      "the packets themselves",
    );
    expect(await refusal({ frames: [{ types: [9, 8], take }] })).toContain("no range");
    expect(await refusal({ frames: [{ types: [0xff, 0x100], take }] })).toContain("no range");
    expect(await refusal({ frames: [{ types: [0xf2, 0xff], take }], packets: [{ kind: 0, take }] })).toBe(
      "opened",
    );
  });

  test("every number of the registry has a taker or is one of those that never come over a link", async () => {
    const { mesh, identity, far, clock, metrics } = await echoMesh();
    const session = neighbour(clock, mesh, identity.id, far);
    const { enrolRequest, enrolGrant, enrolRefuse } = FrameType;
    // The compact ones are read below the dispatch, on slow links alone.
    const compact = Object.values(FrameType).filter((type) => type >= 0x70 && type <= 0x78);
    const never = [enrolRequest, enrolGrant, enrolRefuse, ...compact];
    for (const type of never) session.receive(Uint8Array.of(type));
    expect(session.isClosed).toBe(false);
    expect(await metrics.render()).toContain(`godwit_frames_unknown_total ${never.length}`);
    const known = Object.values(FrameType).filter((type) => !(never as number[]).includes(type));
    // Each of them is one byte long and no frame: whoever takes it throws, and the link closes, or it is an empty one.
    for (const type of known) {
      const one = neighbour(clock, mesh, identity.id, generateIdentity(seededRandom(type + 100)));
      one.receive(Uint8Array.of(type));
    }
    expect(await metrics.render()).toContain(`godwit_frames_unknown_total ${never.length}`);
    await mesh.stop();
  });

  test("what nobody takes is counted once and costs no link", async () => {
    const { mesh, identity, far, clock, metrics } = await echoMesh();
    const session = neighbour(clock, mesh, identity.id, far);
    session.receive(Uint8Array.of(0x7e, 1));
    const header = {
      priority: 1,
      plane: "any",
      hopsLeft: 3,
      source: far.id,
      destination: identity.id,
    } as const;
    const packet = encodePacket({ ...header, kind: 0x7e }, new Uint8Array(1));
    expect(packetPayload(packet)).toHaveLength(1);
    session.receive(packet);
    expect(session.isClosed).toBe(false);
    const text = await metrics.render();
    expect(text).toContain("godwit_frames_unknown_total 1");
    expect(text).toContain('godwit_packets_dropped_total{reason="unknown_kind"} 1');
    await mesh.stop();
  });
});

describe("a hook that throws", () => {
  test("keeps nobody from hearing; it is counted by name, and the link it came on is closed", async () => {
    const last: string[] = [];
    class Broken extends MeshWithEcho {
      readonly broken = this.part("broken", () => ({
        engine: undefined,
        peerUp: () => {
          throw new Error("a bug in a part");
        },
      }));
      readonly last = this.part("last", () => ({
        engine: undefined,
        peerUp: () => void last.push("up"),
        peerDown: () => void last.push("down"),
      }));
    }
    const clock = new ManualClock();
    const { deps, identity, metrics, random } = await depsFor(clock);
    const mesh = await settled(clock, Broken.open(deps));
    const session = neighbour(clock, mesh, identity.id, generateIdentity(random));
    expect(last).toEqual(["up"]);
    await clock.advance(10);
    expect([session.isClosed, session.closedWith?.message, mesh.peers.count]).toEqual([
      true,
      "a bug in a part",
      0,
    ]);
    expect(last).toEqual(["up", "down"]);
    expect(await metrics.render()).toContain('godwit_mesh_part_failures_total{part="broken"} 1');
    await mesh.stop();
  });
});

describe("the end", () => {
  test("comes in the reverse order of the rows, and a part that has stopped hears no more", async () => {
    const order: string[] = [];
    const part = (name: string) => () => ({
      engine: undefined,
      peerDown: () => void order.push(`${name} down`),
      stop: () => void order.push(`${name} stop`),
    });
    class Three extends Mesh {
      readonly a = this.part("a", part("a"));
      readonly b = this.part("b", part("b"));
    }
    const clock = new ManualClock();
    const { deps, identity, random, heard } = await depsFor(clock);
    const mesh = await settled(clock, Three.open(deps));
    const session = neighbour(clock, mesh, identity.id, generateIdentity(random));
    heard.length = 0;
    await settled(clock, mesh.stop());
    expect(order).toEqual(["b stop", "a stop"]);
    // The farewell goes before the goodbye.
    const types = session.sent.map((frame) => frame[0]);
    expect(types.indexOf(FrameType.goodbye)).toBe(types.length - 1);
    expect(types.lastIndexOf(FrameType.memberFacts)).toBeGreaterThan(0);
    expect([session.isClosed, mesh.peers.count, heard]).toEqual([true, 0, []]);
    expect(mesh.book.lastSeenMs(session.remote)).toBeGreaterThan(0);
  });

  test("nothing fires after it, whatever was under way", async () => {
    const { clock, mesh, far, identity, heard, log } = await echoMesh();
    mesh.start();
    mesh.hints.add("static", { endpoint: "tcp://192.0.2.1:1", permanent: true }, "operator");
    await clock.advance(100);
    expect(mesh.dialer.targets[0]?.state).toBe("dialing");
    neighbour(clock, mesh, identity.id, far);
    mesh.setEndpoints(["tcp://192.0.2.7:1"]);
    const stopping = mesh.stop();
    await settled(clock, stopping);
    heard.length = log.length = 0;
    const late = neighbour(clock, mesh, identity.id, generateIdentity(seededRandom(5)));
    expect(late.isClosed).toBe(true);
    mesh.hints.add("static", { endpoint: "tcp://192.0.2.2:1", permanent: true }, "operator");
    mesh.setEndpoints(["tcp://192.0.2.8:1"]);
    await clock.advance(10);
    expect(clock.nextAtMs()).toBeUndefined();
    await clock.advance(1e9);
    expect(heard.filter((line) => !line.startsWith("hintHeard"))).toEqual([]);
    expect([log, mesh.peers.count, mesh.stop()]).toEqual([[], 0, stopping]);
  });

  test("a load that fails stops what there is, in the same order, and leaves no timer", async () => {
    const order: string[] = [];
    const part = (name: string, load: () => Promise<void>) => (context: PartContext) => {
      context.deps.clock.after(50, () => void order.push("timer"));
      return { engine: undefined, load, stop: () => void order.push(name) };
    };
    class Failing extends Mesh {
      readonly a = this.part(
        "a",
        part("a", async () => void order.push("a loaded")),
      );
      readonly b = this.part(
        "b",
        part("b", () => Promise.reject(new Error("its rows cannot be read"))),
      );
      readonly c = this.part(
        "c",
        part("c", async () => void order.push("c loaded")),
      );
    }
    const clock = new ManualClock();
    const { deps } = await depsFor(clock);
    const failed = await settled(clock, Failing.open(deps)).catch((error: Error) => error.message);
    expect(failed).toBe("its rows cannot be read");
    expect(order).toEqual(["a loaded", "c", "b", "a"]);
    await clock.advance(1_000);
    expect(order).toHaveLength(4);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("so does a part that cannot be made", async () => {
    const stopped: string[] = [];
    class Half extends Mesh {
      readonly a = this.part("a", ({ deps }) => {
        deps.clock.after(1e9, () => {});
        return { engine: undefined, stop: () => void stopped.push("a") };
      });
      readonly b = this.part("b", () => {
        throw new Error("it cannot be made");
      });
    }
    const clock = new ManualClock();
    const { deps } = await depsFor(clock);
    expect(await settled(clock, Half.open(deps)).catch((error: Error) => error.message)).toBe(
      "it cannot be made",
    );
    await clock.advance(10);
    expect([stopped, clock.nextAtMs()]).toEqual([["a"], undefined]);
  });
});

/** The type says it as well: a part gets no clock but its scope's. */
export type PartClock = PartContext["deps"]["clock"] extends Clock ? true : never;

describe("another life of this node", () => {
  async function linked() {
    const clock = new ManualClock();
    const dials: string[] = [];
    const dial = (endpoint: string) => {
      dials.push(endpoint);
      return Promise.reject(new Error("nobody there"));
    };
    const { deps, identity, heard, random } = await depsFor(clock, 1, { dial });
    const mesh = await settled(clock, Mesh.open(deps));
    mesh.start();
    const far = generateIdentity(random);
    const link = (to = far) => neighbour(clock, mesh, identity.id, to);
    return { clock, mesh, heard, link, dials, random, store: deps.store };
  }
  const helloEpochOf = ({ sent }: FakeSession) =>
    Buffer.from(decodeHello(sent.find(([type]) => type === FrameType.hello)!).storeEpoch).toString("hex");
  const goodbyes = ({ sent }: FakeSession) =>
    sent.filter(([type]) => type === FrameType.goodbye).map(([, reason]) => reason!);

  test("says numbers of its own 2 s behind the first link, once", async () => {
    const { clock, mesh, link, random } = await linked();
    const numbers = () => [mesh.members.own.incarnation % 2 ** 24, mesh.router.seqno % 2 ** 24] as const;
    link();
    await clock.advance(1_900);
    expect(numbers()[0]).toBe(0);
    const [, seqno] = numbers();
    await clock.advance(200);
    const settledAt = numbers();
    expect([settledAt[0] > 0, settledAt[1] > seqno]).toEqual([true, true]);
    link(generateIdentity(random));
    await clock.advance(10_000);
    expect(numbers()).toEqual(settledAt);
    await settled(clock, mesh.stop());
  });

  test("is followed by a new store epoch in hello, on new links, when it is over", async () => {
    const clock = new ManualClock();
    const { deps, identity, heard, random } = await depsFor(clock);
    const far = generateIdentity(random);
    await settled(clock, (await settled(clock, Mesh.open(deps))).stop());
    // Not the first start of the store: a new one has nothing that it could have forgotten.
    const mesh = await settled(clock, Mesh.open({ ...deps, metrics: new Metrics() }));
    mesh.start();
    mesh.otherLives.outrun(mesh.otherLives.epoch + 5);
    await clock.advance(14_000);
    const first = neighbour(clock, mesh, identity.id, far);
    expect([goodbyes(first), heard.includes("storeBehind")]).toEqual([[], true]);
    await clock.advance(2_000);
    expect(goodbyes(first)).toEqual([GoodbyeReason.stopping]);
    const second = neighbour(clock, mesh, identity.id, far);
    expect(helloEpochOf(second)).not.toBe(helloEpochOf(first));
    await settled(clock, mesh.stop());
  });

  test("is told to neighbours once the disk has room for that", async () => {
    const clock = new ManualClock();
    const { deps, identity, random } = await depsFor(clock);
    await settled(clock, (await settled(clock, Mesh.open(deps))).stop());
    const mesh = await settled(clock, Mesh.open({ ...deps, metrics: new Metrics() }));
    mesh.start();
    const { commit } = deps.store;
    deps.store.commit = () => Promise.reject(godwitError("GODWIT_STORE_FAILED", "full"));
    mesh.otherLives.outrun(mesh.otherLives.epoch + 5);
    await clock.advance(16_000);
    deps.store.commit = commit;
    await clock.advance(54_000);
    // One that answers nothing stays for some seconds only.
    const told: number[][] = [];
    for (let n = 0; n < 2; n++) {
      const session = neighbour(clock, mesh, identity.id, generateIdentity(random));
      await clock.advance(4_000);
      told.push(goodbyes(session));
    }
    expect(told.flat()).toEqual([GoodbyeReason.stopping]);
    expect(mesh.otherLives.life).toBe("alone");
    await settled(clock, mesh.stop());
  });

  test("leaves the links of a store alone that is new itself", async () => {
    const { clock, mesh, link } = await linked();
    mesh.otherLives.outrun(mesh.otherLives.epoch + 5);
    await clock.advance(14_000);
    const session = link();
    await clock.advance(2_000);
    expect(goodbyes(session)).toEqual([]);
    await settled(clock, mesh.stop());
  });

  test("on another machine: the node that stands down has no link until it looks again, and starts as such", async () => {
    const { clock, mesh, heard, link, dials, store } = await linked();
    mesh.dialer.add({ endpoint: "tcp://b:1", isPermanent: true });
    const first = link();
    for (let word = 0; word < 3; word++) mesh.otherLives.outrun(mesh.otherLives.epoch);
    await clock.advance(1_900);
    expect(goodbyes(first)).toEqual([]); // what is under way gets through
    await clock.advance(200);
    expect([goodbyes(first), heard.includes("identityDoubled")]).toEqual([[GoodbyeReason.double], true]);
    const second = link();
    await clock.advance(10);
    expect([goodbyes(second), mesh.peers.count]).toEqual([[GoodbyeReason.double], 0]);
    const rows = await settled(clock, store.load("setting"));
    expect(rows.find(({ key }) => key === "stood-down")?.meta).toBe("1");
    const before = dials.length;
    await clock.advance(897_000);
    expect(dials.length).toBe(before);
    await clock.advance(1_500);
    expect(dials.length).toBeGreaterThan(before);
    link();
    await clock.advance(10);
    expect([mesh.otherLives.life, mesh.peers.count]).toEqual(["returning", 1]);
    await settled(clock, mesh.stop());
  });
});

describe("the wall clock of a mesh", () => {
  const RIGHT_MS = 1_800_000_000_000;

  test("is looked at every minute, running time is kept, and a doubt is an event", async () => {
    const clock = new ManualClock(RIGHT_MS);
    const lived = testTime(clock);
    const { deps, heard } = await depsFor(clock, 1, { time: lived.time });
    const mesh = await settled(clock, Mesh.open(deps));
    mesh.start();
    await clock.advance(125_000);
    expect(lived.kept?.runMs).toBeGreaterThanOrEqual(60_000);
    clock.wallOffsetMs = RIGHT_MS + 365 * 24 * 3_600_000;
    await clock.advance(60_000);
    expect([lived.time.view.state, heard]).toEqual(["doubted", ["clockChanged"]]);
    await settled(clock, mesh.stop());
  });

  test("is confirmed by one neighbour that the operator trusts, or two of long standing in a closed mesh", async () => {
    const secret = {
      secret: new Uint8Array(32),
      generation: 0,
      retiresInMs: undefined,
      signature: undefined,
    };
    for (const { isTrusted, isClosed, isConfirmed } of [
      { isTrusted: true, isClosed: false, isConfirmed: true },
      { isTrusted: false, isClosed: true, isConfirmed: true },
      { isTrusted: false, isClosed: false, isConfirmed: false },
    ]) {
      const clock = new ManualClock(RIGHT_MS);
      const { deps, identity, random } = await depsFor(clock, 1, {
        liveSecrets: () => (isClosed ? [secret] : []),
      });
      const mesh = await settled(clock, Mesh.open(deps));
      const far = [generateIdentity(random), generateIdentity(random)];
      for (const one of far.slice(isTrusted ? 1 : 0))
        neighbour(clock, mesh, identity.id, one, "fast", 61_440, RIGHT_MS);
      expect(deps.time.isConfirmed).toBe(false);
      if (isTrusted)
        await settled(clock, mesh.setTrust(far[1]!.id, { level: "trusted", reason: "mine", by: "operator" }));
      else for (const { id } of far) mesh.book.addHistory(id, { linkedMs: 600_000 });
      deps.time.check();
      expect(deps.time.isConfirmed).toBe(isConfirmed);
      await settled(clock, mesh.stop());
    }
  });

  test("is not confirmed by a neighbour that the peer manager promoted, nor by one that is gone", async () => {
    const clock = new ManualClock(RIGHT_MS);
    const { deps, identity, random } = await depsFor(clock);
    const mesh = await settled(clock, Mesh.open(deps));
    const far = generateIdentity(random);
    const session = neighbour(clock, mesh, identity.id, far, "fast", 61_440, RIGHT_MS);
    const trust = (by: "operator" | "manager") =>
      settled(clock, mesh.setTrust(far.id, { level: "trusted", reason: "good", by }));
    await trust("manager");
    expect(deps.time.isConfirmed).toBe(false);
    session.close();
    await clock.advance(10);
    await trust("operator");
    expect(deps.time.isConfirmed).toBe(false);
    await settled(clock, mesh.stop());
  });
});
