/** How long a link over a radio takes to stand when something of it is lost: real handshakes and hellos on LongFast. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { Radio } from "./radio.ts";
import { base } from "./scenarios.ts";
import { RadioWorld } from "./world.ts";

setDefaultTimeout(60_000);

const MINUTE_MS = 60_000;

/** Virtual ms until two nodes that were told of each other by configuration have their link; `isLost`: what a radio does not hear, by its number there. */
function linkedAfterMs(
  seed: number,
  loss: number,
  isLost: (radio: number, frame: number) => boolean,
): number {
  const world = new RadioWorld({
    ...base,
    ...{ seed, loss, nodes: 2, introduced: true, peers: [[0, 1]], hears: () => 12 },
    ...{ ownShare: 1, dutyCycle: 1, startMinutes: 0.001, warmUpMinutes: 60, minutes: 1, drainMinutes: 1 },
    mailPerHour: 1e-6,
  });
  for (const [index, radio] of world.radios.entries()) {
    if (!(radio instanceof Radio)) throw new Error(`node ${index} has no simulated radio`);
    const hear = radio.hear.bind(radio);
    let frames = 0;
    radio.hear = (frame) => {
      if (!isLost(index, frames++)) hear(frame);
    };
  }
  let atMs = Number.POSITIVE_INFINITY;
  const look = () => {
    const isUp = world.nodes.every(
      ({ mesh }, index) => mesh?.peers.get(world.nodes[1 - index]!.id)?.isUp === true,
    );
    if (isUp) atMs = Math.min(atMs, world.time.nowMs);
    else world.time.after(1_000, look);
  };
  look();
  expect(world.run().faults).toEqual([]);
  return atMs;
}

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
