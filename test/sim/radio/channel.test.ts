/** The channel by itself: what the air does to frames, by hand. How long a frame is there plugins/service-radio/modem.test.ts checks. */
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../../runtime/kernel/random.ts";
import { SimTime } from "../time.ts";
import { Channel, type Frame } from "./channel.ts";
import { ForeignTraffic } from "./foreign.ts";
import { bareModem, frameBytes, frameMs, meshtastic, presets } from "./lora.ts";
import { CAPTURE_DB } from "./medium.ts";
import type { Radio, RadioOptions } from "./radio.ts";

const HOUR_MS = 3_600_000;
const SHARES = [{ kind: "mail", part: 1 }] as const;

interface Station {
  readonly radio: Radio;
  readonly heard: Frame[];
}

class Air {
  readonly time = new SimTime();
  readonly channel: Channel;
  readonly #random = seededRandom(7);

  constructor(options: Partial<ConstructorParameters<typeof Channel>[0]> = {}) {
    this.channel = new Channel({
      time: this.time,
      random: this.#random,
      lora: presets.longFast,
      overhead: meshtastic,
      loss: 0,
      ...options,
    });
  }

  station(address: number, options: Partial<Omit<RadioOptions, "channel">> = {}): Station {
    const radio = this.channel.add({
      address,
      random: seededRandom(address),
      queueFramesMax: 16,
      ownShare: 1,
      burstMs: HOUR_MS,
      dutyCycle: 1,
      ...options,
    });
    const heard: Frame[] = [];
    radio.heard = (frame) => void heard.push(frame);
    return { radio, heard };
  }

  /** All hear all alike. */
  inEarshot(...stations: readonly Station[]): void {
    for (const [at, { radio }] of stations.entries())
      for (const other of stations.slice(0, at)) this.channel.join(radio, other.radio, 20);
  }

