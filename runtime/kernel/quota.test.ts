import { expect, test } from "bun:test";
import fc from "fast-check";
import { Quota } from "./quota.ts";

const limits = { countMax: 1_000, bytesMax: 1_000_000, oneShare: 0.5 };
const fill = (quota: Quota<string>, by: string, keys: number, each: number, bytes = 10): number => {
  let taken = 0;
  for (let key = 0; key < keys; key++)
    for (let n = 0; n < each; n++) {
      const share = { by, isKnown: false };
      if (quota.refusal(`${by} ${key}`, share, bytes) !== undefined) break;
      quota.add(`${by} ${key} ${n}`, `${by} ${key}`, share, bytes);
      taken++;
    }
  return taken;
};

test("two keys, and 100,000 of one address, fill half; strangers of other addresses and known ones find room", () => {
  const quota = new Quota<string>(limits);
  expect(fill(quota, "192.0.2.1", 2, 1_000)).toBe(500);
  expect(fill(quota, "192.0.2.1", 100_000, 1)).toBe(0);
  expect(fill(quota, "10.0.0.7", 1, 50)).toBe(50);
  expect(quota.refusal("friend", { by: "friend", isKnown: true }, 10)).toBeUndefined();
});

test("a thousand addresses leave a quarter to known ones", () => {
  const quota = new Quota<string>(limits);
  for (let n = 0; n < 1_000; n++) fill(quota, `source ${n}`, 3, 100);
  expect(quota.count).toBeLessThanOrEqual(750);
  for (let n = 0; n < 250; n++) {
    expect(quota.refusal("friend", { by: "friend", isKnown: true }, 10)).toBeUndefined();
    quota.add(`friend ${n}`, "friend", { by: "friend", isKnown: true }, 10);
  }
});

test("bytes are shared like places", () => {
  const quota = new Quota<string>(limits);
  fill(quota, "192.0.2.1", 4, 100, 10_000);
  expect([quota.count, quota.bytes]).toEqual([50, 500_000]);
  expect(quota.refusal("x", { by: "10.0.0.7", isKnown: false }, 10_000)).toBeUndefined();
  expect(quota.refusal("x", { by: "10.0.0.7", isKnown: false }, 300_000)).toBe("quota");
  expect(quota.refusal("x", { by: "x", isKnown: true }, 600_000)).toBe("full");
});

test("what goes is counted down as it was counted up, whoever is known meanwhile", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(9), fc.boolean(), fc.boolean()), { maxLength: 100 }), (steps) => {
      const quota = new Quota<number>(limits);
      for (const [key, isKnown, drops] of steps)
        if (drops) quota.drop(key);
        else quota.add(key, `who ${key % 3}`, { by: `by ${key % 2}`, isKnown }, key);
      for (let key = 0; key < 10; key++) quota.drop(key);
      expect([quota.count, quota.bytes]).toEqual([0, 0]);
      expect(quota.refusal("who 0", { by: "by 0", isKnown: false }, 500_000)).toBeUndefined();
    }),
  );
});

test("one has half of it, known or not, to the last place and the last byte; and all together no more than there is", () => {
  const friend = { by: "friend", isKnown: true };
  const byCount = new Quota<string>(limits);
  for (let n = 0; n < 500; n++) byCount.add(`${n}`, "friend", friend, 1);
  expect(byCount.refusal("friend", friend, 1)).toBe("quota");
  byCount.drop("0");
  expect(byCount.refusal("friend", friend, 1)).toBeUndefined();
  const byBytes = new Quota<string>(limits);
  byBytes.add("a", "friend", friend, 499_000);
  expect(byBytes.refusal("friend", friend, 1_000)).toBeUndefined();
  expect(byBytes.refusal("friend", friend, 1_001)).toBe("quota");
  byBytes.add("b", "other", friend, 500_000);
  expect(byBytes.refusal("third", friend, 1_000)).toBeUndefined();
  expect(byBytes.refusal("third", friend, 1_001)).toBe("full");
});
