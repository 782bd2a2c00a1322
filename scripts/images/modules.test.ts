import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseModulesDep, planModules } from "../../runtime/init/modules.ts";
import { gzipSync } from "node:zlib";
import { formatModulesDep, ModuleTree, neededBy } from "./modules.ts";

const module = (depends: string) =>
  new TextEncoder().encode(`ELF...\0license=GPL\0depends=${depends}\0name=x\0vermagic=6.1\0`);

test("what a module says that it needs", () => {
  expect(neededBy(module("net_failover,virtio-ring"))).toEqual(["net_failover", "virtio_ring"]);
  expect(neededBy(module(""))).toEqual([]);
  expect(neededBy(new Uint8Array(10))).toEqual([]);
});

test("a kernel whose modules are compressed makes an image with modules, as they are loaded; one without any makes none", () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-tree-"));
  try {
    writeFileSync(join(folder, "modules.builtin"), "");
    expect(() => new ModuleTree(folder)).toThrow("no kernel modules");
    const xz = Bun.spawnSync(["xz", "--stdout"], { stdin: module("b") }).stdout;
    writeFileSync(join(folder, "a-x.ko.xz"), xz);
    writeFileSync(join(folder, "b.ko.zst"), Bun.zstdCompressSync(module("c")));
    writeFileSync(join(folder, "c.ko.gz"), gzipSync(module("")));
    writeFileSync(join(folder, "d.ko.rar"), module(""));
    const tree = new ModuleTree(folder);
    const { modules, missing } = tree.closure(["a_x"]);
    expect(missing).toEqual([]);
    expect(modules.map(({ path }) => path)).toEqual(["c.ko", "b.ko", "a-x.ko"]);
    expect(modules.map(({ bytes }) => Buffer.from(bytes).equals(module("")))).toEqual([true, false, false]);
    expect(() => tree.closure(["d"])).toThrow("unpack .rar");
    writeFileSync(join(folder, "a-x.ko.xz"), xz.subarray(0, 40));
    expect(() => tree.closure(["a_x"])).toThrow("xz:");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the closure is in an order in which it loads, and PID 1 reads the same order from modules.dep", () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-tree-"));
  try {
    mkdirSync(join(folder, "kernel/net"), { recursive: true });
    // b needs c as well, and a names it after b; d and e need each other, which no kernel has.
    const needs: Record<string, string> = {
      a: "b,c",
      b: "c",
      "c-dash": "",
      c: "c_dash",
      d: "e",
      e: "d",
      unused: "",
    };
    for (const [name, depends] of Object.entries(needs))
      writeFileSync(join(folder, `kernel/net/${name}.ko`), module(depends));
    writeFileSync(join(folder, "modules.builtin"), "kernel/fs/ext4/ext4.ko\n");
    const tree = new ModuleTree(folder);
    const { modules, missing } = tree.closure(["a", "ext4", "gone", "a", "d"]);
    expect(missing).toEqual(["gone"]);
    const names = modules.map(({ name }) => name);
    expect(names.slice(0, 4)).toEqual(["c_dash", "c", "b", "a"]);
    expect(names).not.toContain("unused");
    const { paths } = planModules(parseModulesDep(formatModulesDep(modules)), ["a"]);
    expect(paths).toEqual(["c-dash", "c", "b", "a"].map((name) => `kernel/net/${name}.ko`));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
