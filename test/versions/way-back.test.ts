/** The short form of `--long way-back`: a store of the earlier releases with mail in every state, forward and back under kill -9. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { lastOfSchemaTwo, releaseBinary } from "../../scripts/releases.ts";
import { wayBack } from "./way-back.ts";

let lab: Lab;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
}, 240_000);

afterAll(async () => {
  await lab?.close();
});

test("a store of 0.2 is converted here and back under kill -9: nothing lost, nothing twice", async () => {
  const old = await releaseBinary(lastOfSchemaTwo);
  const report = await wayBack({
    lab,
    prefix: "WAY",
    old,
    to: "0.2",
    messages: 400,
    kills: 6,
    seed: 5,
    deliveryMs: 30_000,
  });
  expect(report.lost).toEqual([]);
  expect(report.twice).toEqual([]);
}, 240_000);
