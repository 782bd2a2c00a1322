/**
 * Which tests stand beside the code, and how `bun test` is told of them. What is heavy by nature (floods, storms, disks torn a thousand
 * times) stands in `NAME.heavy.test.ts`: the whole of `bun run check` leaves it out, the suite `heavy` runs it, and so does a check of
 * its path, of a folder above it, or since a commit after which it is touched.
 */

/** Folders whose tests are beside the code, and those of the whole. */
export const TESTED: readonly string[] = [
  ...["runtime/", "sdk/src/", "sdk/testkit/", "plugins/", "scripts/"],
  ...["test/architecture.test.ts", "test/mutants.test.ts"],
];

const HEAVY = ".heavy.test.ts";

/** For one test without a bound of its own: it is for what hangs, and a busy machine must not fail one that is right. */
const TEST_TIMEOUT_MS = 60_000;
export const timeout = `--timeout=${TEST_TIMEOUT_MS}`;

const inParallel = (workers: number): string[] => ["test", `--parallel=${workers}`, "--randomize", timeout];

/** Arguments of `bun` that run what is beside the code: all but what is heavy, or these paths whole. */
export function testArguments(paths: readonly string[] | undefined, workers: number): string[] {
  return [
    ...inParallel(workers),
    ...(paths === undefined ? [`--path-ignore-patterns=**/*${HEAVY}`] : []),
    ...(paths ?? TESTED).map((path) => `./${path}`),
  ];
}

/** And those that run what is heavy. */
export const heavyArguments = (workers: number): string[] => [...inParallel(workers), HEAVY];
