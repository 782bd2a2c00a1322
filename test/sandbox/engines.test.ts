/**
 * `ctx.members` and `ctx.streams` of engines of a third party at two nodes, in every mix of levels: in the node's process, in a
 * Worker, locked in. Their streams carry, hold back and end as those of the node do; what was not granted is refused.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { bundle, install, askPlugin, untilRunning } from "./lab.ts";

const levels = ["trusted", "contained", "untrusted"] as const;
type Level = (typeof levels)[number];
const mixes = levels.flatMap((near) => levels.map((far) => ({ near, far })));
const grant = ["engine.members", "engine.streams"];
/** Far more than all windows, queues and pipes on the way hold together. */
const FLOOD_BYTES = 64 * 2 ** 20;
/** More than they hold, and soon read. */
const COUNT_BYTES = 8 * 2 ** 20;
/** Each end's stream window, and behind frames a flow's window, a pipe's and a high-water mark. */
const UNREAD_BYTES_MAX = 2 * (1_048_576 + 524_288 + 262_144 + 65_536);

interface Table {
  readonly id: string;
  readonly levels: Readonly<Record<"a" | "b", Level>>;
  readonly grant: readonly string[];
}
const pairOf = (near: Level, far: Level): string => `duo-${near}-${far}`;
const tables: readonly Table[] = [
  ...mixes.map(({ near, far }) => ({ id: pairOf(near, far), levels: { a: near, b: far }, grant })),
  ...(["contained", "untrusted"] as const).map((level) => ({
    id: `bare-${level}`,
    levels: { a: level, b: level },
    grant: [],
  })),
];
/** What is trusted is granted nothing, and may all. */
const tableText = (end: "a" | "b") =>
  tables
    .map(
      ({ id, levels: at, grant: granted }) =>
        `[engines.${id.replaceAll("-", "_")}]\ntype = "${id}"\ntrust = "${at[end]}"\ngrant = ${JSON.stringify(at[end] === "trusted" ? [] : granted)}`,
    )
    .join("\n");

let lab: Lab;
let a: LabNode;
let b: LabNode;
let idOfA: string;
let idOfB: string;

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  a = await lab.add({ callsign: "ENG-A", extra: tableText("a") });
  b = await lab.add({ callsign: "ENG-B", peers: [a.endpoint], extra: tableText("b") });
  for (const { id, grant: granted } of tables) {
    const code = await bundle("coordinator", {
      ID: JSON.stringify(id),
      LISTENS: String(granted.length > 0),
    });
    for (const node of [a, b])
      await install(node.stateDir, { id, namespace: "engine", permissions: grant, code });
  }
  await Promise.all([a.start(60_000), b.start(60_000)]);
  idOfA = await idOf(a);
  idOfB = await idOf(b);
  await untilAllRun();
}, 120_000);
afterAll(async () => {
  await lab?.close();
});

/** At both nodes, with a way between them. */
async function untilAllRun(): Promise<void> {
  const names = tables.map(({ id }) => `engine.${id.replaceAll("-", "_")}`);
  for (const node of [a, b]) await untilRunning(node, names);
  await untilEchoes(pairOf("trusted", "trusted"));
}
const untilEchoes = (id: string) =>
  until(
    "an answer of the far engine",
    async () => !("error" in (await askPlugin<object>(a, id, "echo", { to: idOfB, count: 1 }))),
  );

const idOf = async (node: LabNode): Promise<string> =>
  (await node.json<{ node: { id: string } }>("/mesh/status")).node.id;

interface Seen {
  readonly streams: number;
  readonly bytes: number;
  readonly broken: number;
  readonly from: string | null;
  readonly ended: string | null;
  readonly sent: number;
  readonly sentEnded: string | null;
}
const seenBy = (node: LabNode, plugin: string) => askPlugin<Seen>(node, plugin, "seen");
const until = (what: string, check: () => Promise<boolean>) => a.until(what, check, 30_000);

