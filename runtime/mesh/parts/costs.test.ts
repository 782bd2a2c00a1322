import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { Airtime } from "../../kernel/airtime.ts";
import type { NodeId } from "../../kernel/ids.ts";
import type { Peer } from "../../peer/peer.ts";
import { LinkCosts } from "./costs.ts";

test("questions for paths go to whoever speaks the second version, and not over what is carried", () => {
  const knows = (version: number, isCarried: boolean) => {
    const session = {
      linkClass: "slow",
      version,
      isCarried,
      frameBytesMax: 200,
      medium: undefined,
      answerMs: 0,
    };
    const best = { session, rateBitsPerSecond: 1_000, isMeasured: false, rttMinMs: undefined };
    const peer = { id: "peer" as NodeId, best, links: [best] } as unknown as Peer;
    return new LinkCosts(0, new Airtime(new ManualClock())).of(peer).knowsPaths;
  };
  expect([knows(1, false), knows(2, false), knows(2, true)]).toEqual([false, true, false]);
});
