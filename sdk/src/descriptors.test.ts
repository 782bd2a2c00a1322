import { expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import {
  claimDescriptor,
  descriptorLimit,
  descriptorMarks,
  GUARANTEED_CONNECTIONS,
  judgeDescriptor,
} from "./descriptors.ts";

test("the limit is the process's own, and all marks lie below it whatever it is", () => {
  expect(descriptorLimit()).toBeGreaterThan(16);
  for (const limit of [64, 256, 1_024, 65_536, 1_048_576]) {
    const { strangers, guests, all } = descriptorMarks(limit);
    expect(strangers).toBeGreaterThan(limit / 2);
    expect(guests).toBeGreaterThan(strangers);
    expect(all).toBeGreaterThan(guests);
    expect(all).toBeLessThan(limit);
  }
});

test("near the end another connection of the same listener gives way, and a listener without any still gets a few", () => {
  const { strangers, all } = descriptorMarks();
  expect(judgeDescriptor(strangers - 1, 1_000)).toBe("keep");
  expect(judgeDescriptor(strangers, GUARANTEED_CONNECTIONS)).toBe("instead");
  expect(judgeDescriptor(strangers, GUARANTEED_CONNECTIONS - 1)).toBe("keep");
  expect(judgeDescriptor(all, 1)).toBe("fewer");
});

test("guests of the node stop before its links do, and both before what the store needs", () => {
  const { strangers, guests, all } = descriptorMarks();
  const ended: number[] = [];
  const refuses = (whom: "link" | "guest", fd: number) => {
    try {
      claimDescriptor(whom, Object.assign({ terminate: () => ended.push(fd) }, { fd }));
      return false;
    } catch {
      return true;
    }
  };
  expect([strangers, guests, all].map((fd) => [refuses("guest", fd), refuses("link", fd)])).toEqual([
    [false, false],
    [true, false],
    [true, true],
  ]);
  expect(ended).toEqual([guests, all, all]);
  // Nothing is short here, and looking takes nothing.
  const lowest = () => {
    const fd = openSync("/dev/null", "r");
    closeSync(fd);
    return fd;
  };
  const before = lowest();
  claimDescriptor("guest");
  expect(lowest()).toBe(before);
});
