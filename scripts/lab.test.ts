import { expect, test } from "bun:test";
import { join } from "node:path";
import { freePort } from "./lab.ts";
import { run } from "./lib.ts";

test("two suites side by side were given one port: no process is given what another has", async () => {
  const own = Array.from({ length: 50 }, freePort);
  expect(new Set(own).size).toBe(own.length);
  // The other process draws each of these, which are free but claimed, before it draws by chance.
  const script = `import { freePort } from ${JSON.stringify(join(import.meta.dir, "lab.ts"))};
    const drawn = ${JSON.stringify(own)}.map((port) => (port - 12_000 + 0.5) / 20_000);
    const chance = Math.random;
    Math.random = () => drawn.pop() ?? chance();
    console.log(freePort(), drawn.length);`;
  const { output } = await run([process.execPath, "-e", script]);
  const [port, left] = output.trim().split(" ").map(Number);
  expect(left).toBe(0);
  expect(own).not.toContain(port!);
  expect(port).toBeGreaterThan(0);
});
