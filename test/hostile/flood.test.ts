/** 10,000 free identities come and go at one node. 100,000: `./scripts/test --long identity-flood`. */
import { afterAll, beforeAll, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab } from "../../scripts/lab.ts";
import { floodAndLook } from "./flood.ts";

const TEST_MS = 600_000;

let lab: Lab;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(() => lab?.close());

test(
  "10,000 throw-away identities do not keep newcomers from mail, to their names and ids, nor after a restart",
  () => floodAndLook(lab, 10_000),
  TEST_MS,
);
