/**
 * A Tor network of its own in one network namespace: four authorities, which are its relays too, and whatever clients a test
 * wants. Four relays are the fewest with which an onion address was ever reached. Keys of the authorities take seconds of
 * CPU, so they lie in .cache/ for the next run. Owns its processes and folder.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { root } from "../../scripts/lib.ts";
import { whyNoNetLab } from "../../scripts/netlab.ts";
import { command, type NetHost } from "../../scripts/netlab-parts.ts";

const AUTHORITIES = 4;
/** Of the certificates; they are made for 12 months. */
const CACHE_DAYS_MAX = 300;
const LOG_CHARS_MAX = 200_000;

/** Why there can be none here; undefined where there can. */
export function whyNoTorNet(): string | undefined {
  for (const program of ["tor", "tor-gencert"])
    if (Bun.which(program) === null) return `${program} is not installed (tor)`;
  return whyNoNetLab();
}

/** Before a command, so that it runs in the host's network. */
export type TorHost = Pick<NetHost, "prefix">;

interface Authority {
  readonly name: string;
  readonly orPort: number;
  readonly dirPort: number;
  readonly keys: string;
  readonly v3ident: string;
  readonly fingerprint: string;
}

/** One tor process; `start` after `stop` is a restart with the same state. */
export class TorProcess {
  readonly folder: string;
  readonly #host: TorHost;
  #process: Subprocess<"ignore", "pipe", "inherit"> | undefined;
  log = "";

