/** The engine of a real node is set as runtime/init/engine.ts says, in the process that was started. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Lab } from "../../scripts/lab.ts";

const SETTING = "BUN_JSC_thresholdForFTLOptimizeAfterWarmUp";
const settingsOf = (pid: number): string[] =>
  readFileSync(`/proc/${pid}/environ`, "utf8")
    .split("\0")
    .filter((line) => line.startsWith(SETTING));

test("a node is the process that was started, and its engine compiles late; an operator's own setting stays", async () => {
  const lab = await Lab.create();
  try {
    const plain = await lab.add({ callsign: "ENG-A", env: { KEPT: "a b=c\n" } });
    const set = await lab.add({ callsign: "ENG-B", env: { [SETTING]: "77" } });
    for (const node of [plain, set]) await node.start();
    expect(settingsOf(plain.pid!)).toEqual([`${SETTING}=1000000`]);
    expect(readFileSync(`/proc/${plain.pid!}/environ`, "utf8").split("\0")).toContain("KEPT=a b=c\n");
    expect(settingsOf(set.pid!)).toEqual([`${SETTING}=77`]);
  } finally {
    await lab.close();
  }
}, 30_000);
