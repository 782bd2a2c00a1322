/** An inbox without the rest of a node, over any store. For tests only. */
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import type { NodeId } from "../../kernel/ids.ts";
import type { Store } from "../../store/types.ts";
import { testTime } from "../../time/testing.ts";
import { custodyLimitsDefault, type CustodyContext, type CustodyLimits } from "../context.ts";
import { Inbox } from "./inbox.ts";

export interface TestInbox {
  readonly inbox: Inbox;
  readonly clock: ManualClock;
  /** Tables that refused. */
  readonly refused: string[];
}

export function openTestInbox(
  store: Store,
  {
    limits = {},
    clock = new ManualClock(1_800_000_000_000),
    isKnown = () => false,
  }: {
    readonly limits?: Partial<CustodyLimits>;
    readonly clock?: ManualClock;
    readonly isKnown?: (id: NodeId) => boolean;
  } = {},
): TestInbox {
  const refused: string[] = [];
  const seams: Partial<CustodyContext> = {
    clock,
    time: testTime(clock).time,
    log: silentLog,
    store,
    limits: { ...custodyLimitsDefault, ...limits },
    regard: {
      isKnown,
      worthOf: () => "none",
      shareOf: (by) => ({ by, isKnown: isKnown(by) }),
      wrote() {},
      waits() {},
    },
    fullTables: { refused: (table) => void refused.push(table) },
  };
  return { inbox: new Inbox(seams as CustodyContext), clock, refused };
}
