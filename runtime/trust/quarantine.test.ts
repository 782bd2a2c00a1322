/** Quarantine from suspicion to recovery, with custody and router played by hand. */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { formatMessageId, formatNodeId, type MessageId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { Hub } from "../kernel/hub.ts";
import type { Regard } from "../kernel/room.ts";
import { doorId, DoorRegard } from "../kernel/testing.ts";
import { type DistrustEvents, OTHERS_TRIALS_MAX, PAIRS_MAX, Quarantine } from "./quarantine.ts";
import { noRegard } from "./testing.ts";
import { QUARANTINE_FIRST_MS } from "./verdict.ts";

const id = (n: number): NodeId => formatNodeId(new Uint8Array(32).fill(n));
const [liar, honest, destination] = [id(1), id(2), id(3)];

/** `arrives(via)`: test bundles that take this way are answered by the destination. */
function setup(arrives: (via: NodeId) => boolean, regard: Regard = noRegard) {
  const clock = new ManualClock();
  const scope = new Scope("test");
  const seen: string[] = [];
  const ways = new Map<MessageId, NodeId>();
  let isOffering = true;
  let count = 0;
  const hub = new Hub<DistrustEvents>((_, error) => seen.push(String(error)));
  hub.on("lostDelivery", () => seen.push("lost"));
  hub.on("honestRoute", () => seen.push("honest"));
  hub.on("peerQuarantined", ({ forMs }) => seen.push(`quarantined ${forMs / 60_000} min`));
  hub.on("peerRestored", () => seen.push("restored"));
  const quarantine: Quarantine = new Quarantine({
    clock: scope.clock(clock),
    log: silentLog,
    metrics: new Metrics(),
    events: hub,
    regard,
    isConnected: () => true,
    router: {
      nextHops: () => [{ neighbour: liar }, { neighbour: honest }],
      offerOf: () => (isOffering ? { metric: 10, bottleneck: 0 } : undefined),
      suspect: () => true,
      quarantine: (_id, isOn) => void seen.push(isOn ? "last resort" : "as others"),
    },
    custody: {
      sendTest: (_destination, via) => {
        const bytes = new Uint8Array(16);
        new DataView(bytes.buffer).setUint32(0, ++count);
        const bundle = formatMessageId(bytes);
        ways.set(bundle, via);
        clock.after(50, () => {
          if (arrives(via)) quarantine.onTestAnswered(bundle, destination);
        });
        return bundle;
      },
      repeatTest() {},
      isTestTaken: () => true,
      endTest: (bundle) => void ways.delete(bundle),
      overdue: (via) => (via === liar ? { priority: 2 } : undefined),
      isAwaiting: () => false,
      reoffer() {},
    },
  });
  return {
    clock,
    scope,
    seen,
    quarantine,
    tests: () => ways.size,
    stopOffering: () => {
      isOffering = false;
    },
  };
}

describe("a neighbour that takes mail and loses it", () => {
  test("is the last resort until it delivers, then like others, and is remembered", async () => {
    let isHonest = false;
    const { clock, scope, seen, quarantine, tests } = setup((via) => via !== liar || isHonest);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(30_000);
    expect(seen).toEqual(["lost", "last resort", "quarantined 5 min"]);
    expect(quarantine.stateOf(liar)).toMatchObject({ offences: 1 });
    isHonest = true;
    await clock.advance(QUARANTINE_FIRST_MS - 31_000);
    expect(quarantine.stateOf(liar)).toBeDefined();
    await clock.advance(30_000);
    expect(seen.slice(3)).toEqual(["honest", "as others", "restored"]);
    expect(quarantine.stateOf(liar)).toBeUndefined();
    isHonest = false;
    await clock.advance(60_000);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(30_000);
    expect(seen.at(-1)).toBe("quarantined 10 min");
    expect(tests()).toBe(0);
    await scope.close();
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("that goes on losing stays in quarantine, each time for longer", async () => {
    const { clock, seen, quarantine } = setup((via) => via !== liar);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(QUARANTINE_FIRST_MS + 60_000);
    expect(seen.filter((line) => line.startsWith("quarantined"))).toEqual([
      "quarantined 5 min",
      "quarantined 10 min",
    ]);
    expect(quarantine.stateOf(liar)).toMatchObject({ offences: 2 });
  });

  test("that no longer claims the way is free when its time is over", async () => {
    const { clock, seen, quarantine, stopOffering } = setup((via) => via !== liar);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(30_000);
    stopOffering();
    await clock.advance(QUARANTINE_FIRST_MS);
    expect(seen.at(-1)).toBe("restored");
  });
});

test("a destination that answers nobody makes nobody a liar", async () => {
  const { clock, scope, seen, quarantine } = setup(() => false);
  for (let i = 0; i < 5; i++) {
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(120_000);
  }
  expect(seen).toEqual([]);
  await scope.close();
  expect(clock.nextAtMs()).toBeUndefined();
});

describe("in a flood of free identities", () => {
  /** Nobody's tests arrive but over the honest neighbour; who brings mail again is asked about. */
  function setupFlood() {
    const regard = new DoorRegard();
    const rig = setup((via) => via !== liar, regard);
    regard.sources.set(newcomer, "10.0.0.7");
    return { ...rig, regard };
  }
  const newcomer = doorId(7);
  const far = (n: number) => doorId(1_000 + n);

  test("mail that strangers bring again takes no trial from mail of the node itself, and a liar is met", async () => {
    const { clock, seen, quarantine } = setupFlood();
    for (let n = 0; n < 100_000; n++) quarantine.onReturned(honest, far(n), 2, doorId(9));
    expect(quarantine.trialCount).toBe(OTHERS_TRIALS_MAX);
    expect(quarantine.pairCount).toBeLessThanOrEqual(PAIRS_MAX);
    quarantine.onHanded(liar, destination);
    for (let second = 0; second < 25; second++) {
      for (let n = 0; n < 100; n++) quarantine.onReturned(honest, far(second * 100 + n), 2, doorId(9));
      await clock.advance(1_000);
    }
    expect(seen).toContain("quarantined 5 min");
  });

  test("what mail of another address raised is remembered: who was found honest is not tried again and again", async () => {
    const { clock, quarantine } = setupFlood();
    for (let round = 0; round < 5; round++) {
      await clock.advance(300_000);
      quarantine.onReturned(honest, destination, 2, newcomer);
      await clock.advance(20_000);
    }
    expect(quarantine.trialCount).toBe(0);
    for (let n = 0; n < 100_000; n++) quarantine.onReturned(honest, far(n), 2, doorId(9));
    await clock.advance(20_000);
    quarantine.onReturned(honest, destination, 2, newcomer);
    expect(quarantine.trialCount).toBe(0);
  });
});
