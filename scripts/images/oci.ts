/**
 * OCI images as one archive (opencontainers/image-spec: image-layout, config, manifest), the same bytes for the same
 * layers. Pure but for the compression. What Docker adds to the configuration (Healthcheck) is written too: engines that
 * do not know it pass over it.
 */
import { createHash } from "node:crypto";
import { writeTar } from "./tar.ts";

export interface OciConfig {
  readonly User: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly WorkingDir: string;
  readonly ExposedPorts: Readonly<Record<string, object>>;
  readonly Volumes: Readonly<Record<string, object>>;
  readonly Labels: Readonly<Record<string, string>>;
  readonly StopSignal: string;
  readonly Healthcheck: {
    readonly Test: readonly string[];
    /** Nanoseconds, as Docker has it. */
    readonly Interval: number;
    readonly Timeout: number;
    readonly StartPeriod: number;
    readonly Retries: number;
  };
}

export interface OciImage {
  /** Go's names: amd64, arm64. */
  readonly architecture: string;
  readonly config: OciConfig;
  /** Tar archives, the lowest first; `what` is for people. */
  readonly layers: readonly { readonly tar: Uint8Array; readonly what: string }[];
  /** `localhost/godwit:latest`. */
  readonly reference: string;
  readonly epochS: number;
}

const COMPRESSION_LEVEL = 6;
const types = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar+gzip",
} as const;

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const jsonBytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** The archive, and the size of each compressed layer in the order of `layers`. */
export function writeOciArchive(image: OciImage): {
  archive: Uint8Array<ArrayBuffer>;
  layerBytes: readonly number[];
} {
  const created = new Date(image.epochS * 1000).toISOString();
  const blobs = new Map<string, Uint8Array>();
  const add = (mediaType: string, bytes: Uint8Array) => {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const layers = image.layers.map(({ tar }) =>
    add(types.layer, Bun.gzipSync(tar as Uint8Array<ArrayBuffer>, { level: COMPRESSION_LEVEL })),
  );
  const config = add(
    types.config,
    jsonBytes({
      created,
      architecture: image.architecture,
      os: "linux",
      config: image.config,
      rootfs: { type: "layers", diff_ids: image.layers.map(({ tar }) => digestOf(tar)) },
      history: image.layers.map(({ what }) => ({ created, created_by: what })),
    }),
  );
  const manifest = add(
    types.manifest,
    jsonBytes({ schemaVersion: 2, mediaType: types.manifest, config, layers }),
  );
  const index = {
    schemaVersion: 2,
    mediaType: types.index,
    manifests: [
      {
        ...manifest,
        platform: { architecture: image.architecture, os: "linux" },
        annotations: {
          // What podman and what containerd call it after loading.
          "org.opencontainers.image.ref.name": image.reference,
          "io.containerd.image.name": image.reference,
        },
      },
    ],
  };
  const sorted = [...blobs].sort(([a], [b]) => (a < b ? -1 : 1));
  const archive = writeTar(
    [
      { path: "blobs", kind: "directory" },
      { path: "blobs/sha256", kind: "directory" },
      ...sorted.map(([digest, bytes]) => ({
        path: `blobs/sha256/${digest.slice("sha256:".length)}`,
        kind: "file" as const,
        bytes,
      })),
      { path: "index.json", kind: "file", bytes: jsonBytes(index) },
      { path: "oci-layout", kind: "file", bytes: jsonBytes({ imageLayoutVersion: "1.0.0" }) },
    ],
    image.epochS,
  );
  return { archive, layerBytes: layers.map(({ size }) => size) };
}
