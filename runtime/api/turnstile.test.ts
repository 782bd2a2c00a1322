import { expect, test } from "bun:test";
import { Turnstile } from "./turnstile.ts";

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Blocks as what takes long to make does. */
const busyFor = (ms: number) => {
  for (const endMs = performance.now() + ms; performance.now() < endMs;);
};

test("nobody is let through within the call, and short work follows in one turn, also over microtasks", async () => {
  const turnstile = new Turnstile();
  const began: number[] = [];
  for (let n = 0; n < 5; n++)
    turnstile.run(false, async () => {
      began.push(n);
      await Promise.resolve();
    });
  expect(began).toEqual([]);
  await nextTurn();
  await nextTurn();
  expect(began).toEqual([0, 1, 2, 3, 4]);
});

test("work that takes long is alone in its turn, and what waits for something holds up nobody", async () => {
  const turnstile = new Turnstile();
  const began: string[] = [];
  const run = (name: string, work: () => Promise<void>) =>
    turnstile.run(false, () => {
      began.push(name);
      return work();
    });
  const slow = () => Promise.resolve(busyFor(5));
  for (const name of ["slow 1", "slow 2"]) run(name, slow);
  run("waits", () => new Promise(() => {}));
  run("last", () => Promise.resolve());
  const seen: number[] = [];
  while (began.length < 4) {
    await nextTurn();
    seen.push(began.length);
  }
  // Never two at once behind a slow one, nor behind one that waits.
  for (const [at, count] of seen.entries()) expect(count - (seen[at - 1] ?? 0)).toBeLessThanOrEqual(1);
});

test("who is urgent goes before all that are not, and who only enters has the rest of the turn", async () => {
  const turnstile = new Turnstile();
  const began: string[] = [];
  const entered = turnstile.enter(false).then(() => began.push("entered"));
  turnstile.run(false, () => Promise.resolve(void began.push("other")));
  turnstile.run(true, () => Promise.resolve(void began.push("urgent")));
  await entered;
  expect(began).toEqual(["urgent", "entered"]);
  await nextTurn();
  await nextTurn();
  expect(began).toEqual(["urgent", "entered", "other"]);
});
