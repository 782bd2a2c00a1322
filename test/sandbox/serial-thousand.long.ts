/** A serial port that is unplugged a thousand times in the middle of a frame, at every level of trust, in the compiled node. */
import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { socat } from "../../sdk/src/serial/testing.ts";
import { expectEcho, LATE_DESCRIPTORS, levels, SerialNode, serialPlace, why } from "./serial-lab.ts";

const CYCLES = 1_000;
const IDLE_MS = 20_000;
const CPU_SHARE_MAX = 0.005;
const TICKS_PER_SECOND = 100;

const place = serialPlace();

/** Of a process and those that it started, seconds. */
async function cpuSecondsOf(pid: number): Promise<number> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const children = await Promise.all(
    tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, "utf8").catch(() => "")),
  );
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const below = await Promise.all(
    children
      .join(" ")
      .split(" ")
      .filter((text) => text.trim() !== "")
      .map((text) => cpuSecondsOf(Number(text))),
  );
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND + below.reduce((a, b) => a + b, 0);
}

async function idleShareOf(pid: number): Promise<number> {
  const before = await cpuSecondsOf(pid);
  await Bun.sleep(IDLE_MS);
  return ((await cpuSecondsOf(pid)) - before) / (IDLE_MS / 1_000);
}

describe.skipIf(socat === null)(`a serial port in the compiled node${why}`, () => {
  test.each(levels)(
    "of a %s plugin is there after each of a thousand plugs, and leaves no descriptor behind",
    async (level) => {
      const serial = await SerialNode.start(place.lab, level, place.dir);
      await using _ = serial.cable;
      await serial.until("the port to open", ({ isOpen }) => isOpen);
      await expectEcho(serial, 2_000_000);
      await serial.cycle(1);
      const before = await serial.descriptors();
      for (let round = 2; round <= CYCLES; round++) await serial.cycle(round);
      await expectEcho(serial, 2_000_000);
      const after = await serial.descriptors();
      const open = await idleShareOf(serial.node.pid!);
      console.log(
        `  ${level}: open again within ${Math.round(serial.slowestMs)} ms, descriptors ${before} -> ${after}, idle ${(100 * open).toFixed(2)} % of a processor`,
      );
      expect(after).toBeLessThanOrEqual(before + LATE_DESCRIPTORS);
      expect(open).toBeLessThan(CPU_SHARE_MAX);
    },
    1_200_000,
  );
});
