/**
 * `bun run sim:members [--seed N] [--nodes 25,100,1000,10000]`: how membership scales, one line for each size: traffic of
 * an idle node, what a death costs, how soon everybody knows of killed and frozen nodes, and who was wrongly given up.
 */
import { parseArgs } from "node:util";
import { quantile } from "../bench/bench.ts";
import { MembersWorld, type MemberNode } from "./members-world.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    nodes: { type: "string", default: "25,100,1000,10000" },
    loss: { type: "string", default: "0,0.1,0.3" },
    minutes: { type: "string", default: "2" },
  },
});

/** From so many nodes on everybody follows only this many: everybody's view of all would be 10^8 rows. */
const FOLLOWED_FROM = 2_000;
const FOLLOWED = 64;
const VICTIMS = 8;
const DEGREE = 6;

interface Outcome {
  readonly idlePerMinute: { frames: number; bytes: number };
  readonly perDeath: { frames: number; bytes: number };
  readonly killedMs: number[];
  readonly frozenMs: number[];
  readonly wrong: number;
  readonly suspected: number;
  readonly disagreements: number;
}

function measure(nodes: number, loss: number, minutes: number): Outcome {
  const world = new MembersWorld({
    seed: Number(values.seed),
    nodes,
    degree: DEGREE,
    loss,
    pauseMs: 400,
    ...(nodes >= FOLLOWED_FROM ? { followed: FOLLOWED } : {}),
  });
  world.start();
  world.run(nodes >= FOLLOWED_FROM ? 20_000 : 60_000);
  let wrong = 0;
  let suspected = 0;
  const seen = new Map<MemberNode, number[]>();
  let victim: MemberNode | undefined;
  let sinceMs = 0;
  world.changed = (at, of, state) => {
    const isDown = !of.isAlive || of === victim;
    if (state === "failed" && isDown) seen.get(of)?.push(world.time.monotonicMs() - sinceMs);
    // A frozen or dead one's own view is nobody's business, nor what is said of it.
    if (isDown || !at.isAlive || at.isFrozen || at === victim) return;
    if (state === "failed") wrong++;
    if (state === "suspect") suspected++;
  };
  const reset = () => {
    world.news = { frames: 0, bytes: 0 };
    world.repair = { frames: 0, bytes: 0 };
  };
  reset();
  world.run(minutes * 60_000);
  const total = (nodesCount: number, per: number) => ({
    frames: (world.news.frames + world.repair.frames) / nodesCount / per,
    bytes: (world.news.bytes + world.repair.bytes) / nodesCount / per,
  });
  const idlePerMinute = total(nodes, minutes);
  let deaths = { frames: 0, bytes: 0 };
  const strike = (how: "kill" | "freeze", victims: readonly MemberNode[]): number[] => {
    const times: number[] = [];
    for (const node of victims) {
      victim = node;
      sinceMs = world.time.monotonicMs();
      seen.set(node, []);
      reset();
      if (how === "kill") node.kill();
      else node.freeze();
      world.run(20_000);
      deaths = { frames: deaths.frames + world.news.frames, bytes: deaths.bytes + world.news.bytes };
      times.push(...(seen.get(node) ?? []));
      const missing = nodes - 1 - (seen.get(node)?.length ?? 0);
      if (nodes < FOLLOWED_FROM)
        times.push(...Array.from({ length: missing }, () => Number.POSITIVE_INFINITY));
      if (how === "freeze") node.thaw();
      else node.restart();
      world.run(8_000);
      victim = undefined;
    }
    return times;
  };
  const killedMs = strike("kill", world.nodes.slice(1, 1 + VICTIMS));
  const frozenMs = strike("freeze", world.nodes.slice(10, 10 + VICTIMS));
  world.loss = 0;
  world.run(60_000);
  const perDeath = { frames: deaths.frames / nodes / 16, bytes: deaths.bytes / nodes / 16 };
  return {
    idlePerMinute,
    perDeath,
    killedMs,
    frozenMs,
    wrong,
    suspected,
    disagreements: world.disagreements().length,
  };
}

const ms = (times: readonly number[]): string =>
  times.length === 0 ? "-" : [0.5, 0.95, 1].map((share) => Math.round(quantile(times, share))).join("/");

let isFine = true;
for (const nodes of values.nodes.split(",").map(Number))
  for (const loss of values.loss.split(",").map(Number)) {
    const startMs = performance.now();
    const minutes = nodes >= FOLLOWED_FROM ? 0.5 : Number(values.minutes);
    const found = measure(nodes, loss, minutes);
    isFine &&= found.wrong === 0 && found.disagreements === 0;
    console.log(
      `nodes ${nodes} loss ${loss} seed ${values.seed}: idle ${found.idlePerMinute.frames.toFixed(1)} frames ` +
        `${Math.round(found.idlePerMinute.bytes)} B per node and minute; a death ${found.perDeath.frames.toFixed(1)} frames ` +
        `${Math.round(found.perDeath.bytes)} B per node; killed ${ms(found.killedMs)} ms, frozen ${ms(found.frozenMs)} ms (median/p95/max); ` +
        `wrongly failed ${found.wrong}, suspected ${found.suspected}, disagreements ${found.disagreements} ` +
        `[${((performance.now() - startMs) / 1000).toFixed(1)} s]`,
    );
  }
process.exit(isFine ? 0 : 1);
