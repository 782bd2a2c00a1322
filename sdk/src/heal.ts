/** One thing that can be done about one trouble of a node, by an operator or by the node itself, within a budget. */

export interface HealBudget {
  /** Steps that may still be taken. */
  readonly stepsLeft: number;
  /** Before each step: takes one. Throws GODWIT_HEAL_BUDGET when none is left; then stop, and leave things whole. */
  spend(): void;
}

export interface HealAction {
  /** 1 to 64 of a-z, 0-9 and -, a letter first: `restart-radio`. One of a name on a node. */
  readonly name: string;
  /** What it is for, one sentence. */
  readonly summary: string;
  /**
   * What `run` would do now, each step a sentence; nothing: there is nothing to do. Must change nothing. Ends with the
   * signal's reason when that aborts.
   */
  plan(signal: AbortSignal): Promise<readonly string[]>;
  /** Does it, and answers what was done, each step a sentence. May be run again at once, and then has nothing to do. */
  run(budget: HealBudget, signal: AbortSignal): Promise<readonly string[]>;
}
