/** The image that the suites boot: built once, with a token for the API laid over it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, run } from "../../scripts/lib.ts";
import type { ImageArch } from "../../scripts/image/target.ts";

export const TOKEN = "boot-suite-token-0123456789";
/** Lets the holder of TOKEN do everything over the forwarded port. */
export const TOKEN_WORD =
  "godwit.api.tokens=[{secret='file:/etc/godwit/token',scopes=['read','send','operate','admin']}]";

export interface BuiltImage {
  readonly folder: string;
  /** `what` to bytes, as `bun run image --json` prints it. */
  readonly sizes: readonly { readonly what: string; readonly bytes: number; readonly isFile: boolean }[];
  remove(): void;
}

export async function buildImage(arch: ImageArch = "x64", more: readonly string[] = []): Promise<BuiltImage> {
  const work = mkdtempSync(join(tmpdir(), "godwit-image-"));
  const overlay = join(work, "overlay");
  mkdirSync(join(overlay, "etc/godwit"), { recursive: true });
  writeFileSync(join(overlay, "etc/godwit/token"), TOKEN, { mode: 0o600 });
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
    remove: () => rmSync(work, { recursive: true, force: true }),
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
