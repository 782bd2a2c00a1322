/** `ctx.serial` in the compiled node, at every level of trust: all bytes, an unplug in the middle of a frame, and no more than was granted. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { socat } from "../../sdk/src/serial/testing.ts";
import { expectEcho, levels, SerialNode } from "./serial-lab.ts";

const why = socat === null ? " [skipped: socat is not installed]" : "";
const CYCLES = 5;
/** The runtime lets go of the last a little later. */
const LATE_DESCRIPTORS = 4;

let lab: Lab;
let dir: string;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  dir = await realpath(await mkdtemp(join(tmpdir(), "godwit-serial-")));
  lab = await Lab.create();
}, 120_000);
afterAll(async () => {
  await lab?.close();
  await rm(dir, { recursive: true, force: true });
});

describe.skipIf(socat === null)(`a serial port in the compiled node${why}`, () => {
  test.each(levels)(
    "of a %s plugin loses nothing, and is open again after each plug",
    async (level) => {
      const serial = await SerialNode.start(lab, level, dir);
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
    const serial = await SerialNode.start(lab, "untrusted", dir, false);
    await using _ = serial.cable;
    await serial.until("a refusal", ({ refused }) => refused !== "");
    const { opened, refused } = await serial.seen();
    expect(opened).toBe(0);
    expect(refused).toContain(`grant = ["serial:${serial.cable.near}"]`);
  }, 120_000);
});
