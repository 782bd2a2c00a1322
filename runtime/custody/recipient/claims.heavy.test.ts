/** A flood of claims. */
import { expect, test } from "bun:test";
import type { MessageId, NodeId } from "../../kernel/ids.ts";
import type { StoreOp } from "../../store/types.ts";
import { custodyLimitsDefault, type CustodyContext } from "../context.ts";
import { testId } from "../testing.ts";
import { Claims, GRANTS_MAX } from "./claims.ts";

test("100,000 claims of strangers push out no grant of another neighbour, nor of whom this node knows", async () => {
  const rows = new Map<string, string>();
  const regard = { isKnown: (id: NodeId) => id === testId("friend"), shareOf: () => strangers, wrote() {} };
  const strangers = { by: "192.0.2.1", isKnown: false };
  const store = {
    async commit(ops: readonly StoreOp[]) {
      for (const op of ops)
        if (op.op === "put") rows.set(op.key, op.meta);
        else rows.delete(op.key);
    },
  };
  const presence = { of: () => "there", watch: () => () => {} };
  const seams = { regard, store, presence, limits: custodyLimitsDefault } as unknown as CustodyContext;
  const claims = new Claims(seams, {
    send() {},
    deliver: async () => true,
    drop: async () => {},
    wasDeliveredHere: () => false,
  });
  const message = (n: number) => n.toString(16).padStart(32, "0") as MessageId;
  await claims.onClaim(testId("friend"), { by: testId("friend"), isKnown: true }, message(1));
  await claims.onClaim(testId("machine"), { by: "10.0.0.7", isKnown: false }, message(2));
  for (let n = 0; n < 100_000; n++)
    await claims.onClaim(testId(`sybil ${n % 100}`), strangers, message(1_000 + n));
  expect([rows.has(`granted/${message(1)}`), rows.has(`granted/${message(2)}`)]).toEqual([true, true]);
  expect(rows.size).toBeLessThanOrEqual(GRANTS_MAX);
});
