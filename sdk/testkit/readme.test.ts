/** The examples of sdk/README.md are pieces of files that are type-checked and tested. */
import { expect, test } from "bun:test";
import { join } from "node:path";

const read = (path: string) => Bun.file(join(import.meta.dir, "../..", path)).text();

test("the README shows code that runs", async () => {
  const blocks = [...(await read("sdk/README.md")).matchAll(/```ts\n([\s\S]*?)```/g)].map(
    ([, code]) => code!,
  );
  const sources = [
    "plugins/transport-memory/index.ts",
    "sdk/testkit/readme-stream.test.ts",
    "plugins/transport-memory/conformance.test.ts",
  ];
  // Whole plugins, which test/author/package.test.ts checks and runs; the rest are pieces of these files.
  const pieces = blocks.filter((block) => !block.includes("export default definePlugin"));
  expect(pieces).toHaveLength(sources.length);
  for (const [at, source] of sources.entries()) expect(await read(source)).toContain(pieces[at]!.trimEnd());
});
