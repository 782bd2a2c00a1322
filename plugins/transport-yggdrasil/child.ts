/**
 * A daemon of our own: its key and configuration in a folder of the plugin instance that nobody else may read, and its
 * life, which ends with the node's. Nothing secret is an argument.
 */
import { createPrivateKey, createPublicKey } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { PluginContext } from "@godwit/sdk";
import { Daemon, type DaemonState, readPrivate, writePrivate } from "@godwit/sdk/process";
import { ask } from "./admin.ts";
import type { YggdrasilConfig } from "./config.ts";

const SEED_BYTES = 32;
/** DER prefix of RFC 8410 before the 32 raw bytes. */
const ED25519_DER = Buffer.from("302e020100300506032b657004220420", "hex");
/** Of the kernel (sun_path), without the NUL. */
const SOCKET_PATH_MAX = 107;

export interface ChildPaths {
  readonly folder: string;
  readonly config: string;
  readonly key: string;
  readonly admin: string;
}

/** Throws where the folder is no place for a unix socket. */
export function pathsIn(folder: string): ChildPaths {
  const admin = join(folder, "admin.sock");
  if (Buffer.byteLength(admin) > SOCKET_PATH_MAX || !/^\/[^\s"'\\%?#]+$/.test(folder))
    throw new Error(
      `${folder} is no place for unix sockets: at most ${SOCKET_PATH_MAX - 11} bytes, no spaces, quotes, % ? or #; set node.state_dir`,
    );
  return { folder, admin, config: join(folder, "yggdrasil.conf"), key: join(folder, "yggdrasil.key") };
}

/** The configuration of 0.4 and 0.5; each leaves alone what is the other's. `seed` is the key's, 32 bytes. */
export function renderConfig(
  config: Pick<YggdrasilConfig, "listen" | "multicast" | "allowed_keys" | "interface" | "mtu">,
  paths: ChildPaths,
  seed: Uint8Array,
): string {
  const secret = createPrivateKey({
    key: Buffer.concat([ED25519_DER, seed]),
    format: "der",
    type: "pkcs8",
  });
  const publicKey = createPublicKey(secret).export({ format: "der", type: "spki" }).subarray(-SEED_BYTES);
  return JSON.stringify({
    PrivateKey: Buffer.concat([seed, publicKey]).toString("hex"),
    PublicKey: publicKey.toString("hex"),
    AdminListen: `unix://${paths.admin}`,
    Listen: config.listen,
    // Peers are told by the admin socket, like those of a daemon that is not ours.
    Peers: [],
    InterfacePeers: {},
    MulticastInterfaces: config.multicast.map((regex) => ({
      Regex: regex,
      Beacon: true,
      Listen: true,
      Port: 0,
      Priority: 0,
    })),
    AllowedPublicKeys: config.allowed_keys,
    IfName: config.interface,
    ...(config.mtu === undefined ? {} : { IfMTU: config.mtu }),
    // What a machine is, is nobody's business.
    NodeInfoPrivacy: true,
    NodeInfo: {},
  });
}

/** Keeps a daemon running until the signal aborts; never rejects. */
export function superviseYggdrasil(
  ctx: PluginContext,
  config: YggdrasilConfig,
  paths: ChildPaths,
  onState: (state: DaemonState) => void,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random, log } = ctx;
  const daemon = new Daemon(
    {
      name: "yggdrasil",
      command: [config.binary, "-useconffile", paths.config],
      folder: paths.folder,
      async prepare() {
        await rm(paths.admin, { force: true });
        await writePrivate(paths.config, renderConfig(config, paths, await seedOf(ctx, config, paths)));
      },
      isReady: async (over) =>
        (await ask({ unix: paths.admin }, "list", {}, { clock, signal: over })) !== undefined,
      complaint: complaintOf,
    },
    { clock, random, log, onState },
  );
  return daemon.run(signal);
}

/** A panic says why in its first line and then where, over pages. */
export function complaintOf(lines: readonly string[]): string | undefined {
  const line =
    lines.find((each) => /^panic:|^fatal error:/.test(each)) ?? lines.findLast((each) => each !== "");
  return line?.replace(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /, "").slice(0, 200);
}

/** The address must survive restarts: others know it. Rejects where the file is damaged or cannot be read, and keeps it. */
export async function seedOf(
  { random, deriveSeed }: Pick<PluginContext, "random" | "deriveSeed">,
  { key }: Pick<YggdrasilConfig, "key">,
  paths: Pick<ChildPaths, "key">,
): Promise<Uint8Array> {
  if (key === "derived") return await deriveSeed("yggdrasil key");
  const stored = await readPrivate(paths.key);
  if (stored !== undefined) {
    if (/^[0-9a-f]{64}$/.test(stored.trim())) return Buffer.from(stored.trim(), "hex");
    throw new Error(`${paths.key} is damaged: restore it, or remove it for a new address`);
  }
  const seed = random.bytes(SEED_BYTES);
  await writePrivate(paths.key, `${Buffer.from(seed).toString("hex")}\n`);
  return seed;
}
