/** What the pieces of an image do outside of one: stage 0 as the first program of a namespace, the archive in the hands of cpio. */
import { beforeAll, expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CpioEntry, writeCpio } from "../../scripts/images/cpio.ts";
import { PackageRoot } from "../../scripts/images/packages.ts";
import { Steps } from "../../scripts/steps.ts";
import { emitStage0, PID1_WORD } from "../../scripts/images/stage0.ts";
import { isPid1, PID1_WORD as spokenWord } from "../../runtime/init/personality.ts";
import { binaryPath } from "../../scripts/lab.ts";

const canRun =
  process.arch === "x64" && Bun.spawnSync(["unshare", "-mpf", "true"], { stderr: "ignore" }).exitCode === 0;
const why = canRun ? "" : " [skipped: needs root on x64]";

/** Out of its package, which need not be installed. */
let busybox: string;
beforeAll(async () => {
  if (!canRun) return;
  busybox = join(
    (await new PackageRoot("x64", new Steps(undefined)).get("busybox-static")).folder,
    "bin/busybox",
  );
}, 120_000);

/** Runs stage 0 as the first program of a process namespace; `/godwit` is what `program` says. */
function runStage0(prepare: (root: string) => void, words: readonly string[] = []) {
  const root = mkdtempSync(join(tmpdir(), "godwit-stage0-"));
  try {
    writeFileSync(join(root, "init"), emitStage0("x64").bytes, { mode: 0o755 });
    prepare(root);
    const result = Bun.spawnSync(["unshare", "-mpf", Bun.which("chroot")!, root, "/init", ...words], {
      env: { BUN_OPTIONS: "--preload /evil.js", LEAKED: "1" },
    });
    return { code: result.exitCode, out: result.stdout.toString(), err: result.stderr.toString() };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function shellAs(root: string, path: string, script: string): void {
  mkdirSync(join(root, "bin"));
  copyFileSync(busybox, join(root, "bin/busybox"));
  chmodSync(join(root, "bin/busybox"), 0o755);
  writeFileSync(join(root, path), `#!/bin/busybox sh\n${script}\n`, { mode: 0o755 });
}

test.skipIf(!canRun)(`it mounts, and becomes /godwit with its words and its own environment${why}`, () => {
  const { code, out, err } = runStage0(
    (root) =>
      shellAs(
        root,
        "godwit",
        'B=/bin/busybox; echo "args $0 $*"; echo "pid $$"; $B grep -c . /proc/self/status; $B ls -d /sys/kernel; $B test -c /dev/null && echo devices; $B env | $B sort; $B ls -l /proc/$$/fd 2>/dev/null | $B grep -c "/dev/console"; exit 0',
      ),
    ["autooff", "foreign=1"],
  );
  expect(err).toBe("");
  expect(code).toBe(0);
  const lines = out.trim().split("\n");
  expect(lines).toContain("args /godwit pid1 autooff foreign=1");
  expect(lines).toContain("pid 1");
  expect(lines).toContain("/sys/kernel");
  expect(lines).toContain("devices");
  expect(lines).toContain("NO_COLOR=1");
  expect(lines).toContain("HOME=/root");
  expect(out).not.toContain("LEAKED");
  expect(out).not.toContain("BUN_OPTIONS");
  // The descriptors were there, so none was opened or left open.
  expect(lines.at(-1)).toBe("0");
});

test("stage 0 and PID 1 agree on the word, and this process is neither", () => {
  expect(spokenWord).toBe(PID1_WORD);
  expect(isPid1([PID1_WORD])).toBe(false);
});

test.skipIf(!canRun)(`without a program it says so and ends with the error's number${why}`, () => {
  const { code, err } = runStage0(() => {});
  expect(err).toContain("stage 0 cannot start /godwit");
  expect(code).toBe(2); // ENOENT
  const denied = runStage0((root) => writeFileSync(join(root, "godwit"), "", { mode: 0o644 }));
  expect(denied.code).toBe(13); // EACCES
});

test.skipIf(!canRun)(`what is mounted already is no trouble${why}`, () => {
  const { code, out } = runStage0((root) => {
    for (const folder of ["proc", "sys", "dev"]) mkdirSync(join(root, folder));
    // The second stage 0 finds everything there.
    copyFileSync(join(root, "init"), join(root, "again"));
    shellAs(root, "godwit", 'if [ -e /once ]; then echo "twice $*"; else : > /once; exec /again "$@"; fi');
  });
  expect(code).toBe(0);
  expect(out).toContain("twice pid1");
});

test.skipIf(!canRun)(`the first program of a container is a command line like any other${why}`, () => {
  const run = (...words: string[]) =>
    Bun.spawnSync(["unshare", "-mpf", "--mount-proc", binaryPath, ...words]);
  const version = run("version");
  expect(version.exitCode).toBe(0);
  expect(version.stdout.toString()).toMatch(/\d+\.\d+\.\d+/);
  expect(run("nonsense").exitCode).toBe(2);
});

const bytes = (text: string) => new TextEncoder().encode(text);
const entries: CpioEntry[] = [
  { path: "etc/godwit/a.toml", kind: "file", bytes: bytes("x = 1\n"), mode: 0o600 },
  { path: "init", kind: "file", bytes: bytes("#!"), mode: 0o755 },
  { path: "etc/link", kind: "link", target: "/run/x" },
  { path: "dev/console", kind: "character device", major: 5, minor: 1 },
  { path: "tmp", kind: "directory", mode: 0o1777 },
];

test("cpio reads it back", () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-cpio-"));
  try {
    const path = join(folder, "a.cpio");
    writeFileSync(path, writeCpio(entries, 1_793_491_200));
    const listed = Bun.spawnSync(["sh", "-c", `cpio -itv --quiet < ${path}`], {
      env: { ...process.env, TZ: "UTC", LC_ALL: "C" },
    });
    const rows = listed.stdout.toString().trim().split("\n");
    expect(rows.map((row) => row.split(/\s+/)[0])).toEqual([
      "drwxr-xr-x",
      "crw-------",
      "drwxr-xr-x",
      "drwxr-xr-x",
      "-rw-------",
      "lrwxrwxrwx",
      "-rwxr-xr-x",
      "drwxrwxrwt",
    ]);
    expect(rows[1]).toMatch(/root\s+root\s+5,\s+1 Nov\s+1\s+\S+ dev\/console$/);
    expect(rows[5]).toEndWith("etc/link -> /run/x");
    const read = Bun.spawnSync(["sh", "-c", `cpio -i --quiet --to-stdout etc/godwit/a.toml < ${path}`]);
    expect(read.stdout.toString()).toBe("x = 1\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
