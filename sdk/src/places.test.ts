import { expect, test } from "bun:test";
import { descriptorMarks, type Place, Places } from "./places.ts";

const crowd = (max: number, perSourceMax = max) => {
  const places = new Places({ max, perSourceMax });
  const gone: string[] = [];
  const enter = (name: string, source: string | undefined, mustYield?: boolean): Place | undefined =>
    places.enter(source, () => gone.push(name), mustYield);
  return { places, gone, enter };
};

test("nine silent sources do not keep a tenth out, and the one with most gives way, not the oldest", () => {
  const { places, gone, enter } = crowd(18);
  enter("first", "first");
  for (let i = 0; i < 17; i++) enter(`crowd ${i}`, "crowd");
  enter("honest", "honest");
  expect(gone).toEqual(["crowd 0"]);
  for (let i = 0; i < 100; i++) enter(`more ${i}`, "crowd");
  expect(gone).not.toContain("first");
  expect(gone).not.toContain("honest");
  expect(places.count).toBe(18);
});

test("a source at its own bound costs only itself, even when there is room", () => {
  const { places, gone, enter } = crowd(100, 3);
  enter("other", "b");
  for (let i = 0; i < 5; i++) enter(`a${i}`, "a");
  expect(gone).toEqual(["a0", "a1"]);
  expect(places.count).toBe(4);
});

test("without a source the oldest of all goes: who needs five seconds has them while a hundred a second come", () => {
  const { gone, enter } = crowd(512);
  enter("honest", undefined)!.stand("silent");
  for (let i = 0; i < 500; i++) enter(`${i}`, undefined);
  expect(gone).toEqual([]);
});

test("who has shown something goes after who has not, who is on its way out before both, who is held never", () => {
  const { places, gone, enter } = crowd(4);
  enter("held", "a")!.stand("held");
  enter("busy", "a")!.stand("busy");
  enter("silent", "a");
  enter("leaving", "a")!.stand("leaving");
  for (const name of ["1", "2", "3"]) enter(name, "a")!.stand("held");
  expect(gone).toEqual(["leaving", "silent", "busy"]);
  expect(enter("5", "b")).toBeUndefined();
  expect(places.count).toBe(4);
});

test("two sources that hold every place with one byte each keep a third out no more than silent ones would", () => {
  const { places, gone, enter } = crowd(8, 4);
  for (let i = 0; i < 8; i++)
    enter(`${i % 2 === 0 ? "a" : "b"}${i}`, i % 2 === 0 ? "a" : "b")!.stand("engaged");
  const honest = enter("honest", "c");
  expect(gone).toEqual(["a6"]);
  // They come again, and it has said nothing yet.
  for (let i = 0; i < 10; i++) enter("again", i % 2 === 0 ? "a" : "b")?.stand("engaged");
  expect(gone).not.toContain("honest");
  honest!.stand("engaged");
  enter("second", "c")!.stand("engaged");
  // Whose source has as many gives none up: those of before go on.
  for (let i = 0; i < 20; i++) enter(`d${i}`, `d${i}`)?.stand("engaged");
  expect(gone.filter((name) => name === "honest")).toEqual([]);
  expect(places.count).toBe(8);
});

test("whoever leaves, and whoever comes from a source, waits for no grace", () => {
  const places = new Places({ max: 2, perSourceMax: 2, grace: { ms: 1_000, nowMs: () => 0 } });
  const gone: string[] = [];
  places.enter(undefined, () => gone.push("first"));
  const second = places.enter(undefined, () => gone.push("second"))!;
  expect(places.enter(undefined, () => {})).toBeUndefined();
  second.stand("leaving");
  places.enter(undefined, () => gone.push("third"));
  places.enter("192.0.2.1", () => {});
  expect(gone).toEqual(["second", "first"]);
});

test("a source that proved itself often still gets a place of one that says nothing", () => {
  const { gone, enter } = crowd(10, 9);
  for (let i = 0; i < 8; i++) enter(`${i}`, "office")!.stand("held");
  enter("silent 1", "a");
  enter("silent 2", "b");
  enter("9", "office")!.stand("held");
  expect(gone).toEqual(["silent 1"]);
});

test("a place is given back once, and one yields for want of something else too", () => {
  const { places, gone, enter } = crowd(10);
  const place = enter("a", "a")!;
  enter("b", "b", true);
  expect([gone, places.count]).toEqual([["a"], 1]);
  place.release();
  place.stand("busy");
  expect(places.count).toBe(1);
});

test("where descriptors run out a listener keeps what it has, though those that yield leave low numbers to the next", () => {
  const { strangers, all } = descriptorMarks();
  const places = new Places({ max: 1_000, perSourceMax: 1_000 });
  let gone = 0;
  const accept = (fd: number) => places.accept({ fd }, "a", () => gone++);
  for (let i = 0; i < 20; i++) accept(10 + i);
  for (let i = 0; i < 50; i++) accept(i % 2 === 0 ? strangers : 12);
  expect([places.count, gone]).toEqual([20, 50]);
  // Near their end two go for each that comes, and it gets in all the same.
  for (let i = 0; i < 5; i++) expect(accept(all)).toBeDefined();
  expect([places.count, gone]).toEqual([15, 60]);
});

test("where others have taken every descriptor, who tells health still hears one, the newest", () => {
  const { all } = descriptorMarks();
  for (const [lastMax, held, gone] of [
    [0, 0, 0],
    [1, 1, 4],
  ] as const) {
    const places = new Places({ max: 10, perSourceMax: 10, lastMax });
    let ended = 0;
    for (let i = 0; i < 5; i++) places.accept({ fd: all + i }, "a", () => ended++);
    expect([places.count, ended]).toEqual([held, gone]);
  }
});
