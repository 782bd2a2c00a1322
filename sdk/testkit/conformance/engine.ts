/** What Godwit expects of every coordination engine: keys, what its guarantee says, and no more than that. */
import type { Engine } from "../../src/index.ts";
import { type Check, demand, quiet, register, type Runner, settled, type Subject, until } from "./check.ts";
import { engineMeshChecks } from "./engine-mesh.ts";
import { hostOf, lifecycleChecks, onHost, type PluginSetup, stepOf, succeeds } from "./lifecycle.ts";

export type EngineSetup = PluginSetup;

const TTL_MS = 10_000;
const RACERS = 8;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : new TextDecoder().decode(value);
const never = new AbortController().signal;

const onEngine =
  (body: (engine: Engine, step: () => void) => Promise<void>) =>
  (setup: EngineSetup): Promise<void> =>
    onHost(setup, async ({ engines }, step) => {
      demand(engines.length === 1, `it registers ${engines.length} engines, one is expected`);
      await body(engines[0]!, step);
    });

const checkShape = onEngine(async (engine) => {
  const has = (["cas", "lease", "campaign"] as const).filter((name) => engine[name] !== undefined);
  if (engine.guarantee === "eventual")
    demand(has.length === 0, `it says "eventual" and has ${has.join(", ")}: nothing decides who was first`);
  else
    demand(
      has.length === 3,
      `it says "${engine.guarantee}" and has only ${has.join(", ") || "none"} of cas, lease, campaign`,
    );
});

const checkKeys = onEngine(async (engine, step) => {
  const value = bytes("one");
  const putting = engine.put("a/b", value, never);
  const first = await succeeds(putting, "put", step);
  value.fill(0);
  demand(/^[\x21-\x7e]{1,128}$/.test(first.revision), `"${first.revision}" is no revision`);
  const read = await succeeds(engine.get("a/b", never), "get", step);
  demand(
    text(read?.value) === "one",
    "get does not answer what was put, or the value changed with the caller's bytes",
  );
  demand(read?.revision === first.revision, "get and put answer different revisions of one write");
  read.value.fill(0);
  demand(
    text((await succeeds(engine.get("a/b", never), "get", step))?.value) === "one",
    "the value changed with bytes that get had handed out",
  );
  const second = await succeeds(engine.put("a/b", bytes(""), never), "put", step);
  demand(second.revision !== first.revision, "two writes have one revision");
  demand(
    text((await succeeds(engine.get("a/b", never), "get", step))?.value) === "",
    "an empty value is not there",
  );
  await succeeds(engine.delete("a/b", never), "delete", step);
  await succeeds(engine.delete("a/b", never), "delete of nothing", step);
  demand((await succeeds(engine.get("a/b", never), "get", step)) === undefined, "a deleted key has a value");
});

const checkWatch = onEngine(async (engine, step) => {
  const seen: string[] = [];
  const end = engine.watch("w/", (key, entry) => seen.push(`${key}=${text(entry?.value) ?? "gone"}`));
  await succeeds(engine.put("w/1", bytes("x"), never), "put", step);
  await succeeds(engine.put("v/1", bytes("y"), never), "put", step);
  await succeeds(engine.delete("w/1", never), "delete", step);
  await until(() => seen.length >= 2, "watch tells of a write and of a deletion", step);
  await quiet(step);
  demand(seen.join() === "w/1=x,w/1=gone", `watch told of ${seen.join()}`);
  end();
  await succeeds(engine.put("w/2", bytes("z"), never), "put", step);
  await quiet(step);
  demand(seen.length === 2, "a watch that was ended still tells");
});

