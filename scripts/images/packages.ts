/**
 * Debian packages of any architecture, without root and without touching the system: apt runs on a state of its own under
 * .cache/image, with the sources and keys that the machine is set to. Packages are kept by version and checked by their
 * SHA-256, so that the network is needed once.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { run } from "../lib.ts";
import type { Steps } from "../steps.ts";
import { debianArch, type ImageArch, imageCache } from "./target.ts";

/** Lists of packages older than this are fetched again. */
const LISTS_AGE_MAX_MS = 24 * 3_600_000;
const APT_TIMEOUT_MS = 5 * 60_000;

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  /** Folder with its contents. */
  readonly folder: string;
}

interface Fields {
  readonly [field: string]: string;
}

export class PackageRoot {
  readonly #arch: string;
  readonly #folder: string;
  readonly #steps: Steps;
  #isFresh = false;

  constructor(arch: ImageArch, steps: Steps) {
    this.#arch = debianArch[arch];
    this.#folder = join(imageCache, "apt", this.#arch);
    this.#steps = steps;
    for (const part of ["lists/partial", "cache/archives/partial"])
      mkdirSync(join(this.#folder, part), { recursive: true });
    for (const part of ["debs", "unpacked"]) mkdirSync(join(imageCache, part), { recursive: true });
  }

  /** The newest version that the sources have, downloaded and unpacked. */
  async get(name: string): Promise<DebianPackage> {
    const fields = await this.#show(name);
    const { Version: version = "", SHA256: sha256 = "", Filename: path = "" } = fields;
    // Names of files in an archive carry no epoch; ours is unique by its hash anyway.
    const file = `${basename(path, ".deb")}-${sha256.slice(0, 8)}`;
    const deb = join(imageCache, "debs", `${file}.deb`);
    if (!existsSync(deb)) await this.#download(name, fields, deb);
    const folder = join(imageCache, "unpacked", file);
    if (!existsSync(folder)) await unpack(deb, folder);
    return { name, version, sha256, folder };
  }

  /** Names of what a package depends on; of alternatives the first. */
  async dependencies(name: string): Promise<readonly string[]> {
    const { Depends: depends = "", "Pre-Depends": before = "" } = await this.#show(name);
    return `${before},${depends}`.split(",").flatMap((one) => one.trim().split(/[ (|:]/)[0] || []);
  }

  /** Of a package that only points to others: the first that it depends on with that beginning. */
  async dependency(name: string, beginning: string): Promise<string> {
    const found = (await this.dependencies(name)).find((one) => one.startsWith(beginning));
    if (found === undefined) throw new Error(`package ${name} depends on no ${beginning}...`);
    return found;
  }

  async #show(name: string): Promise<Fields> {
    await this.#refresh();
    const shown = await this.#apt("apt-cache", ["show", "--no-all-versions", name]);
    const fields: Record<string, string> = {};
    for (const line of shown.output.split("\n")) {
      const match = /^([A-Za-z0-9-]+): (.*)$/.exec(line);
      if (match !== null) fields[match[1]!] ??= match[2]!;
    }
    if (shown.code !== 0 || fields["SHA256"] === undefined)
      throw new Error(
        `apt knows no package ${name} for ${this.#arch}; its sources must have it\n${shown.output.trim()}`,
      );
    return fields;
  }

  /** A machine without network goes on with the lists it has. */
  async #refresh(): Promise<void> {
    if (this.#isFresh) return;
    this.#isFresh = true;
    const stamp = join(this.#folder, "updated");
    if (existsSync(stamp) && Date.now() - statSync(stamp).mtimeMs < LISTS_AGE_MAX_MS) return;
    this.#steps.begin(`reading package lists for ${this.#arch}`);
    const updated = await this.#apt("apt-get", ["update"]);
    if (updated.code === 0) writeFileSync(stamp, "");
    else
      this.#steps.note(
        `the package lists could not be read anew: ${updated.output.trim().split("\n").at(-1)}`,
      );
  }

  async #download(name: string, fields: Fields, deb: string): Promise<void> {
    const { Version: version = "", SHA256: sha256 = "", Size: bytes = "0" } = fields;
    const size = `${(Number(bytes) / 2 ** 20).toFixed(1)} MiB`;
    this.#steps.begin(`downloading ${name} ${version} for ${this.#arch}, ${size}`);
    const staging = `${deb}.${process.pid}`;
    mkdirSync(staging);
    try {
      const result = await this.#apt("apt-get", ["download", `${name}=${version}`], staging);
      const [file] = [...new Bun.Glob("*.deb").scanSync({ cwd: staging })];
      if (result.code !== 0 || file === undefined)
        throw new Error(`apt-get could not download ${name} ${version}\n${result.output.trim()}`);
      const is = createHash("sha256")
        .update(readFileSync(join(staging, file)))
        .digest("hex");
      if (is !== sha256) throw new Error(`${name} ${version} has SHA-256 ${is}, the list says ${sha256}`);
      renameSync(join(staging, file), deb);
    } finally {
      rmSync(staging, { recursive: true, force: true });
    }
  }

  #apt(program: string, args: readonly string[], cwd?: string) {
    const settings = {
      "Dir::State": this.#folder,
      "Dir::State::lists": join(this.#folder, "lists"),
      "Dir::State::status": "/dev/null",
      "Dir::Cache": join(this.#folder, "cache"),
      "APT::Architecture": this.#arch,
      "APT::Architectures::": this.#arch,
      // Without root there is no other user to become, and with root the folder is not that user's.
      "APT::Sandbox::User": "root",
    };
    return run(
      [
        program,
        "-q",
        ...Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]),
        ...args,
      ],
      {
        timeoutMs: APT_TIMEOUT_MS,
        env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
        ...(cwd === undefined ? {} : { cwd }),
      },
    );
  }
}

/** Unpacked beside and moved: a broken attempt leaves nothing. */
async function unpack(deb: string, folder: string): Promise<void> {
  const staging = `${folder}.${process.pid}`;
  rmSync(staging, { recursive: true, force: true });
  const result = await run(["dpkg-deb", "--extract", deb, staging]);
  if (result.code !== 0) throw new Error(`dpkg-deb could not unpack ${deb}\n${result.output.trim()}`);
  renameSync(staging, folder);
}
