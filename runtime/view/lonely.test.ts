import { expect, test } from "bun:test";
import { godwitError } from "../kernel/errors.ts";
import { lonelyTroubles } from "./lonely.ts";

const lastFailure = {
  endpoint: "tcp://192.0.2.1:4860",
  error: godwitError("GODWIT_HANDSHAKE_FAILED", "the far end hung up"),
};

test("a node that nobody lets in says so instead of nothing, and is not ill: the others may be off", () => {
  const [told] = lonelyTroubles({ peers: { count: 0 }, dialer: { lastFailure } });
  expect(told).toMatchObject({ name: "links", isNotice: true });
  expect(told!.reason).toContain("tcp://192.0.2.1:4860 failed last: the far end hung up");
  expect(lonelyTroubles({ peers: { count: 1 }, dialer: { lastFailure } })).toEqual([]);
  expect(lonelyTroubles({ peers: { count: 0 }, dialer: { lastFailure: undefined } })).toEqual([]);
});
