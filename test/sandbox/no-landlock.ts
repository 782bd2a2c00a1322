/**
 * Makes a node see a kernel without Landlock: starts it under a seccomp filter that answers ENOSYS to those calls, as older kernels
 * do. `bun no-landlock.ts BINARY WORDS...`; `writeLauncher` makes a program of that.
 */
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ptr } from "bun:ffi";
import { compileFilter, deny } from "../../runtime/plugin/sandbox/bpf.ts";
import { cString, cStrings, syscall } from "../../runtime/plugin/sandbox/libc.ts";
import { type Arch, ERRNO, syscallNumber } from "../../runtime/plugin/sandbox/numbers.ts";

/** Writes the program into `folder`, which stays the caller's. */
export async function writeLauncher(folder: string, binary: string): Promise<string> {
  const path = join(folder, "godwit");
  writeFileSync(path, `#!/bin/sh\nexec ${process.execPath} ${import.meta.path} ${binary} "$@"\n`);
  chmodSync(path, 0o755);
  return path;
}

if (import.meta.main) {
  const arch = process.arch as Arch;
  const calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"] as const;
  const filter = compileFilter({
    arch,
    allowed: [],
    rules: calls.map((name) => ({
      number: syscallNumber(name, arch)!,
      alternatives: [],
      otherwise: deny(ERRNO.ENOSYS),
    })),
    otherwise: 0x7fff_0000,
  });
  const program = new BigUint64Array([BigInt(filter.length / 8), BigInt(ptr(filter))]);
  const [binary = "", ...words] = process.argv.slice(2);
  const argv = cStrings([binary, ...words]);
  const envp = cStrings(Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ""}`));
  const path = cString(binary);
  syscall(syscallNumber("prctl", arch)!, 38, 1, 0, 0, 0);
  const { errno } = syscall(syscallNumber("seccomp", arch)!, 1, 0, program);
  if (errno === 0) syscall(syscallNumber("execve", arch)!, path, argv.pointers, envp.pointers);
  console.error("cannot start it without Landlock", errno);
  process.exit(1);
}
