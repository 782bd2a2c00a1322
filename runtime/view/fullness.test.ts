import { expect, test } from "bun:test";
import { fullnessTroubles } from "./fullness.ts";

const inbox = { of: "inbox", countMax: 10, bytes: 0, bytesMax: 1024 ** 2 } as const;

test("an inbox that takes no more mail is told to whoever looks at the node, and what makes room", () => {
  expect(fullnessTroubles([{ ...inbox, count: 8 }])).toEqual([]);
  expect(fullnessTroubles([{ ...inbox, count: 9 }])).toMatchObject([{ name: "inbox", isNotice: true }]);
  const [full] = fullnessTroubles([{ ...inbox, count: 10 }]);
  expect(full).toMatchObject({ name: "inbox", isNotice: false });
  expect(full!.reason).toContain("full: 10 of 10 messages, 0.0 of 1.0 MiB");
  expect(full!.reason).toContain("godwit inbox rm");
});

test("so is one that is full of bytes, and an outbox", () => {
  const troubles = fullnessTroubles([
    { ...inbox, count: 1, bytes: 1024 ** 2 },
    { ...inbox, of: "outbox", count: 10 },
  ]);
  expect(troubles).toMatchObject([{ name: "inbox", isNotice: false }, { name: "outbox" }]);
  expect(troubles[1]!.reason).toContain("godwit outbox rm");
});
