/**
 * `./scripts/image container`: an OCI archive from scratch that holds the binary, glibc's five libraries and the few files
 * that they look for. Needs apt and dpkg-deb for the libraries; no root, no container engine. What the image says of
 * itself (user, environment, health check) is also in images/container/Containerfile; a test holds the two together.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildVersion } from "../build.ts";
import { glibcFiles } from "./glibc.ts";
import { type OciConfig, writeOciArchive } from "./oci.ts";
import { PackageRoot } from "./packages.ts";
import { type TarEntry, withFolders, writeTar } from "./tar.ts";
import { debianArch, imageBinary, type ImageOptions, type ImageTarget, type SizeRow } from "./target.ts";

/** As in other images without users of their own: nobody, but not the one of NFS. */
export const CONTAINER_USER = 65_532;
export const CONTAINER_BINARY = "/usr/local/bin/godwit";
export const CONTAINER_STATE = "/var/lib/godwit";
const REFERENCE = "localhost/godwit:latest";
const SECOND_NS = 1_000_000_000;

export const container: ImageTarget = {
  summary: "godwit.oci.tar: an OCI image from scratch, for podman load and others",
  options: {
    reference: { type: "string", help: `NAME  what it is called after loading; ${REFERENCE} by default` },
    rootfs: { type: "boolean", help: "leave rootfs.tar too, for images/container/Containerfile" },
  },
  build,
};

export const containerConfig = (version: string): OciConfig => ({
  User: `${CONTAINER_USER}:${CONTAINER_USER}`,
  Env: [
    "PATH=/usr/local/bin",
    `HOME=${CONTAINER_STATE}`,
    `GODWIT_NODE__STATE_DIR=${CONTAINER_STATE}`,
    "CREDENTIALS_DIRECTORY=/run/secrets",
    "BUN_ENABLE_CRASH_REPORTING=0",
    "NO_COLOR=1",
  ],
  Entrypoint: [CONTAINER_BINARY],
  Cmd: ["run"],
  WorkingDir: "/",
  ExposedPorts: { "4860/tcp": {} },
  Volumes: { [CONTAINER_STATE]: {} },
  Labels: {
    "org.opencontainers.image.title": "Godwit",
    "org.opencontainers.image.description": "A mesh node in one file",
    "org.opencontainers.image.version": version,
    "org.opencontainers.image.licenses": "GPL-3.0-only",
  },
  StopSignal: "SIGTERM",
  Healthcheck: {
    Test: ["CMD", CONTAINER_BINARY, "health", "--live"],
    Interval: 30 * SECOND_NS,
    Timeout: 12 * SECOND_NS,
    StartPeriod: 15 * SECOND_NS,
    Retries: 3,
  },
});

async function build(options: ImageOptions): Promise<readonly SizeRow[]> {
  const { arch, out, epochS, values, steps } = options;
  const libc = await new PackageRoot(arch, steps).get("libc6");
  steps.begin("building the binary");
  const binary = new Uint8Array(readFileSync(await imageBinary(arch)));
  const libs = glibcFiles(libc.folder, arch);
  // What seldom changes lies below what changes with each build.
  const base = withFolders([
    ...skeleton(),
    ...libs.map(({ path, bytes }): TarEntry => ({ path, kind: "file", bytes, mode: 0o755 })),
  ]);
  const top: TarEntry[] = [{ path: CONTAINER_BINARY.slice(1), kind: "file", bytes: binary, mode: 0o755 }];
  steps.begin("packing");
  const { archive, layerBytes } = writeOciArchive({
    architecture: debianArch[arch],
    config: containerConfig(await buildVersion()),
    layers: [
      { tar: writeTar(base, epochS), what: `glibc of ${libc.name} ${libc.version}` },
      { tar: writeTar(withFolders(top), epochS), what: "godwit" },
    ],
    reference: String(values["reference"] ?? REFERENCE),
    epochS,
  });
  writeFileSync(join(out, "godwit.oci.tar"), archive);
  const rows: SizeRow[] = [
    { what: "the binary", bytes: binary.length, isFile: false },
    { what: "glibc", bytes: libs.reduce((sum, { bytes }) => sum + bytes.length, 0), isFile: false },
    { what: "layer of glibc, compressed", bytes: layerBytes[0]!, isFile: false },
    { what: "layer of the binary, compressed", bytes: layerBytes[1]!, isFile: false },
    { what: "godwit.oci.tar", bytes: archive.length, isFile: true },
  ];
  if (values["rootfs"] !== true) return rows;
  const rootfs = writeTar(withFolders([...base, ...top]), epochS);
  writeFileSync(join(out, "rootfs.tar"), rootfs);
  return [...rows, { what: "rootfs.tar", bytes: rootfs.length, isFile: true }];
}

const utf8 = new TextEncoder();

function skeleton(): TarEntry[] {
  const file = (path: string, content: string): TarEntry => ({
    path,
    kind: "file",
    bytes: utf8.encode(content),
  });
  return [
    { path: "tmp", kind: "directory", mode: 0o1777 },
    // A new volume takes over the owner of the folder that it covers. Here: secrets that a first start makes, and sockets that
    // containers share (a tor beside the node).
    { path: "run/secrets", kind: "directory", owner: CONTAINER_USER },
    { path: "run/godwit", kind: "directory", mode: 0o700, owner: CONTAINER_USER },
    { path: CONTAINER_STATE.slice(1), kind: "directory", mode: 0o700, owner: CONTAINER_USER },
    file("etc/nsswitch.conf", "hosts: files dns\n"),
    file(
      "etc/passwd",
      `root:x:0:0:root:/:/nonexistent\ngodwit:x:${CONTAINER_USER}:${CONTAINER_USER}::${CONTAINER_STATE}:/nonexistent\n`,
    ),
    file("etc/group", `root:x:0:\ngodwit:x:${CONTAINER_USER}:\n`),
  ];
}
