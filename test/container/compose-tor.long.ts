/** What takes longer than the suite `container` may: tor.yaml, on a private Tor network. */
import { afterAll, beforeAll, describe, test } from "bun:test";
import { whyNoTorNet } from "../tor/tor-net.ts";
import { Engine, missing } from "./engine.ts";
import { buildDebian, loadImage } from "./images.ts";
import { meshOfOnions } from "./tor.ts";

const why = missing ?? (process.env["CI"] === "true" ? undefined : whyNoTorNet());
let engine: Engine;

describe.skipIf(why !== undefined)(`in containers${why === undefined ? "" : ` [skipped: ${why}]`}`, () => {
  beforeAll(async () => {
    engine = await Engine.start();
    await loadImage(engine);
    await buildDebian(engine);
  }, 300_000);
  afterAll(() => engine?.close(), 120_000);

  test("three nodes meet by one Tor, knowing one node of a DHT", () => meshOfOnions(engine), 600_000);
});
