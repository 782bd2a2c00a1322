/** The members of the mesh as an engine sees them: what this node concludes of each other node, and when that changes. */

/**
 * `alive`: it answers or a route leads to it. `suspect`: it may be gone, and has a few seconds to contradict. `failed`: it did not.
 * `left`: it said so itself. Conclusions of one node: two nodes may see two states at one time, so no vote is counted with them.
 */
export type MemberState = "alive" | "suspect" | "failed" | "left";

export interface Member {
  /** 52 characters. */
  readonly id: string;
  readonly callsign: string | undefined;
  readonly state: MemberState;
  /** Grows with every life of the node and every accusation that it refuted; 0: it was only heard of. */
  readonly incarnation: number;
  /** Milliseconds since 1970 by this node's wall clock: since when it is in this state. */
  readonly sinceMs: number;
}

export interface MemberChange {
  readonly id: string;
  /** What holds now, states in between may be missing; undefined: it is no member any more, forgotten, blocked or revoked. */
  readonly member: Member | undefined;
}

/** Of `Members`: members of a page, and changes told in one call. */
export const MEMBERS_PAGE_MAX = 500;

/** `ctx.members`. This node is not among them (`ctx.peers.self`), nor are blocked and revoked ones. Needs the permission `engine.members`; else each throws GODWIT_FORBIDDEN. */
export interface Members {
  /** Undefined: none that is known. */
  get(id: string): Member | undefined;
  /** At most `limit` (1 to `MEMBERS_PAGE_MAX`) in the order of their ids, those behind `after`, which need not be there (any more). */
  list(page?: { readonly limit?: number; readonly after?: string }): readonly Member[];
  /**
   * Calls `fn` after members changed, at most five times a second with at most `MEMBERS_PAGE_MAX` of them, and not again before what it
   * answered has settled: changes gather meanwhile, the newest of each. What it throws or rejects with is logged. Ends with the plugin.
   */
  onChange(fn: (changes: readonly MemberChange[]) => void | Promise<void>): void;
}
