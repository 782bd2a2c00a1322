/** The images that the compose files start, made of this clone and of Debian's packages, into an engine. No registry is asked. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import { root, run } from "../../scripts/lib.ts";
import { rootArchive } from "../systemd/machine.ts";
import type { Engine } from "./engine.ts";

export const IMAGE = "localhost/godwit:latest";
export const DEBIAN_IMAGE = "localhost/godwit:debian";
export const PROMETHEUS_IMAGE = "localhost/prometheus:debian";

/** `./scripts/image container` into a folder of the engine's. */
export async function makeImage(engine: Engine, name: string, ...more: string[]): Promise<void> {
  const made = await run(
    [process.execPath, "scripts/image.ts", "container", "--out", join(engine.dir, name), ...more],
    { env: { ...process.env, SOURCE_DATE_EPOCH: "1767225600" } },
  );
  if (made.code !== 0) throw new Error(`no image: ${made.output}`);
}

export async function loadImage(engine: Engine): Promise<void> {
  await makeImage(engine, "first", "--rootfs");
  await engine.must("load", "--input", join(engine.dir, "first", "godwit.oci.tar"));
}

/** By Containerfile.debian, of packages that are unpacked and not set up: enough for what runs here, and made in seconds. */
export async function buildDebian(engine: Engine): Promise<void> {
  const context = join(engine.dir, "debian");
  mkdirSync(join(context, "state"), { recursive: true });
  copyFileSync(binaryPath, join(context, "godwit"));
  const packages = "base-files,libc6,dash,coreutils,grep,tor,yggdrasil";
  copyFileSync(await rootArchive("extract", packages), join(context, "debian.tar"));
  await build(engine, join(root, "images/container/Containerfile.debian"), DEBIAN_IMAGE, context);
}

/** As the official image in what a compose file sees of it: the programs' places and who is started. */
export async function buildPrometheus(engine: Engine): Promise<void> {
  const context = join(engine.dir, "prometheus");
  const needed = await run(["ldd", "/usr/bin/prometheus", "/usr/bin/promtool"]);
  const libraries = [...new Set([...needed.output.matchAll(/(\/\S+\.so\S*)/g)].map(([, path]) => path!))];
  const files = { "/usr/bin/prometheus": "/bin/prometheus", "/usr/bin/promtool": "/bin/promtool" };
  for (const [from, to] of [...Object.entries(files), ...libraries.map((one) => [one, one] as const)]) {
    mkdirSync(dirname(join(context, "root", to)), { recursive: true });
    copyFileSync(from, join(context, "root", to));
  }
  const containerfile = join(context, "Containerfile");
  writeFileSync(
    containerfile,
    'FROM scratch\nCOPY root /\nUSER 65534:65534\nVOLUME /prometheus\nENTRYPOINT ["/bin/prometheus"]\n',
  );
  await build(engine, containerfile, PROMETHEUS_IMAGE, context);
}

async function build(engine: Engine, containerfile: string, tag: string, context: string): Promise<void> {
  await engine.must(
    ...["build", "--format", "docker", "--quiet", "--file", containerfile, "--tag", tag, context],
  );
}
