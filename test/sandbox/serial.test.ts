/** `ctx.serial` in the compiled node, at every level of trust: all bytes, an unplug in the middle of a frame, and no more than was granted. */
import { describe, expect, test } from "bun:test";
import { socat } from "../../sdk/src/serial/testing.ts";
import { expectEcho, LATE_DESCRIPTORS, levels, SerialNode, serialPlace, why } from "./serial-lab.ts";

const CYCLES = 5;

const place = serialPlace();

describe.skipIf(socat === null)(`a serial port in the compiled node${why}`, () => {
  test.each(levels)(
    "of a %s plugin loses nothing, and is open again after each plug",
    async (level) => {
      const serial = await SerialNode.start(place.lab, level, place.dir);
      await using _ = serial.cable;
      await serial.until("the port to open", ({ isOpen }) => isOpen);
      await expectEcho(serial, 300_000);
      await serial.cycle(1);
      const before = await serial.descriptors();
      for (let round = 2; round <= CYCLES; round++) await serial.cycle(round);
      await expectEcho(serial, 10_000);
      expect(await serial.descriptors()).toBeLessThanOrEqual(before + LATE_DESCRIPTORS);
    },
    120_000,
  );

  test("is refused by name where it was not granted", async () => {
    const serial = await SerialNode.start(place.lab, "untrusted", place.dir, false);
    await using _ = serial.cable;
    await serial.until("a refusal", ({ refused }) => refused !== "");
    const { opened, refused } = await serial.seen();
    expect(opened).toBe(0);
    expect(refused).toContain(`grant = ["serial:${serial.cable.near}"]`);
  }, 120_000);
});