const checkAbort = onEngine(async (engine, step) => {
  const controller = new AbortController();
  const reason = new Error("no longer wanted");
  controller.abort(reason);
  const calls: [string, () => Promise<unknown> | undefined][] = [
    ["get", () => engine.get("k", controller.signal)],
    ["put", () => engine.put("k", bytes("v"), controller.signal)],
    ["cas", () => engine.cas?.("k", undefined, bytes("v"), controller.signal)],
  ];
  for (const [name, make] of calls) {
    const promise = make();
    if (promise === undefined) continue;
    const end = await settled(promise, `an aborted ${name}`, step);
    demand(
      !end.isFulfilled && end.error === reason,
      `an aborted ${name} does not reject with the signal's reason`,
    );
  }
});

const checkCas = onEngine(async (engine, step) => {
  const cas = engine.cas!.bind(engine);
  const made = await succeeds(cas("c", undefined, bytes("1"), never), "cas", step);
  demand(made !== undefined, "cas over nothing does not write");
  demand(
    (await succeeds(cas("c", undefined, bytes("2"), never), "cas", step)) === undefined,
    "cas over nothing writes where something is",
  );
  demand(
    (await succeeds(cas("c", "no-such-revision", bytes("2"), never), "cas", step)) === undefined,
    "cas writes over another revision than was expected",
  );
  const next = await succeeds(cas("c", made.revision, bytes("3"), never), "cas", step);
  demand(next !== undefined && next.revision !== made.revision, "cas over the right revision does not write");
  const race = await succeeds(
    Promise.all(Array.from({ length: RACERS }, (_, i) => cas("c", next.revision, bytes(`race ${i}`), never))),
    "cas side by side",
    step,
  );
  const winners = race.filter((entry) => entry !== undefined).length;
  demand(winners === 1, `of ${RACERS} cas over one revision ${winners} wrote`);
});

const checkLease = onEngine(async (engine, step) => {
  const lease = engine.lease!.bind(engine);
  const first = await succeeds(lease("l", TTL_MS, never), "lease", step);
  demand(first !== undefined, "a free name is not leased");
  demand((await succeeds(lease("l", TTL_MS, never), "lease", step)) === undefined, "a name is leased twice");
  demand(await succeeds(first.renew(never), "renew", step), "a lease that is held is not renewed");
  let isElected = false;
  const campaign = engine.campaign!("l", TTL_MS, never).then((won) => {
    isElected = true;
    return won;
  });
  await quiet();
  demand(!isElected, "a campaign wins a name that is held");
  await succeeds(first.release(), "release", step);
  await succeeds(first.release(), "release again", step);
  const second = await succeeds(campaign, "a campaign for a name that was released", step);
  demand(second.fencingToken > first.fencingToken, "a later holder has no greater fencing token");
  demand(!(await succeeds(first.renew(never), "renew", step)), "a lease that was released is renewed");
  await succeeds(second.release(), "release", step);
});

const isOrdered = async (setup: EngineSetup): Promise<boolean> => {
  const host = hostOf(setup);
  try {
    await settled(host.start(setup.config), "start comes to an end", stepOf(host, setup));
    return host.engines[0] !== undefined && host.engines[0].guarantee !== "eventual";
  } finally {
    await host.stop().catch(() => {});
  }
};

const onlyOrdered = (run: (setup: EngineSetup) => Promise<void>) => async (setup: EngineSetup) => {
  if (await isOrdered(setup)) await run(setup);
};

export const engineChecks: readonly Check<EngineSetup>[] = [
  { name: "its methods go with its guarantee", run: checkShape },
  { name: "keys are put, read and deleted, each write with a revision of its own", run: checkKeys },
  { name: "watch tells of its prefix, and ends", run: checkWatch },
  { name: "a call that was aborted rejects with the reason", run: checkAbort },
  { name: "quorum and strong: compare and set lets one of many win", run: onlyOrdered(checkCas) },
  { name: "quorum and strong: a lease has one holder, and tokens grow", run: onlyOrdered(checkLease) },
  ...engineMeshChecks,
  ...lifecycleChecks,
];

/** Registers the suite with bun:test, or with the runner given. */
export const engineConformance = (subject: Subject<EngineSetup>, runner?: Runner): void =>
  register("engine conformance", engineChecks, subject, runner);
