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
  for (let i = 0; i < 5; i++) expect(accept(all)).toBeUndefined();
  expect(places.count).toBe(15);
});
