/** How far the node's own mail fills its stores, for its health. */
import type { CustodyLimits } from "./context.ts";

/** What a store of mail holds, and its bounds. */
export interface Fill {
  readonly of: "inbox" | "outbox";
  readonly count: number;
  readonly countMax: number;
  readonly bytes: number;
  readonly bytesMax: number;
}

export const fillsOf = (
  { inboxMessagesMax, inboxBytesMax, outboxMessagesMax, outboxBytesMax }: CustodyLimits,
  inbox: { readonly count: number; readonly bytes: number },
  outbox: { readonly openCount: number; readonly bytes: number },
): readonly Fill[] => [
  {
    of: "inbox",
    count: inbox.count,
    bytes: inbox.bytes,
    countMax: inboxMessagesMax,
    bytesMax: inboxBytesMax,
  },
  {
    of: "outbox",
    count: outbox.openCount,
    bytes: outbox.bytes,
    countMax: outboxMessagesMax,
    bytesMax: outboxBytesMax,
  },
];
