/** What the binaries ask of a system, as docs/baking-images.md says it: people build images by that list. */
import { afterAll, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath } from "../../scripts/lab.ts";
import { libraries, loaderPath } from "../../scripts/images/target.ts";
import { root, run } from "../../scripts/lib.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-libraries-"));
afterAll(() => rmSync(folder, { recursive: true }));

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;

/** Loader, libraries and symbol versions, from the program headers of a 64-bit ELF (System V ABI, elf(5)). */
function readElf(path: string): { loader: string; needed: string[]; glibc: string[] } {
  const bytes = readFileSync(path);
  expect(bytes.subarray(0, 5).toString("latin1")).toBe("\x7fELF\x02");
  const at = (offset: number) => Number(bytes.readBigUInt64LE(offset));
  const [start, size, count] = [at(32), bytes.readUInt16LE(54), bytes.readUInt16LE(56)];
  const headers = Array.from({ length: count }, (_, index) => {
    const from = start + index * size;
    return {
      type: bytes.readUInt32LE(from),
      offset: at(from + 8),
      address: at(from + 16),
      length: at(from + 32),
    };
  });
  const text = (offset: number) => bytes.toString("latin1", offset, bytes.indexOf(0, offset));
  const fileOffset = (address: number): number => {
    const segment = headers.find(
      (one) => one.type === PT_LOAD && address >= one.address && address < one.address + one.length,
    )!;
    return address - segment.address + segment.offset;
  };
  const dynamic = headers.find(({ type }) => type === PT_DYNAMIC)!;
  const entries = Array.from({ length: dynamic.length / 16 }, (_, index) => ({
    tag: bytes.readBigInt64LE(dynamic.offset + 16 * index),
    value: at(dynamic.offset + 16 * index + 8),
  }));
  const strings = fileOffset(entries.find(({ tag }) => tag === DT_STRTAB)!.value);
  const needed = entries.filter(({ tag }) => tag === DT_NEEDED).map(({ value }) => text(strings + value));
  // The names of versions stand among the dynamic strings, which follow each other.
  const glibc = new Set(bytes.toString("latin1", strings, strings + 2 ** 20).match(/GLIBC_2\.\d+/g) ?? []);
  return { loader: text(headers.find(({ type }) => type === PT_INTERP)!.offset), needed, glibc: [...glibc] };
}

const page = readFileSync(join(root, "docs/baking-images.md"), "utf8");

test("the glibc build needs five files of any glibc since 2.17", () => {
  const { loader, needed, glibc } = readElf(binaryPath);
  const isArm = process.arch === "arm64";
  const [loaderFile] = loaderPath[isArm ? "arm64" : "x64"].split("/").slice(-1) as [string];
  expect(loader).toEndWith(`/${loaderFile}`);
  expect(needed.filter((name) => name !== loaderFile).sort()).toEqual([...libraries].sort());
  for (const name of [...libraries, loader]) expect(page).toContain(name);
  const newest = Math.max(...glibc.map((name) => Number(name.split(".")[1])));
  expect(newest).toBeLessThanOrEqual(17);
  expect(page).toContain("glibc since 2.17");
});

test("the musl build needs musl and the C++ library", async () => {
  const target = process.arch === "arm64" ? "arm64-musl" : "x64-musl";
  const path = join(folder, "godwit");
  await buildGodwit(target, path);
  const { loader, needed } = readElf(path);
  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  expect(loader).toBe(`/lib/ld-musl-${machine}.so.1`);
  expect(needed.sort()).toEqual([`libc.musl-${machine}.so.1`, "libstdc++.so.6"]);
  for (const name of needed) expect(page).toContain(name.replace(machine, "x86_64"));
}, 120_000);

test("a stripped binary knows no command", async () => {
  const path = join(folder, "stripped");
  copyFileSync(binaryPath, path);
  const stripped = await run(["strip", path]);
  expect({ code: stripped.code, output: stripped.output }).toEqual({ code: 0, output: "" });
  expect((await run([binaryPath, "version"])).code).toBe(0);
  expect((await run([path, "version"])).code).not.toBe(0);
  expect(page).toContain("Never strip it");
});
