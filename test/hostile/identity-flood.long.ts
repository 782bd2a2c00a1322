/** 100,000 free identities come and go at one node: more than any of its tables holds. */
import { afterAll, beforeAll, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { floodAndLook } from "./flood.ts";

const TEST_MS = 3 * 3_600_000;

let lab: Lab;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(() => lab?.close());

test(
  "100,000 throw-away identities do not keep newcomers from mail, to their names and ids, nor after a restart",
  () => floodAndLook(lab, 100_000),
  TEST_MS,
);
