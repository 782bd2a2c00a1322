import { expect, test } from "bun:test";
import { join } from "node:path";

test("whoever takes core dumps gets none of a process that forbids them: it is not dumpable, and its limit is 0", () => {
  const code = `
    import { dlopen, ptr } from "bun:ffi";
    import { forbidCoreDumps } from ${JSON.stringify(join(import.meta.dir, "core-dumps.ts"))};
    const libc = dlopen("libc.so.6", {
      prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
      getrlimit: { args: ["i32", "ptr"], returns: "i32" },
    }).symbols;
    const limit = new BigUint64Array([1n, 1n]);
    const before = libc.prctl(3, 0n, 0n, 0n, 0n);
    const why = forbidCoreDumps();
    libc.getrlimit(4, ptr(limit));
    console.log(JSON.stringify([before, why ?? "done", libc.prctl(3, 0n, 0n, 0n, 0n), limit.join()]));`;
  const ran = Bun.spawnSync([process.execPath, "-e", code]);
  expect(ran.stdout.toString().trim()).toBe('[1,"done",0,"0,0"]');
});
