/**
 * What a node concludes about another from what it knows itself. Pure: evidence in, state out. The table in
 * docs/protocol/membership.md "States" is this function. An accusation alone never ends in `failed`: it takes the
 * loss of this node's own route, or this node's own pings without an answer.
 */

export type MemberState = "alive" | "suspect" | "failed" | "left";

export interface Evidence {
  readonly state: MemberState;
  /** The newest thing the node signed is its farewell. */
  readonly hasLeft: boolean;
  /** Some route leads there now, or a link. */
  readonly isReachable: boolean;
  /** This node has links to it, and none answers as soon as usual. */
  readonly isDoubted: boolean;
  /** Somebody's accusation stands at the newest incarnation known. */
  readonly isAccused: boolean;
  /** This node's own last link to it died, and nothing proved since that it lives. */
  readonly isLinkLost: boolean;
  /** This node's own pings were not answered. */
  readonly isUnanswered: boolean;
  /** Unreachable for as long as suspicion lasts. */
  readonly isOverdue: boolean;
}

export interface Conclusion {
  readonly state: MemberState;
  /** What this node does to find out more. */
  readonly next: "nothing" | "ping" | "wait";
}

export function decideMember(evidence: Evidence): Conclusion {
  const { state, hasLeft, isReachable, isDoubted, isAccused, isLinkLost, isUnanswered, isOverdue } = evidence;
  if (hasLeft) return { state: "left", next: "nothing" };
  if (!isReachable) {
    if (isAccused || isOverdue || isUnanswered) return { state: "failed", next: "nothing" };
    return { state: "suspect", next: "wait" };
  }
  if (isUnanswered) return { state: "failed", next: "ping" };
  if (isAccused) return { state: state === "failed" ? "failed" : "suspect", next: "ping" };
  // Its links say soon what they find; until then nobody else is asked.
  if (isDoubted) return { state: "suspect", next: "wait" };
  // Others still lead there: they have been told to look, and the route goes if they find nothing.
  if (isLinkLost) return { state: "alive", next: "ping" };
  return { state: "alive", next: "nothing" };
}
