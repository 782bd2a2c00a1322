/** Who starts before whom: by kind, and what a plugin needs before it. Pure. */

export interface Ordered {
  /** Of those that could start, the lowest start first. */
  readonly rank: number;
  readonly type: string;
  /** Types that have to be started before it. */
  readonly requires: readonly string[];
  /** Services that it offers, and that it uses: who offers starts before who uses. */
  readonly offers: readonly string[];
  readonly uses: readonly string[];
}

/**
 * Groups that may start side by side, in order. What is needed and not among `items` does not count. Who needs each other in a
 * circle wait for nobody: when nothing else is left they start together, by rank; nobody waits for ever.
 */
export function startWaves<T>(items: readonly T[], factsOf: (item: T) => Ordered): T[][] {
  const waves: T[][] = [];
  let left = items.map((item) => ({ item, facts: factsOf(item) }));
  while (left.length > 0) {
    const types = new Set(left.map(({ facts }) => facts.type));
    const needs = ({ facts }: (typeof left)[number]): boolean =>
      facts.requires.some((type) => type !== facts.type && types.has(type)) ||
      left.some(
        (other) => other.facts !== facts && other.facts.offers.some((name) => facts.uses.includes(name)),
      );
    const ready = left.filter((one) => !needs(one));
    const pool = ready.length > 0 ? ready : left;
    const rank = Math.min(...pool.map(({ facts }) => facts.rank));
    const wave = pool.filter(({ facts }) => facts.rank === rank);
    waves.push(wave.map(({ item }) => item));
    left = left.filter((one) => !wave.includes(one));
  }
  return waves;
}
