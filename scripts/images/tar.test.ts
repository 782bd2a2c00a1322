import { afterEach, beforeEach, expect, test } from "bun:test";
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../lib.ts";
import { type OciConfig, writeOciArchive } from "./oci.ts";
import { type TarEntry, withFolders, writeTar } from "./tar.ts";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "godwit-tar-"))));
afterEach(() => rmSync(folder, { recursive: true }));

const EPOCH_S = 1_767_225_600;
const bytes = (length: number) => new Uint8Array(length).map((_, index) => index);

async function unpack(archive: Uint8Array): Promise<string> {
  writeFileSync(join(folder, "a.tar"), archive);
  const { code, output } = await run(["tar", "-C", folder, "-xpf", join(folder, "a.tar")]);
  expect({ code, output }).toEqual({ code: 0, output: "" });
  const listed = await run(["tar", "--numeric-owner", "--utc", "-tvf", join(folder, "a.tar")], {
    env: { ...process.env, LC_ALL: "C", TZ: "UTC" },
  });
  return listed.output;
}

test("tar of the system unpacks it: sizes around the block, links, modes, owners, times", async () => {
  const sizes = [0, 1, 511, 512, 513, 5_000];
  const entries: TarEntry[] = [
    ...sizes.map((size): TarEntry => ({ path: `deep/er/${size}`, kind: "file", bytes: bytes(size) })),
    { path: "deep/link", kind: "link", target: "er/512" },
    { path: "own", kind: "directory", mode: 0o700, owner: 65_532 },
    { path: "run", kind: "file", bytes: bytes(3), mode: 0o4755 },
  ];
  const listed = await unpack(writeTar(withFolders(entries), EPOCH_S));
  for (const size of sizes)
    expect(new Uint8Array(readFileSync(join(folder, `deep/er/${size}`)))).toEqual(bytes(size));
  expect(readlinkSync(join(folder, "deep/link"))).toBe("er/512");
  expect(lstatSync(join(folder, "run")).mode & 0o7777).toBe(0o4755);
  expect(lstatSync(join(folder, "run")).mtimeMs).toBe(EPOCH_S * 1_000);
  expect(listed).toMatch(/^drwx------ 65532\/65532 +0 2026-01-01 00:00 own\/$/m);
  expect(listed).toMatch(/^drwxr-xr-x 0\/0 +0 2026-01-01 00:00 deep\/er\/$/m);
});

test("a name that does not fit is refused, not cut", () => {
  const entry = (path: string): TarEntry => ({ path, kind: "directory" });
  expect(writeTar([entry("a".repeat(99))], 0)).toHaveLength(512 * 3);
  expect(() => writeTar([entry("a".repeat(100))], 0)).toThrow(/does not fit/);
});

test("an OCI archive names each of its blobs by what it is", async () => {
  const layer = writeTar([{ path: "x", kind: "file", bytes: bytes(9) }], EPOCH_S);
  const { archive } = writeOciArchive({
    architecture: "arm64",
    config: { User: "1:1" } as OciConfig,
    layers: [{ tar: layer, what: "x" }],
    reference: "localhost/x:latest",
    epochS: EPOCH_S,
  });
  await unpack(archive);
  const blob = (digest: string): Uint8Array<ArrayBuffer> => {
    const found = new Uint8Array(readFileSync(join(folder, "blobs", digest.replace(":", "/"))));
    expect(`sha256:${new Bun.CryptoHasher("sha256").update(found).digest("hex")}`).toBe(digest);
    return found;
  };
  const json = (content: Uint8Array) => JSON.parse(new TextDecoder().decode(content)) as never;
  const index: { manifests: [{ digest: string; size: number; platform: unknown }] } = json(
    readFileSync(join(folder, "index.json")),
  );
  const [described] = index.manifests;
  expect(described.platform).toEqual({ architecture: "arm64", os: "linux" });
  const manifest: { config: { digest: string }; layers: [{ digest: string; size: number }] } = json(
    blob(described.digest),
  );
  const config: { rootfs: { diff_ids: string[] }; config: OciConfig } = json(blob(manifest.config.digest));
  expect(config.config.User).toBe("1:1");
  const packed = blob(manifest.layers[0].digest);
  expect(packed.length).toBe(manifest.layers[0].size);
  const unpacked = Bun.gunzipSync(packed);
  expect(unpacked).toEqual(layer);
  expect(config.rootfs.diff_ids).toEqual([
    `sha256:${new Bun.CryptoHasher("sha256").update(layer).digest("hex")}`,
  ]);
});
