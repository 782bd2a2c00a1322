/** 20,000 messages in every state, forward and back under kill -9. `WAY_BACK_SEED=n` repeats a run. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { lastOfSchemaTwo, releaseBinary } from "../../scripts/releases.ts";
import { wayBack } from "./way-back.ts";

const MESSAGES = 20_000;
const KILLS = 40;

test("20,000 messages in every state of a store of 0.2: converted here and back under kill -9", async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  const old = await releaseBinary(lastOfSchemaTwo);
  const seed = Number(process.env["WAY_BACK_SEED"] ?? Date.now() % 1_000_000);
  const lab = await Lab.create();
  try {
    const report = await wayBack({
      lab,
      prefix: "WAY",
      old,
      to: "0.2",
      messages: MESSAGES,
      kills: KILLS,
      seed,
      deliveryMs: 300_000,
    });
    console.log(JSON.stringify({ seed, ...report }));
    expect([report.lost, report.twice]).toEqual([[], []]);
  } finally {
    await lab.close();
  }
}, 1_200_000);
