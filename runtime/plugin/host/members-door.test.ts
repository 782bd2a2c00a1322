import { expect, test } from "bun:test";
import { type Member, type MemberChange, MEMBERS_PAGE_MAX } from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { createLog } from "../../kernel/log.ts";
import { Scope } from "../../kernel/scope.ts";
import { type MembersBackend, openMembersDoor } from "./members-door.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const idOf = (n: number) => String(n).padStart(52, "a");

function setup(isAllowed = true) {
  const members = new Map<string, Member>();
  const watchers = new Set<(id: string) => void>();
  const backend: MembersBackend = {
    get: (id) => members.get(id),
    list: (limit) => [...members.values()].slice(0, limit),
    watch(fn) {
      watchers.add(fn);
      return () => void watchers.delete(fn);
    },
  };
  const scope = new Scope("engine.test");
  const clock = new ManualClock();
  const lines: string[] = [];
  const log = createLog({
    level: "warn",
    format: "json",
    clock,
    sink: { write: (line) => void lines.push(line) },
  });
  const door = openMembersDoor({ backend, isAllowed, scope, clock, log });
  const set = (id: string, state: Member["state"] | undefined) => {
    if (state === undefined) members.delete(id);
    else members.set(id, { id, callsign: undefined, state, incarnation: 1, sinceMs: 0 });
    for (const fn of watchers) fn(id);
  };
  const pass = async () => {
    await clock.advance(200);
    await turn();
  };
  return { door, scope, watchers, set, pass, lines };
}

test("a burst of changes is told in one call with what holds then, those that are gone too", async () => {
  const { door, set, pass } = setup();
  const told: (readonly MemberChange[])[] = [];
  door.onChange((changes) => void told.push(changes));
  for (const state of ["alive", "suspect", "failed"] as const) set(idOf(1), state);
  set(idOf(2), "alive");
  set(idOf(2), undefined);
  expect(told).toEqual([]);
  await pass();
  expect(told.map((changes) => changes.map(({ id, member }) => [id, member?.state]))).toEqual([
    [
      [idOf(1), "failed"],
      [idOf(2), undefined],
    ],
  ]);
  await pass();
  expect(told.length).toBe(1);
});

test("a listener that is not done is told nothing more, then the newest; no call holds more than a page", async () => {
  const { door, set, pass, lines } = setup();
  const gate = Promise.withResolvers<void>();
  const told: number[] = [];
  door.onChange((changes) => {
    told.push(changes.length);
    return gate.promise;
  });
  set(idOf(0), "alive");
  await pass();
  for (let n = 0; n <= MEMBERS_PAGE_MAX; n++) set(idOf(n), "left");
  await pass();
  await pass();
  expect(told).toEqual([1]);
  gate.reject(new Error("not today"));
  await turn();
  expect(lines.join()).toContain("onChange handler failed");
  await pass();
  await pass();
  expect(told).toEqual([1, MEMBERS_PAGE_MAX, 1]);
});

test("pages have bounds; without the permission and after the stop there is nothing", async () => {
  const { door, scope, watchers, set, pass } = setup();
  for (const limit of [0, 1.5, MEMBERS_PAGE_MAX + 1, Number.NaN])
    expect(() => door.list({ limit })).toThrow("a page has 1 to 500 members");
  let told = 0;
  door.onChange(() => void told++);
  set(idOf(1), "alive");
  expect([door.get(idOf(1))?.state, door.list().length]).toEqual(["alive", 1]);
  await scope.close();
  await pass();
  expect([told, watchers.size]).toEqual([0, 0]);
  expect(() => door.list()).toThrow("the plugin has stopped");
  const refused = setup(false).door;
  for (const use of [() => refused.list(), () => refused.get("a"), () => refused.onChange(() => {})])
    expect(use).toThrow("was not granted engine.members");
});