  /** Now, without listening or waiting. */
  shout({ radio }: Station, bytes = 100): void {
    this.channel.send(
      radio,
      {
        from: radio.address,
        to: "all",
        bytes: new Uint8Array(bytes),
        id: Math.floor(this.#random.float() * 2 ** 40),
        hops: 0,
        shares: SHARES,
      },
      () => {},
    );
  }
}

const send = (
  { radio }: Station,
  to: Station | "all",
  bytes = 100,
  done: (hasLeft: boolean) => void = () => {},
) => radio.offer(to === "all" ? "all" : to.radio.address, new Uint8Array(bytes), SHARES, done);

describe("airtime", () => {
  test("what goes to all is signed where that fits", () => {
    const beaconMs = (to: "one" | "all") => frameMs(presets.longFast, frameBytes(meshtastic, 22, to));
    expect(beaconMs("one")).toBeCloseTo(559, 0);
    expect(Math.abs(beaconMs("all") / 1_051 - 1)).toBeLessThan(0.02);
    expect(frameBytes(meshtastic, 200, "all")).toBe(frameBytes(meshtastic, 200, "one"));
    expect(frameBytes(bareModem, 200, "all")).toBe(204);
  });
});

describe("on the air", () => {
  test("a frame reaches all in earshot once, when it is whole", () => {
    const air = new Air();
    const [a, b, c] = [air.station(1), air.station(2), air.station(3)];
    air.inEarshot(a, b, c);
    air.shout(a);
    const ms = air.channel.airtimeOf(100, "all");
    air.time.run(ms - 1);
    expect([b.heard.length, c.heard.length]).toEqual([0, 0]);
    air.time.run(ms);
    expect([a.heard.length, b.heard.length, c.heard.length]).toEqual([0, 1, 1]);
  });

  test("what is for one comes to that one only", () => {
    const air = new Air();
    const [a, b, c] = [air.station(1), air.station(2), air.station(3)];
    air.inEarshot(a, b, c);
    send(a, b);
    air.time.run(60_000);
    expect([b.heard.length, c.heard.length]).toEqual([1, 0]);
  });

  test("two at once that are alike at a listener are both lost there", () => {
    const air = new Air();
    const [a, b, listener] = [air.station(1), air.station(2), air.station(3)];
    air.inEarshot(a, b, listener);
    air.shout(a, 20);
    air.time.run(100);
    air.shout(b, 200);
    air.time.run(60_000);
    expect(listener.heard).toEqual([]);
    expect(air.channel.misses.collision).toBe(2);
  });

  test("frames that only touch do not collide", () => {
    const air = new Air();
    const [a, b, listener] = [air.station(1), air.station(2), air.station(3)];
    air.inEarshot(a, b, listener);
    air.shout(a, 20);
    air.time.run(air.channel.airtimeOf(20, "all"));
    air.shout(b, 20);
    air.time.run(60_000);
    expect(listener.heard.length).toBe(2);
  });

  for (const [dB, reaches] of [
    [CAPTURE_DB, 1],
    [CAPTURE_DB - 0.1, 0],
  ] as const)
    test(`of two at once the one that is ${dB} dB stronger ${reaches === 1 ? "is heard" : "is lost as well"}`, () => {
      const air = new Air();
      const [strong, weak, listener] = [air.station(1), air.station(2), air.station(3)];
      air.channel.join(weak.radio, listener.radio, 3);
      air.channel.join(strong.radio, listener.radio, 3 + dB);
      air.shout(weak);
      air.time.run(10);
      air.shout(strong);
      air.time.run(60_000);
      expect(listener.heard.map(({ from }) => from)).toEqual(reaches === 1 ? [1] : []);
    });

  test("who sends hears nothing", () => {
    const air = new Air();
    const [a, b, c] = [air.station(1), air.station(2), air.station(3)];
    // c is far louder at b than a is: capture is not what saves the frame.
    air.channel.join(a.radio, b.radio, 30);
    air.channel.join(a.radio, c.radio, 30);
    air.shout(a);
    air.shout(b);
    air.time.run(60_000);
    expect([a.heard.length, b.heard.length]).toEqual([0, 0]);
    expect(air.channel.misses.sending).toBe(2);
    expect(c.heard.length).toBe(1);
  });

  test("hidden nodes collide at who is between them, those in earshot of each other hardly ever", () => {
    const collisions = (isHidden: boolean) => {
      const air = new Air();
      const [left, middle, right] = [air.station(1), air.station(2), air.station(3)];
      air.channel.join(left.radio, middle.radio, 20);
      air.channel.join(right.radio, middle.radio, 20);
      if (!isHidden) air.channel.join(left.radio, right.radio, 20);
      const random = seededRandom(3);
      for (let i = 0; i < 200; i++)
        for (const end of [left, right])
          air.time.after(i * 10_000 + random.float() * 1_000, () => send(end, middle));
      air.time.run(HOUR_MS);
      return air.channel.misses.collision;
    };
    expect(collisions(true)).toBeGreaterThan(200);
    expect(collisions(false)).toBeLessThan(30);
  });

  test("a node in a cellar neither hears nor is heard, and comes back", () => {
    const air = new Air();
    const [a, b] = [air.station(1), air.station(2)];
    air.inEarshot(a, b);
    b.radio.isShielded = true;
    send(a, b);
    send(b, a);
    air.time.run(60_000);
    expect([a.heard.length, b.heard.length]).toEqual([0, 0]);
    b.radio.isShielded = false;
    send(a, b);
    air.time.run(120_000);
    expect(b.heard.length).toBe(1);
  });

  test("one way may be open where the other is not", () => {
    const air = new Air();
    const [a, b] = [air.station(1), air.station(2)];
    air.channel.setStrength(a.radio, b.radio, 5);
    send(b, a);
    air.time.run(60_000);
    send(a, b);
    air.time.run(120_000);
    expect([a.heard.length, b.heard.length]).toEqual([0, 1]);
  });

  test("so many are lost by chance as was said", () => {
    const air = new Air({ loss: 0.3 });
    const [a, b] = [air.station(1), air.station(2)];
    air.inEarshot(a, b);
    for (let i = 0; i < 500; i++) air.time.after(i * 10_000, () => send(a, b, 20));
    air.time.run(5_100_000);
    expect(Math.abs(b.heard.length / 500 - 0.7)).toBeLessThan(0.06);
  });

  test("a relay carries a frame to whom its sender does not reach, and nobody gets it twice", () => {
    const air = new Air();
    const [a, b, relay] = [air.station(1), air.station(2), air.station(3, { relayHopsMax: 1 })];
    air.channel.join(a.radio, relay.radio, 20);
    air.channel.join(relay.radio, b.radio, 20);
    send(a, b);
    air.time.run(60_000);
    expect(b.heard.length).toBe(1);
    air.channel.join(a.radio, b.radio, 20);
    send(a, b);
    air.time.run(120_000);
    expect(b.heard.length).toBe(2);
    expect(relay.radio.airtimeMs).toBeCloseTo(2 * air.channel.airtimeOf(100, "one"), 3);
  });
});

describe("a station", () => {
  test("waits while it hears somebody", () => {
    const air = new Air();
    const [a, b, c] = [air.station(1), air.station(2), air.station(3)];
    air.inEarshot(a, b, c);
    air.shout(a, 200);
    const untilMs = air.channel.airtimeOf(200, "all");
    const leftAtMs: number[] = [];
    air.time.after(100, () => send(b, c, 20, () => leftAtMs.push(air.time.nowMs)));
    air.time.run(60_000);
    expect(leftAtMs[0]).toBeGreaterThanOrEqual(untilMs + air.channel.airtimeOf(20, "one"));
    expect(c.heard.length).toBe(2);
  });

  test("tells when each frame has left, in order, and refuses what is beyond its queue", () => {
    const air = new Air();
    const [a, b] = [air.station(1, { queueFramesMax: 3 }), air.station(2)];
    air.inEarshot(a, b);
    const told: number[] = [];
    const taken = [0, 1, 2, 3].map((at) => send(a, b, 10 + at, () => told.push(at)));
    expect(taken).toEqual([true, true, true, false]);
    expect(a.radio.refused).toBe(1);
    air.time.run(60_000);
    expect(told).toEqual([0, 1, 2]);
    expect(b.heard.map(({ bytes }) => bytes.length)).toEqual([10, 11, 12]);
  });

  test("keeps to its own share", () => {
    const air = new Air();
    const [a, b] = [air.station(1, { ownShare: 0.01, burstMs: 5_000 }), air.station(2)];
    air.inEarshot(a, b);
    const again = () => void send(a, b, 200, again);
    again();
    again();
    air.time.run(10 * HOUR_MS);
    const frameAirtimeMs = air.channel.airtimeOf(200, "one");
    expect(a.radio.airtimeMs).toBeGreaterThan(0.0095 * 10 * HOUR_MS);
    expect(a.radio.airtimeMs).toBeLessThan(0.01 * 10 * HOUR_MS + 5_000 + frameAirtimeMs);
  });

  test("never has more of any hour than the duty cycle allows", () => {
    const air = new Air();
    const [a, b] = [air.station(1, { dutyCycle: 0.01 }), air.station(2)];
    air.inEarshot(a, b);
    const sent: { atMs: number; ms: number }[] = [];
    air.channel.onSent = ({ startMs, endMs }) => void sent.push({ atMs: startMs, ms: endMs - startMs });
    const again = () => void send(a, b, 200, again);
    again();
    air.time.run(5 * HOUR_MS);
    for (const { atMs } of sent) {
      const inHour = sent.filter((other) => other.atMs > atMs - HOUR_MS + 1 && other.atMs <= atMs);
      expect(inHour.reduce((sum, { ms }) => sum + ms, 0)).toBeLessThanOrEqual(0.01 * HOUR_MS);
    }
    expect(sent.length).toBeGreaterThan(80);
  });

  test("knows how busy the channel is", () => {
    const air = new Air();
    const [a, b, deaf] = [air.station(1), air.station(2), air.station(3)];
    air.inEarshot(a, b);
    const eachMs = air.channel.airtimeOf(100, "all");
    for (let i = 0; i < 100; i++) air.time.after(i * eachMs * 4, () => air.shout(a));
    air.time.run(100 * eachMs * 4);
    expect(b.radio.utilisation).toBeCloseTo(0.25, 1);
    expect(a.radio.utilisation).toBeCloseTo(0.25, 1);
    expect(deaf.radio.utilisation).toBe(0);
  });
});

for (const share of [0.15, 0.3, 0.6])
  test(`foreign traffic takes ${100 * share} % of the channel`, () => {
    const air = new Air();
    const listener = air.station(1);
    const stations = [2, 3, 4].map((address) => air.station(address, { queueFramesMax: 64 }));
    air.inEarshot(listener, ...stations);
    const { channel, time } = air;
    new ForeignTraffic({
      channel,
      stations: stations.map(({ radio }) => radio),
      share,
      time,
      random: seededRandom(5),
    }).start();
    time.run(20 * HOUR_MS);
    expect(Math.abs(channel.airtimeMs / (20 * HOUR_MS) - share)).toBeLessThan(0.04);
    // Addressed to nobody here.
    expect(listener.heard).toEqual([]);
  });
