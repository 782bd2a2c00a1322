/** Hints without end. */
import { Dialer, TARGETS_MAX } from "../peer/dialer.ts";
import { godwitError } from "../kernel/errors.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { DOOR_IDENTITIES, DOOR_TEST_MS, doorId } from "../kernel/testing.ts";
import { HINTS_PER_SOURCE_MAX, Hints } from "./hints.ts";
import { node, nobody } from "./testing.ts";

test(
  "hints of one source without end cost bounded memory and bounded dials",
  async () => {
    const clock = new ManualClock();
    const scope = new Scope("test");
    let dials = 0;
    const dialer = new Dialer({
      scope,
      clock: scope.clock(clock),
      random: seededRandom(1),
      log: silentLog,
      metrics: new Metrics(),
      self: node,
      dial: () => (dials++, Promise.reject(godwitError("GODWIT_DIAL_FAILED", "nobody there"))),
      handshake: () => Promise.reject(new Error("never")),
      adopt() {},
      isConnected: () => false,
    });
    const hints = new Hints(clock, {
      ...nobody,
      wanted: (at, id, isPermanent) =>
        void dialer.add({ endpoint: at, isPermanent, ...(id === undefined ? {} : { nodeId: id }) }),
      unwanted: (at) => dialer.remove(at),
      heard() {},
    });
    for (let index = 0; index < DOOR_IDENTITIES; index++)
      hints.add("discovery.flood", { endpoint: `tcp://10.0.0.1:${index}`, lifetimeMs: 60_000 }, "plugin");
    expect(hints.add("discovery.flood", { endpoint: `tcp://${"x".repeat(1_000)}:1` }, "plugin")).toBe(false);
    expect(hints.list.length).toBe(HINTS_PER_SOURCE_MAX);
    expect(dialer.targets.length).toBeLessThanOrEqual(TARGETS_MAX);
    await clock.advance(10_000);
    expect(dials).toBeGreaterThan(300);
    expect(dials).toBeLessThanOrEqual(64 * 11);
    // What an operator wrote down does not wait behind them.
    const before = dials;
    dialer.add({ endpoint: "tcp://a:1", isPermanent: true });
    await clock.advance(1);
    expect(dials).toBeGreaterThan(before);
    await scope.close();
  },
  DOOR_TEST_MS,
);

test(
  "hints that strangers announced without end push out neither what the operator wrote, nor whom this node knows, nor others",
  async () => {
    const clock = new ManualClock();
    const scope = new Scope("test");
    const dials = new Set<string>();
    const dialer = new Dialer({
      scope,
      clock: scope.clock(clock),
      random: seededRandom(1),
      log: silentLog,
      metrics: new Metrics(),
      self: node,
      dial: (at) => (dials.add(at), Promise.reject(godwitError("GODWIT_DIAL_FAILED", "nobody there"))),
      handshake: () => Promise.reject(new Error("never")),
      adopt() {},
      isConnected: () => false,
    });
    const friend = doorId(1);
    const hints = new Hints(scope.clock(clock), {
      isKnown: (id) => id === friend,
      isLinked: (at) => dialer.isLinked(at),
      wanted: (at, id, isPermanent, share) =>
        void dialer.add({ endpoint: at, isPermanent, share, ...(id === undefined ? {} : { nodeId: id }) }),
      unwanted: (at) => dialer.remove(at),
      heard() {},
    });
    hints.add("discovery.static", { endpoint: "tcp://10.0.0.1:1", permanent: true }, "operator");
    hints.add("book", { endpoint: "tcp://10.0.0.2:1", nodeId: friend }, "member");
    hints.add("peers", { endpoint: "tcp://10.0.0.3:1", nodeId: doorId(2) }, "member");
    hints.add("discovery.mdns", { endpoint: "tcp://10.0.0.4:1" }, "plugin");
    // Whom a hint names is free to say: it is nobody's word that the friend is there.
    const flood = (source: string) => {
      for (let n = 0; n < DOOR_IDENTITIES; n++)
        hints.add(source, { endpoint: `tcp://192.0.2.${n % 4}:${n}`, nodeId: friend }, "plugin");
    };
    flood("discovery.mdns");
    flood("discovery.udp");
    hints.add("discovery.mdns", { endpoint: "tcp://10.0.0.5:1" }, "plugin");
    expect(hints.list.length).toBeLessThanOrEqual(2 * HINTS_PER_SOURCE_MAX + 3);
    const targets = dialer.targets.map(({ endpoint: at }) => at);
    expect(targets.length).toBeLessThanOrEqual(TARGETS_MAX);
    for (const n of [1, 2, 3, 5]) expect(targets).toContain(`tcp://10.0.0.${n}:1`);
    // Of one source the dialer keeps the newest; the hint is there, and is a target again as soon as it is heard.
    const heard = hints.list.map(({ endpoint: at }) => at);
    for (let n = 1; n <= 5; n++) expect(heard).toContain(`tcp://10.0.0.${n}:1`);
    hints.add("discovery.mdns", { endpoint: "tcp://10.0.0.4:1" }, "plugin");
    expect(dialer.targets.map(({ endpoint: at }) => at)).toContain("tcp://10.0.0.4:1");
    // All others have tried again, and spent what there is for them.
    await clock.advance(1_500);
    // Of the operator and of whom this node knows at once, whatever waits.
    hints.add("book", { endpoint: "tcp://10.0.0.6:1", nodeId: friend }, "member");
    await clock.advance(1);
    for (const n of [1, 2, 6]) expect(dials).toContain(`tcp://10.0.0.${n}:1`);
    await scope.close();
  },
  DOOR_TEST_MS,
);
