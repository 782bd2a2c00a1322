/** A channel that others fill: who is silent there, who is not, and what the sender is told. Two nodes with nothing but emulated radios, in virtual time. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { OutboxEntry } from "../../runtime/custody/source/entry.ts";
import type { Priority } from "../../runtime/wire/constants.ts";
import { line } from "../sim/radio/scenarios.ts";
import { RadioWorld } from "../sim/radio/world.ts";
import { type FirmwareAir, firmwareAir } from "./mesh-air.ts";
import { unlisted } from "./packet.ts";
import { TestClient } from "./testing.ts";

setDefaultTimeout(120_000);

const MINUTE_MS = 60_000;
/** From when others speak, until when; in between everything is looked at. */
const [FROM_MS, LOOK_MS, UNTIL_MS] = [120 * MINUTE_MS, 150 * MINUTE_MS, 160 * MINUTE_MS];

/** `everyMs`: a stranger's packet of 2.2 s. */
function world(everyMs: number) {
  const it = new RadioWorld({
    ...line(1, 2),
    ...{ loss: 0, hears: () => 20, mailPerHour: 1e-6, lifetimeMs: 180 * MINUTE_MS },
    ...{ warmUpMinutes: 60, minutes: 120, drainMinutes: 200, newAir: firmwareAir(() => ({})) },
  });
  const { ether, radios } = it.air as FirmwareAir;
  const stranger = ether.radio({
    // Of a region without a duty cycle.
    region: "US",
    neighbours: radios.map((one) => one!.radio),
    beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 },
  });
  const speak = (client: TestClient) => {
    if (it.time.nowMs > UNTIL_MS) return;
    client.send(unlisted(300), new Uint8Array(230), { hopLimit: 0 });
    it.time.after(everyMs, () => speak(client));
  };
  it.time.after(FROM_MS, () => {
    const client = TestClient.in(stranger);
    client.say({ case: "wantConfigId", value: 1 });
    it.time.after(1_000, () => speak(client));
  });
  const [source, target] = it.nodes;
  const write = (atMs: number, priority: Priority) =>
    it.time.after(atMs, () => {
      const order = { source: source!, address: target!.id, bytes: 100, priority };
      void it.workload.send(
        { ...order, lifetimeMs: 180 * MINUTE_MS, isRepeated: false, isWithdrawn: false },
        [target!],
      );
    });
  // So that the link is there.
  write(70 * MINUTE_MS, 2);
  write(FROM_MS + 10 * MINUTE_MS, 2);
  write(FROM_MS + 12 * MINUTE_MS, 0);
  const outbox = () => source!.mesh!.custody.outbox;
  const busy: number[] = [];
  const seen: { state: string; reason: string | null; priority: number }[] = [];
  it.time.after(LOOK_MS, () => {
    const [budget] = source!.mesh!.channels.airtime.channels;
    busy.push(budget!.medium.utilisation);
    for (const { id } of it.ledger.messages.values()) {
      const entry: OutboxEntry = source!.sent(id!)!;
      seen.push({ state: entry.state, reason: outbox().waitReason(entry), priority: entry.priority });
    }
  });
  /** From when the channel is free until the text is delivered, ms. */
  const waited = { fromMs: Number.NaN, ms: Number.NaN };
  const look = () => {
    const [, text] = [...it.ledger.messages.values()];
    const [budget] = source!.mesh!.channels.airtime.channels;
    if (Number.isNaN(waited.fromMs) && budget!.medium.admits! > 0) waited.fromMs = it.time.nowMs;
    if (source!.sent(text!.id!)!.state !== "delivered") return void it.time.after(1_000, look);
    waited.ms = it.time.nowMs - waited.fromMs;
  };
  it.time.after(UNTIL_MS, look);
  const air = it.air as FirmwareAir;
  const framesAt: Record<string, number> = {};
  const note = (name: string) => () =>
    void (framesAt[name] = air.frames.filter(({ kind }) => kind === "mail").length);
  it.time.after(FROM_MS + 11 * MINUTE_MS, note("before the alarm"));
  it.time.after(FROM_MS + 5 * MINUTE_MS, note("before the text"));
  return { it, seen, waited, framesAt, busy };
}

test("from 40 % on mail waits at its source and says why, an alarm and its acknowledgement go, and what waited is delivered when the channel is free", () => {
  const { it, seen, waited, framesAt, busy } = world(3_200);
  const result = it.run();
  expect(result.faults).toEqual([]);
  expect(busy[0]).toBeGreaterThanOrEqual(0.4);
  expect(seen.map(({ state, priority }) => `${priority} ${state}`)).toEqual([
    "2 delivered",
    "2 queued",
    "0 relayed",
  ]);
  expect(seen[1]!.reason).toMatch(/^the channel of lora is busy \(\d\d %\): only alarms go there now$/);
  expect(framesAt["before the alarm"]).toBe(framesAt["before the text"]);
  expect(waited.ms).toBeLessThan(60_000);
  expect(result.outcomes).toEqual({ delivered: 3 });
  expect(result.early).toEqual([]);
});

test("between 25 and 40 % mail goes, and no node says that it is there", () => {
  const { it, seen, busy } = world(7_000);
  const air = it.air as FirmwareAir;
  const beacons: number[] = [];
  const count = () => void beacons.push(air.frames.filter(({ kind }) => kind === "beacons").length);
  it.time.after(FROM_MS + 6 * MINUTE_MS, count);
  it.time.after(UNTIL_MS, count);
  const result = it.run();
  expect(busy[0]).toBeGreaterThanOrEqual(0.25);
  expect(busy[0]).toBeLessThan(0.4);
  expect(seen.map(({ state }) => state)).toEqual(["delivered", "delivered", "delivered"]);
  expect(beacons).toEqual([expect.any(Number), beacons[0]!]);
  expect(result.faults).toEqual([]);
});
