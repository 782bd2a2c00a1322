/** What takes longer than the suite `container` may: tor.yaml, on a private Tor network, and the files that come fresh alone there. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { binaryPath } from "../../scripts/lab.ts";
import { whyNoTorNet } from "../tor/tor-net.ts";
import { Engine, missing } from "./engine.ts";
import { buildDebian, loadImage } from "./images.ts";
import { isRing } from "./ring.ts";
import { Topology } from "./topology.ts";
import { meshOfOnions } from "./tor.ts";

const SLOW_MS = 600_000;
const why = missing ?? (process.env["CI"] === "true" ? undefined : whyNoTorNet());
let engine: Engine;

describe.skipIf(why !== undefined)(`in containers${why === undefined ? "" : ` [skipped: ${why}]`}`, () => {
  beforeAll(async () => {
    engine = await Engine.start();
    await loadImage(engine);
    await buildDebian(engine);
  }, SLOW_MS);
  afterAll(() => engine?.close(), SLOW_MS);

  test("three nodes meet by one Tor, knowing one node of a DHT", () => meshOfOnions(engine), SLOW_MS);

  test(
    "the ring comes back with its volumes, and leaves nothing",
    async () => {
      await using topology = await Topology.up(engine, "ring", { files: ["ring.yaml"] });
      await isRing(topology);
      const ids = await topology.ids();
      await topology.again(async () => {
        await isRing(topology);
        expect(await topology.ids()).toEqual(ids);
      });
    },
    SLOW_MS,
  );

  test(
    "the override comes back with its volumes, and leaves nothing",
    async () => {
      const variables = { GODWIT_BINARY: binaryPath };
      await using topology = await Topology.up(engine, "dev", {
        files: ["line.yaml", "dev.yaml"],
        variables,
      });
      await topology.isWhole();
      const ids = await topology.ids();
      await topology.again(async () => {
        await topology.isWhole();
        expect(await topology.ids()).toEqual(ids);
      });
    },
    SLOW_MS,
  );
});
