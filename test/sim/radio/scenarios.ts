/** The worlds of GOALS rows 10, 11 and 17 on radio channels. */
import { frameBytes, frameMs, meshtastic, presets } from "./lora.ts";
import type { RadioWorldOptions } from "./options.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Of the airtime, for each node. */
const OWN_SHARE = 0.01;
/**
 * What is offered must not depend on what it is measured with: a message of 100 bytes, its receipt and an acknowledgement of each, by the figures of
 * row 10 and one byte of the transport, bytes.
 */
const TELEX_BYTES = [149, 41, 17, 17] as const;

export const base = {
  lora: presets.longFast,
  overhead: meshtastic,
  mtu: 200,
  loss: 0.01,
  ownShare: OWN_SHARE,
  burstMs: 20_000,
  dutyCycle: 0.1,
  queueFramesMax: 32,
  foreignShare: 0,
  startMinutes: 1,
  introduced: false,
  // Until there are beacons.
  isConfigured: true,
  bodyBytes: 100,
  lifetimeMs: 3 * HOUR_MS,
} as const satisfies Partial<RadioWorldOptions>;

/** Messages an hour that fill half of what `nodes` may have of a LongFast channel, over so many radio hops. */
export function halfLoad(nodes: number, hops = 1): number {
  const eachMs = TELEX_BYTES.reduce(
    (sum, bytes) => sum + frameMs(presets.longFast, frameBytes(meshtastic, bytes, "one")),
    0,
  );
  return (0.5 * nodes * OWN_SHARE * HOUR_MS) / (hops * eachMs);
}

const everyPair = (nodes: number): (readonly [number, number])[] =>
  Array.from({ length: nodes }, (_, a) => a).flatMap((a) =>
    Array.from({ length: nodes - a - 1 }, (_, i) => [a, a + 1 + i] as const),
  );

/** (a) All hear all, and nothing but the radio. */
export const earshot = (seed: number, foreignShare: number, isForeignLate = true): RadioWorldOptions => ({
  ...base,
  seed,
  nodes: 10,
  startMinutes: 180,
  warmUpMinutes: 240,
  // Forty-five links take all that control may have for 12 h.
  practiceMinutes: 2_160,
  minutes: 120,
  drainMinutes: 200,
  foreignShare,
  isForeignLate,
  hears: (_a, _b, random) => 5 + random.float() * 20,
  peers: everyPair(10),
  mailPerHour: halfLoad(10),
});

/** (c) Each hears only the next ones. */
export const line = (seed: number, nodes: number): RadioWorldOptions => ({
  ...base,
  seed,
  nodes,
  warmUpMinutes: 120,
  minutes: 120,
  drainMinutes: 200,
  introduced: true,
  hears: (a, b) => (Math.abs(a - b) === 1 ? 12 : undefined),
  peers: Array.from({ length: nodes - 1 }, (_, at) => [at, at + 1] as const),
  mailPerHour: halfLoad(nodes, nodes / 2),
});

/** (d) Fast, slow, fast: two wires and one hop over the air between them. */
export const bridge = (seed: number): RadioWorldOptions => ({
  ...base,
  seed,
  nodes: 4,
  warmUpMinutes: 60,
  minutes: 120,
  drainMinutes: 200,
  introduced: true,
  hasRadio: (node) => node === 1 || node === 2,
  wires: [
    [0, 1],
    [2, 3],
  ],
  hears: () => 12,
  peers: [[1, 2]],
  mailPerHour: halfLoad(2),
  pair: (random) => (random.float() < 0.5 ? [0, 3] : [3, 0]),
});

/** (e) Two fast nodes, of which one is the gateway of three that have only the radio. */
export const edge = (seed: number): RadioWorldOptions => ({
  ...base,
  seed,
  nodes: 5,
  // Links are made within the budget of all control: they stand before mail counts.
  warmUpMinutes: 960,
  minutes: 120,
  drainMinutes: 200,
  introduced: true,
  hasRadio: (node) => node > 0,
  wires: [[0, 1]],
  hears: (_a, _b, random) => 5 + random.float() * 20,
  peers: [
    [2, 1],
    [3, 1],
    [4, 1],
  ],
  // The gateway sends one of each message and its receipt.
  mailPerHour: halfLoad(2),
  pair: (random) => {
    const [fast, slow] = [random.below(2), 2 + random.below(3)];
    return random.float() < 0.5 ? [fast, slow] : [slow, fast];
  },
});

/** The same, one of them out of earshot for a day that begins with the mail. */
export const dayApart = (seed: number): RadioWorldOptions => ({
  ...edge(seed),
  // From when mail counts.
  cellars: [{ node: 2, fromMs: 16 * HOUR_MS, forMs: DAY_MS }],
  lifetimeMs: 2 * DAY_MS,
  drainMinutes: 49 * 60,
});

const ISLANDS = 5;
const PER_ISLAND = 10;

/**
 * (b) Five islands of ten, which do not hear each other; two of each have a wire to their like on the next island, and the
 * wires come and go. One node of each island is in a cellar for the first half of the day.
 */
export const islands = (seed: number, hours = 24): RadioWorldOptions => {
  const gateways = (island: number) => [island * PER_ISLAND, island * PER_ISLAND + 1] as const;
  const islandOf = (node: number) => Math.floor(node / PER_ISLAND);
  return {
    ...base,
    seed,
    nodes: ISLANDS * PER_ISLAND,
    warmUpMinutes: 60,
    minutes: hours * 60,
    drainMinutes: 28 * 60,
    introduced: true,
    lifetimeMs: DAY_MS,
    hears: (a, b, random) => (islandOf(a) === islandOf(b) ? 5 + random.float() * 20 : undefined),
    wires: Array.from({ length: ISLANDS }, (_, island) => island).flatMap((island) => {
      const next = (island + 1) % ISLANDS;
      return [
        [gateways(island)[0], gateways(next)[0]] as const,
        [gateways(island)[1], gateways(next)[1]] as const,
        [gateways(island)[0], gateways(island)[1]] as const,
      ];
    }),
    flaps: { upMs: HOUR_MS, downMs: HOUR_MS / 3 },
    cellars: Array.from({ length: ISLANDS }, (_, island) => ({
      node: island * PER_ISLAND + PER_ISLAND - 1,
      fromMs: HOUR_MS / 2,
      forMs: (hours * HOUR_MS) / 2,
    })),
    // Edge nodes know their gateways.
    peers: Array.from({ length: ISLANDS * PER_ISLAND }, (_, node) => node).flatMap((node) =>
      node % PER_ISLAND < 2 ? [] : gateways(islandOf(node)).map((gateway) => [node, gateway] as const),
    ),
    // An island is one channel, and most mail crosses two of them.
    mailPerHour: halfLoad(ISLANDS * PER_ISLAND, 3) / 4,
  };
};

export const scenarios: Readonly<Record<string, (seed: number) => RadioWorldOptions>> = {
  earshot: (seed) => earshot(seed, 0),
  "earshot-15": (seed) => earshot(seed, 0.15),
  "earshot-30": (seed) => earshot(seed, 0.3),
  "earshot-60": (seed) => earshot(seed, 0.6),
  "earshot-busy": (seed) => earshot(seed, 0.6, false),
  islands: (seed) => islands(seed),
  "line-3": (seed) => line(seed, 3),
  "line-5": (seed) => line(seed, 5),
  bridge,
  edge,
  "day-apart": dayApart,
};
