/** Who starts before whom: what a plugin requires is started before it. Pure. */

/**
 * Groups that may start side by side, in order. `requires`: types that one needs; those that are not among `items` do not
 * count. What requires itself in a circle is refused when it is installed; here it comes last, together.
 */
export function startWaves<T>(
  items: readonly T[],
  typeOf: (item: T) => string,
  requires: (item: T) => readonly string[],
): T[][] {
  const waves: T[][] = [];
  let left = [...items];
  while (left.length > 0) {
    const waiting = new Set(left.map(typeOf));
    const ready = left.filter((item) =>
      requires(item).every((type) => !waiting.has(type) || type === typeOf(item)),
    );
    const wave = ready.length > 0 ? ready : left;
    waves.push(wave);
    left = left.filter((item) => !wave.includes(item));
  }
  return waves;
}
