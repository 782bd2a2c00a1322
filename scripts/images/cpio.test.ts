import { expect, test } from "bun:test";
import { type CpioEntry, writeCpio } from "./cpio.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const entries: CpioEntry[] = [
  { path: "etc/godwit/a.toml", kind: "file", bytes: bytes("x = 1\n"), mode: 0o600 },
  { path: "init", kind: "file", bytes: bytes("#!"), mode: 0o755 },
  { path: "etc/link", kind: "link", target: "/run/x" },
  { path: "dev/console", kind: "character device", major: 5, minor: 1 },
  { path: "tmp", kind: "directory", mode: 0o1777 },
  { path: "empty", kind: "file", bytes: new Uint8Array() },
];

test("order of entries does not matter, everything else does", () => {
  const one = writeCpio(entries, 1_793_491_200);
  expect(Bun.hash(writeCpio([...entries].reverse(), 1_793_491_200))).toBe(Bun.hash(one));
  expect(Bun.hash(writeCpio(entries, 1_793_491_201))).not.toBe(Bun.hash(one));
  expect(one.length % 512).toBe(0);
});

test("paths that lead elsewhere, and two of one name", () => {
  for (const path of ["/etc/x", "../x", "a/../../x", "a/..", "./a", ""])
    expect(() => writeCpio([{ path, kind: "directory" }], 0)).toThrow("not a plain path");
  expect(() => writeCpio([...entries, { path: "init", kind: "directory" }], 0)).toThrow("two entries");
  expect(() => writeCpio([{ path: "a..b/.hidden", kind: "directory" }], 0)).not.toThrow();
});
