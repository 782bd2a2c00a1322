/** Why a neighbour did not take a message, in words for whoever asks where it is. Owns no state. */
import { shortId, type NodeId } from "../../kernel/ids.ts";
import { RefuseReason } from "../../wire/bundle.ts";

const WORDS: Readonly<Record<number, string>> = {
  [RefuseReason.full]: "it is full, and takes it when there is room",
  [RefuseReason.quota]: "it has no more room for this sender, and takes it when there is some",
  [RefuseReason.storeFailed]: "it could not write it to its disk",
  [RefuseReason.damaged]: "it came damaged",
  [RefuseReason.expired]: "its lifetime is over",
  [RefuseReason.blocked]: "it has blocked the sender",
  [RefuseReason.busy]: "it is busy",
  [RefuseReason.senders]:
    "its table of senders is full; mail passes once it wrote to this node, or trusts it",
};

export const refusalWords = (by: NodeId, reason: number): string =>
  `refused by ${shortId(by)}: ${WORDS[reason] ?? `reason ${reason}`}`;
