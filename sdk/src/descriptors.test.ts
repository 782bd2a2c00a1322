import { expect, test } from "bun:test";
import { descriptorLimit, descriptorMarks, GUARANTEED_CONNECTIONS, judgeDescriptor } from "./descriptors.ts";

test("the limit is the process's own, and both marks lie below it whatever it is", () => {
  expect(descriptorLimit()).toBeGreaterThan(16);
  for (const limit of [64, 256, 1_024, 65_536, 1_048_576]) {
    const { strangers, all } = descriptorMarks(limit);
    expect(strangers).toBeGreaterThan(limit / 2);
    expect(all).toBeGreaterThan(strangers);
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