describe.each(mixes)("engine $near at one node, $far at the other", ({ near, far }) => {
  const id = pairOf(near, far);

  test("a stream carries both ways, whole and in order, and each knows who the other is", async () => {
    expect(await askPlugin<object>(a, id, "echo", { to: "ENG-B", count: 300_000 })).toEqual({
      ended: "politely",
      bytes: 300_000,
      broken: 0,
      remote: idOfB,
      service: "log",
    });
    await until("its end there", async () => (await seenBy(b, id)).ended !== null);
    expect(await seenBy(b, id)).toMatchObject({ from: idOfA, bytes: 300_000, broken: 0, ended: "politely" });
  }, 60_000);

  test("a slow reader holds its sender back; then every byte comes, and the end", async () => {
    expect(await askPlugin(a, id, "slow", { to: idOfB, count: COUNT_BYTES })).toBe("open");
    let last = -1;
    await until("the sender to wait", async () => {
      const { sent } = await seenBy(a, id);
      const isStill = sent === last;
      last = sent;
      return isStill;
    });
    expect(last).toBeLessThan(UNREAD_BYTES_MAX);
    expect(await seenBy(b, id)).toMatchObject({ bytes: 0, ended: null });
    // Others of the same engine do not wait for it.
    expect(await askPlugin<object>(b, id, "echo", { to: idOfA, count: 1_000 })).toMatchObject({
      bytes: 1_000,
    });
    await askPlugin(b, id, "read");
    for (const node of [a, b])
      await until("the end", async () => {
        const { sentEnded, ended } = await seenBy(node, id);
        return (node === a ? sentEnded : ended) !== null;
      });
    expect(await seenBy(b, id)).toMatchObject({ bytes: COUNT_BYTES, broken: 0, ended: "politely" });
  }, 60_000);

  test("what the far engine refuses, throws at or does not know is refused", async () => {
    for (const request of ["refused", "throws", "no-channel"])
      expect(await askPlugin<object>(a, id, request, { to: idOfB })).toEqual({
        error: "GODWIT_STREAM_REFUSED",
      });
    expect(await askPlugin<object>(a, id, "refused", { to: "NOB-Z" })).toEqual({
      error: "GODWIT_NAME_UNKNOWN",
    });
  }, 60_000);

  test("an engine that fails in mid-stream resets it at the other node, and its next life takes streams", async () => {
    await askPlugin(a, id, "slow", { to: idOfB, count: FLOOD_BYTES });
    expect(await askPlugin(b, id, "fails")).toBe("fails");
    await until("the reset", async () => (await seenBy(a, id)).sentEnded !== null);
    expect((await seenBy(a, id)).sentEnded).toBe("GODWIT_STREAM_RESET");
    await untilEchoes(id);
  }, 60_000);
});

describe.each(levels)("engine %s", (level) => {
  const id = pairOf(level, level);

  test("members are those that the node knows, in the state that it concluded", async () => {
    const members = await askPlugin<readonly { id: string; callsign: string; state: string }[]>(
      a,
      id,
      "members",
    );
    expect(members.map(({ id: member, callsign, state }) => [member, callsign, state])).toEqual([
      [idOfB, "ENG-B", "alive"],
    ]);
    expect(await askPlugin<object>(a, id, "member", { to: idOfB })).toMatchObject({ state: "alive" });
    expect(await askPlugin(a, id, "member", { to: idOfA })).toBe("nobody");
  }, 60_000);

  test("no more streams than its bound are opened, nor taken of one node", async () => {
    await untilEchoes(id);
    const counts = await askPlugin<Record<string, number>>(a, id, "many", { to: idOfB, count: 140 });
    const { open = 0, GODWIT_STREAM_REFUSED: refused = 0, GODWIT_STREAM_LIMIT: beyond = 0 } = counts;
    expect(open + refused + beyond).toBe(140);
    expect(open).toBeGreaterThan(0);
    expect(open).toBeLessThanOrEqual(16);
    expect(beyond).toBeGreaterThanOrEqual(12);
    await untilEchoes(id);
  }, 60_000);
});

test("what was not granted is refused, at any level that is contained", async () => {
  for (const level of ["contained", "untrusted"] as const)
    for (const request of ["members", "member", "echo", "listen"])
      expect([
        level,
        request,
        await askPlugin<object>(a, `bare-${level}`, request, { to: idOfB, count: 1 }),
      ]).toEqual([level, request, { error: "GODWIT_FORBIDDEN" }]);
}, 60_000);

test("engines hear that the other node left", async () => {
  await b.kill("SIGTERM");
  for (const level of levels)
    await until("word of it", async () => {
      const told = await askPlugin<readonly (readonly [string, string | null])[]>(
        a,
        pairOf(level, level),
        "changes",
      );
      const [id, state] = told.at(-1) ?? [];
      return id === idOfB && (state === "left" || state === "failed");
    });
  // And a stream goes nowhere.
  expect(await askPlugin<object>(a, pairOf("untrusted", "trusted"), "refused", { to: idOfB })).toEqual({
    error: "GODWIT_NO_ROUTE",
  });
  await b.start(60_000);
  await untilAllRun();
}, 120_000);
