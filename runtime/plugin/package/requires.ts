/**
 * What plugins require of one another: `requires` of their manifests, ids of plugins that have to be installed as well.
 * Pure. docs/plugins.md, "The manifest".
 */

export interface Requiring {
  readonly id: string;
  readonly requires?: readonly string[] | undefined;
}

/** An id to what stands in the way of it. Those that require a plugin of this map are in it, too. */
export function requiresProblems(
  plugins: readonly Requiring[],
  builtins: ReadonlySet<string>,
): Map<string, string> {
  const problems = new Map<string, string>();
  const left = new Map(plugins.map((plugin) => [plugin.id, plugin]));
  // What requires nothing that is left can start; what remains in the end waits for itself.
  for (let before = -1; before !== left.size;) {
    before = left.size;
    for (const { id, requires = [] } of left.values())
      if (requires.every((one) => isThere(one) && !left.has(one))) left.delete(id);
  }
  for (const { id, requires = [] } of left.values()) {
    const missing = requires.find((one) => !isThere(one));
    if (missing !== undefined)
      problems.set(id, `"${id}" requires "${missing}", which is not installed: add that first`);
  }
  for (const { id, requires = [] } of left.values()) {
    if (problems.has(id)) continue;
    const cycle = cycleFrom(id, left);
    const broken = requires.find((one) => problems.has(one));
    problems.set(
      id,
      cycle === undefined
        ? `"${id}" requires "${broken ?? requires.find((one) => left.has(one))}", which cannot run itself`
        : `"${id}" requires itself: ${cycle.map((one) => `"${one}"`).join(" requires ")}`,
    );
  }
  return problems;

  function isThere(id: string): boolean {
    return builtins.has(id) || plugins.some((plugin) => plugin.id === id);
  }
}

/** From the id back to it, or undefined: it is only behind a cycle. Breadth first, so that the shortest one is told. */
function cycleFrom(start: string, left: ReadonlyMap<string, Requiring>): string[] | undefined {
  const paths: string[][] = [[start]];
  const seen = new Set<string>();
  for (let path = paths.shift(); path !== undefined; path = paths.shift())
    for (const next of left.get(path.at(-1)!)?.requires ?? []) {
      if (next === start) return [...path, start];
      if (seen.has(next)) continue;
      seen.add(next);
      paths.push([...path, next]);
    }
  return undefined;
}