  constructor(host: TorHost, folder: string, lines: readonly string[]) {
    this.#host = host;
    this.folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(join(folder, "torrc"), `${lines.join("\n")}\n`);
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  start(): void {
    const child = Bun.spawn(
      [...this.#host.prefix, "tor", "--defaults-torrc", "/dev/null", "-f", join(this.folder, "torrc")],
      {
        env: { PATH: process.env["PATH"] ?? "", HOME: this.folder },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "inherit",
      },
    );
    this.#process = child;
    void (async () => {
      for await (const chunk of child.stdout)
        this.log = (this.log + Buffer.from(chunk).toString()).slice(-LOG_CHARS_MAX);
    })();
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#process?.exitCode === null && this.#process.signalCode === null) this.#process.kill(signal);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.signal(signal);
    await this.#process?.exited;
    this.#process = undefined;
  }
}

export class TorNet<Host extends TorHost = NetHost> {
  readonly folder: string;
  readonly host: Host;
  readonly #address: string;
  readonly #processes: TorProcess[] = [];
  readonly #directory: readonly string[];
  readonly #authorities: readonly Authority[];
  readonly #onExit = () => this.#abandon();

  /** `address`: where the authorities are, for clients that are somewhere else; the host has it. */
  constructor(host: Host, address = "127.0.0.1") {
    this.host = host;
    this.#address = address;
    this.folder = mkdtempSync(join(tmpdir(), "godwit-tor-"));
    process.once("exit", this.#onExit);
    this.#authorities = authorities();
    this.#directory = [
      "TestingTorNetwork 1",
      ...this.#authorities.map(
        ({ name, orPort, dirPort, v3ident, fingerprint }) =>
          `DirAuthority ${name} orport=${orPort} no-v2 v3ident=${v3ident} ${address}:${dirPort} ${fingerprint}`,
      ),
    ];
  }

  /** Lines that make any tor a client of this network. */
  get clientLines(): readonly string[] {
    return [...this.#directory, "ShutdownWaitLength 0", "ClientOnly 1"];
  }

  /** Starts the authorities; `ready` waits for what they agree on. */
  start(): void {
    for (const authority of this.#authorities) {
      const data = join(this.folder, authority.name);
      mkdirSync(data, { mode: 0o700 });
      cpSync(authority.keys, join(data, "keys"), { recursive: true });
      this.#add(join(data), [
        `DataDirectory ${data}`,
        `Nickname ${authority.name}`,
        `ORPort ${this.#address}:${authority.orPort}`,
        `DirPort ${this.#address}:${authority.dirPort}`,
        ...[`Address ${this.#address}`, "SocksPort 0", "ContactInfo lab", "AssumeReachable 1"],
        // Exits to anywhere: this namespace has no way out. A narrower policy reads "rejects everything" in its summary.
        ...["ExitRelay 1", "ExitPolicyRejectPrivate 0", "ExitPolicy accept *:*"],
        ...["AuthoritativeDirectory 1", "V3AuthoritativeDirectory 1"],
        ...["TestingDirAuthVoteExit *", "TestingDirAuthVoteHSDir *", "TestingDirAuthVoteGuard *"],
        ...["TestingMinExitFlagThreshold 0", "MinUptimeHidServDirectoryV2 0"],
        "TestingV3AuthInitialVotingInterval 10",
        ...["TestingV3AuthInitialVoteDelay 2", "TestingV3AuthInitialDistDelay 2"],
        ...["V3AuthVotingInterval 10", "V3AuthVoteDelay 2", "V3AuthDistDelay 2"],
        ...["ShutdownWaitLength 0", "Log notice stdout", ...this.#directory],
      ]).start();
    }
  }

  /**
   * Waits for a consensus that knows every relay, some 10 to 20 s. A client that asks earlier is told no, and then asks again
   * after pauses that grow: once in some runs it took minutes.
   */
  async ready(timeoutMs = 90_000): Promise<void> {
    const isKnown = ({ name }: Authority): boolean => {
      try {
        const consensus = readFileSync(join(this.folder, name, "cached-microdesc-consensus"), "utf8");
        return consensus.match(/^s .*\bRunning\b/gm)?.length === AUTHORITIES;
      } catch {
        return false;
      }
    };
    const endMs = performance.now() + timeoutMs;
    while (!this.#authorities.every(isKnown)) {
      if (performance.now() > endMs) throw new Error("the private Tor network agrees on no consensus");
      await Bun.sleep(100);
    }
  }

  /** A daemon for nodes; the caller starts it. Control also by `control.sock` in its folder; `socks` may be `unix:/path`. */
  client(
    name: string,
    {
      socks,
      control,
      password,
    }: { readonly socks: number | string; readonly control: number; readonly password?: string },
  ): TorProcess {
    const data = join(this.folder, name);
    return this.#add(data, [
      `DataDirectory ${data}`,
      `SocksPort ${typeof socks === "number" ? `127.0.0.1:${socks}` : socks}`,
      `ControlPort 127.0.0.1:${control}`,
      `ControlSocket ${join(data, "control.sock")}`,
      "CookieAuthentication 1",
      ...(password === undefined ? [] : [`HashedControlPassword ${hashPassword(password)}`]),
      "Log notice stdout",
      ...this.clientLines,
    ]);
  }

  /** A relay that is in no directory; the caller starts it. Its line for `bridges` can be read once it runs. */
  bridge(name: string, orPort: number): { readonly process: TorProcess; line(): string } {
    const data = join(this.folder, name);
    const process = this.#add(data, [
      `DataDirectory ${data}`,
      `Nickname ${name}`,
      `ORPort 127.0.0.1:${orPort}`,
      ...["Address 127.0.0.1", "SocksPort 0", "ExitRelay 0", "ContactInfo lab", "AssumeReachable 1"],
      ...["BridgeRelay 1", "PublishServerDescriptor 0", "ShutdownWaitLength 0", "Log notice stdout"],
      ...this.#directory,
    ]);
    const line = () => {
      const [, ...words] = readFileSync(join(data, "fingerprint"), "utf8").trim().split(" ");
      return `127.0.0.1:${orPort} ${words.join("")}`;
    };
    return { process, line };
  }

  async close(): Promise<void> {
    process.off("exit", this.#onExit);
    await Promise.all(this.#processes.map((one) => one.stop("SIGKILL")));
    rmSync(this.folder, { recursive: true, force: true });
  }

  #add(folder: string, lines: readonly string[]): TorProcess {
    const made = new TorProcess(this.host, folder, lines);
    this.#processes.push(made);
    return made;
  }

  #abandon(): void {
    for (const one of this.#processes) one.signal("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function hashPassword(password: string): string {
  const made = Bun.spawnSync(["tor", "--quiet", "--hash-password", password]);
  return made.stdout.toString().trim();
}

/** From the cache, made where missing or old. */
function authorities(): Authority[] {
  const cache = join(root, ".cache", "tor-net");
  const stamp = join(cache, "made");
  const madeMs = existsSync(stamp) ? Number(readFileSync(stamp, "utf8")) : 0;
  if (Date.now() - madeMs > CACHE_DAYS_MAX * 86_400_000) {
    // Made beside and moved at the end: an interrupted run must not leave half of it.
    const fresh = `${cache}.${process.pid}`;
    rmSync(fresh, { recursive: true, force: true });
    for (let n = 0; n < AUTHORITIES; n++) makeKeys(fresh, n);
    writeFileSync(join(fresh, "made"), String(Date.now()));
    rmSync(cache, { recursive: true, force: true });
    renameSync(fresh, cache);
  }
  return Array.from({ length: AUTHORITIES }, (_, n): Authority => {
    const folder = join(cache, nameOf(n));
    const certificate = readFileSync(join(folder, "keys", "authority_certificate"), "utf8");
    return {
      ...portsOf(n),
      name: nameOf(n),
      keys: join(folder, "keys"),
      v3ident: /^fingerprint ([0-9A-F]{40})$/m.exec(certificate)![1]!,
      fingerprint: readFileSync(join(folder, "fingerprint"), "utf8").trim().split(" ").slice(1).join(""),
    };
  });
}

const nameOf = (n: number): string => `auth${n}`;
const portsOf = (n: number) => ({ orPort: 5_000 + n, dirPort: 7_000 + n });

function makeKeys(cache: string, n: number): void {
  const folder = join(cache, nameOf(n));
  const keys = join(folder, "keys");
  mkdirSync(keys, { recursive: true, mode: 0o700 });
  const { orPort, dirPort } = portsOf(n);
  const made = Bun.spawnSync(
    [
      "tor-gencert",
      "--create-identity-key",
      "-m",
      "12",
      "-a",
      `127.0.0.1:${dirPort}`,
      "--passphrase-fd",
      "0",
    ],
    { cwd: keys, stdin: Buffer.from("lab\n"), stdout: "pipe", stderr: "pipe" },
  );
  if (made.exitCode !== 0) throw new Error(`tor-gencert: ${made.stderr.toString()}`);
  const torrc = join(folder, "torrc");
  writeFileSync(
    torrc,
    `DataDirectory ${folder}\nNickname ${nameOf(n)}\nORPort 127.0.0.1:${orPort}\nSocksPort 0\nAddress 127.0.0.1\nAssumeReachable 1\nTestingTorNetwork 1\nDirAuthority x orport=1 v3ident=${"0".repeat(40)} 127.0.0.1:1 ${"0".repeat(40)}\n`,
  );
  command(["tor", "--defaults-torrc", "/dev/null", "--quiet", "-f", torrc, "--list-fingerprint"]);
}
