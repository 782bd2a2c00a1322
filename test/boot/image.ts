/** The image that the suites boot, with a token for the API laid over it. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, run } from "../../scripts/lib.ts";
import { PackageRoot } from "../../scripts/images/packages.ts";
import { Steps } from "../../scripts/steps.ts";
import type { ImageArch } from "../../scripts/images/target.ts";

export const TOKEN = "boot-suite-token-0123456789";
/** Lets the holder of TOKEN do everything over the forwarded port. */
export const TOKEN_WORD =
  "godwit.api.tokens=[{secret='file:/etc/godwit/token',scopes=['read','send','operate','admin']}]";

/** `signal-pid1 NAME`, a program of the image: when it is told to stop, it sends PID 1 that signal. */
const SIGNAL_PID1 = `#!/bin/busybox sh
trap "/bin/busybox kill -s $1 1; exit 0" TERM
while :; do /bin/busybox sleep 3600; done
`;

export interface BuiltImage {
  readonly folder: string;
  /** `what` to bytes, as `bun run image --json` prints it. */
  readonly sizes: readonly { readonly what: string; readonly bytes: number; readonly isFile: boolean }[];
  remove(): void;
}

/** Whoever asks for one removes it: `bun test` ends without an event for that. Where it cannot be made, nothing is left. */
export async function buildImage(arch: ImageArch = "x64", more: readonly string[] = []): Promise<BuiltImage> {
  const work = mkdtempSync(join(tmpdir(), "godwit-image-"));
  const remove = () => rmSync(work, { recursive: true, force: true });
  try {
    return { ...(await buildInto(work, arch, more)), remove };
  } catch (error) {
    remove();
    throw error;
  }
}

async function buildInto(
  work: string,
  arch: ImageArch,
  more: readonly string[],
): Promise<Omit<BuiltImage, "remove">> {
  const overlay = join(work, "overlay");
  mkdirSync(join(overlay, "etc/godwit"), { recursive: true });
  writeFileSync(join(overlay, "etc/godwit/token"), TOKEN, { mode: 0o600 });
  const busybox = await new PackageRoot(arch, new Steps(undefined)).get("busybox-static");
  mkdirSync(join(overlay, "bin"));
  copyFileSync(join(busybox.folder, "bin/busybox"), join(overlay, "bin/busybox"));
  writeFileSync(join(overlay, "bin/signal-pid1"), SIGNAL_PID1, { mode: 0o755 });
  const folder = join(work, "image");
  const built = await run(
    [
      ...[process.execPath, "scripts/image.ts", "initramfs", "--out", folder, "--arch", arch],
      ...["--overlay", overlay, "--json", ...more],
    ],
    { cwd: root, timeoutMs: 10 * 60_000 },
  );
  if (built.code !== 0) throw new Error(`no image: ${built.output}`);
  const line = built.output
    .trim()
    .split("\n")
    .findLast((one) => one.startsWith("["));
  return {
    folder,
    sizes: JSON.parse(line ?? "[]") as BuiltImage["sizes"],
  };
}

/** Calls the API of a machine over its forwarded port. */
export async function api<T>(port: number, path: string, body?: unknown): Promise<T> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

/** mke2fs and e2fsck stand where only root's PATH leads. */
export const runDiskTool = (command: readonly string[]) =>
  run(command, { env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` } });
