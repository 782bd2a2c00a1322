/** How long a link over a radio takes to stand when something of it is lost: real handshakes and hellos on LongFast. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { Radio } from "./radio.ts";
import type { RadioWorldOptions } from "./options.ts";
import { base } from "./scenarios.ts";
import { RadioWorld } from "./world.ts";

setDefaultTimeout(60_000);

const MINUTE_MS = 60_000;

/** What a radio does not hear, by its number among the radios and how many frames reached it before. */
type IsLost = (radio: number, frame: number) => boolean;

/** Virtual ms until `isDone` of a world in which whoever has a radio was told by configuration whom to call. */
function untilMs(
  options: Pick<RadioWorldOptions, "seed" | "nodes" | "loss" | "peers"> & Partial<RadioWorldOptions>,
  isLost: IsLost,
  isDone: (world: RadioWorld) => boolean,
): number {
  const world = new RadioWorld({
    ...base,
    ...{ introduced: true, hears: () => 12, ownShare: 1, dutyCycle: 1 },
    ...{ startMinutes: 0.001, warmUpMinutes: 60, minutes: 1, drainMinutes: 1 },
    mailPerHour: 1e-6,
    ...options,
  });
  const radios = world.radios.filter((radio) => radio !== undefined);
  for (const [index, radio] of radios.entries()) {
    if (!(radio instanceof Radio)) throw new Error(`node ${index} has no simulated radio`);
    const hear = radio.hear.bind(radio);
    let frames = 0;
    radio.hear = (frame) => {
      if (!isLost(index, frames++)) hear(frame);
    };
  }
  let atMs = Number.POSITIVE_INFINITY;
  const look = () => {
    if (isDone(world)) atMs = Math.min(atMs, world.time.nowMs);
    else world.time.after(1_000, look);
  };
  look();
  expect(world.run().faults).toEqual([]);
  return atMs;
}

const linkedAfterMs = (seed: number, loss: number, isLost: IsLost): number =>
  untilMs({ seed, loss, nodes: 2, peers: [[0, 1]] }, isLost, ({ nodes }) =>
    nodes.every(({ mesh }, index) => mesh?.peers.get(nodes[1 - index]!.id)?.isUp === true),
  );

/** An edge node beside a gateway with a wire: it has its way out, and whoever is behind the wire knows one to it. */
const ofUseAfterMs = (seed: number, loss: number, isLost: IsLost): number =>
  untilMs(
    { seed, loss, nodes: 3, peers: [[2, 1]], wires: [[0, 1]], hasRadio: (node) => node > 0 },
    isLost,
    ({ nodes: [core, , edge] }) =>
      edge?.mesh?.router.hasDefaultRoute === true && core?.mesh?.router.reachable(edge.id) === true,
  );

test("whichever frame of its making is lost, a link stands within three minutes", () => {
  for (const radio of [0, 1])
    for (let lost = 0; lost < 10; lost++) {
      const ms = linkedAfterMs(lost, 0, (at, frame) => at === radio && frame === lost);
      expect(ms).toBeLessThan(3 * MINUTE_MS);
    }
});

test("where every fifth frame is lost, most links stand within five minutes", () => {
  const ms = Array.from({ length: 20 }, (_, seed) => linkedAfterMs(seed + 1, 0.2, () => false));
  expect(ms.filter((one) => one < 5 * MINUTE_MS).length).toBeGreaterThanOrEqual(18);
});

test("whichever frame is lost, a gateway and its edge node have all they need of each other within three minutes", () => {
  for (const radio of [0, 1])
    for (let lost = 0; lost < 12; lost++) {
      const ms = ofUseAfterMs(lost, 0, (at, frame) => at === radio && frame === lost);
      expect(ms).toBeLessThan(3 * MINUTE_MS);
    }
});

test("where one frame in a hundred is lost they have it within two minutes, mostly", () => {
  const ms = Array.from({ length: 20 }, (_, seed) => ofUseAfterMs(seed + 1, 0.01, () => false));
  expect(ms.filter((one) => one < 2 * MINUTE_MS).length).toBeGreaterThanOrEqual(18);
});
