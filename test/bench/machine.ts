/**
 * What this machine does, said before any figure of it: rates of one machine do not carry over to another, but a figure over one of
 * these may. Medians of short rounds in this process, with whatever else runs now. Some two seconds.
 */
import {
  createCipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
} from "node:crypto";
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatNumber, quantile } from "./bench.ts";

const ROUNDS = 9;
const ROUND_MS = 40;
const SEALED_BYTES = 16 * 1_024;
const COMMITS = 100;
const COMMIT_BYTES = 4_096;
const STARTS = 15;
const WORKERS = 9;

export interface Machine {
  /** Agreements of X25519, and signatures of Ed25519 checked, in a second of processor time. */
  readonly x25519: number;
  readonly ed25519: number;
  /** What seals links and messages: MB in a second of processor time, in pieces of 16 KiB. */
  readonly aesGcm: number;
  /** 4 KiB that are on the disk of the nodes' folders when fdatasync returns, a second. */
  readonly commits: number;
  /** An empty program, compiled as Godwit is: from exec to its end, and processor time of all its threads, ms. */
  readonly startMs: number;
  readonly startCpuMs: number;
  /** A worker that does nothing: until it has said so, ms, and processor time of this process for it. */
  readonly workerMs: number;
  readonly workerCpuMs: number;
}

export async function measureMachine(): Promise<Machine> {
  const folder = mkdtempSync(join(tmpdir(), "godwit-machine-"));
  try {
    return {
      ...keys(),
      aesGcm: sealing(),
      commits: commits(folder),
      ...(await starts(folder)),
      ...(await workers(folder)),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One line. */
export function formatMachine(machine: Machine): string {
  const of = (key: keyof Machine) => formatNumber(machine[key]);
  return (
    `a second of a processor: X25519 ${of("x25519")}, Ed25519 checks ${of("ed25519")}, AES-256-GCM ${of("aesGcm")} MB; ` +
    `commits of 4 KiB ${of("commits")}/s, ` +
    `an empty compiled Bun ${of("startMs")} ms and ${of("startCpuMs")} ms of processor time, ` +
    `an empty worker ${of("workerMs")} and ${of("workerCpuMs")} ms`
  );
}

/** How often a second of processor time, of the middle round: who else wants the processor does not matter. */
function perSecond(what: () => unknown): number {
  const rates = Array.from({ length: ROUNDS }, () => {
    const endMs = performance.now() + ROUND_MS;
    const before = process.cpuUsage();
    let count = 0;
    for (; performance.now() < endMs; count++) what();
    const { user, system } = process.cpuUsage(before);
    return (count * 1e6) / (user + system);
  });
  return quantile(rates, 0.5);
}

function keys(): Pick<Machine, "x25519" | "ed25519"> {
  const [near, far] = [generateKeyPairSync("x25519"), generateKeyPairSync("x25519")];
  const signer = generateKeyPairSync("ed25519");
  const text = randomBytes(100);
  const signature = sign(null, text, signer.privateKey);
  const publicKey = createPublicKey(signer.privateKey);
  return {
    x25519: perSecond(() => diffieHellman({ privateKey: near.privateKey, publicKey: far.publicKey })),
    ed25519: perSecond(() => verify(null, text, publicKey, signature)),
  };
}

function sealing(): number {
  const [key, nonce, plain] = [randomBytes(32), randomBytes(12), randomBytes(SEALED_BYTES)];
  const rate = perSecond(() => {
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    cipher.update(plain);
    cipher.final();
    cipher.getAuthTag();
  });
  return (rate * SEALED_BYTES) / 1e6;
}

/** As the store's log does: over what is there already, one after the other. */
function commits(folder: string): number {
  const path = join(folder, "commits");
  const bytes = new Uint8Array(COMMIT_BYTES).fill(7);
  writeFileSync(path, new Uint8Array(COMMITS * COMMIT_BYTES));
  const file = openSync(path, "r+");
  try {
    fdatasyncSync(file);
    const times = Array.from({ length: COMMITS }, (_, i) => {
      const startMs = performance.now();
      writeSync(file, bytes, 0, COMMIT_BYTES, i * COMMIT_BYTES);
      fdatasyncSync(file);
      return performance.now() - startMs;
    });
    return 1_000 / quantile(times, 0.5);
  } finally {
    closeSync(file);
  }
}

async function starts(folder: string): Promise<Pick<Machine, "startMs" | "startCpuMs">> {
  const empty = compileEmpty(folder);
  const all: EmptyStart[] = [];
  for (let i = 0; i < STARTS; i++) all.push(await startEmpty(empty));
  return {
    startMs: quantile(
      all.map(({ ms }) => ms),
      0.5,
    ),
    startCpuMs: quantile(
      all.map(({ cpuMs }) => cpuMs),
      0.5,
    ),
  };
}

export interface EmptyStart {
  readonly ms: number;
  readonly cpuMs: number;
}

/** An empty program, compiled as Godwit is; its path in `folder`. */
export function compileEmpty(folder: string): string {
  const [source, binary] = [join(folder, "empty.ts"), join(folder, "empty")];
  writeFileSync(source, "");
  const built = Bun.spawnSync(
    [process.execPath, "build", "--compile", "--minify", "--bytecode", "--format=esm"].concat([
      `--outfile=${binary}`,
      source,
    ]),
    { cwd: folder, stdout: "ignore", stderr: "pipe" },
  );
  if (!built.success) throw new Error(`no empty program: ${built.stderr.toString()}`);
  return binary;
}

/** From exec to its end, and processor time of all its threads. */
export async function startEmpty(binary: string): Promise<EmptyStart> {
  const startMs = performance.now();
  const child = Bun.spawn([binary], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  await child.exited;
  const ms = performance.now() - startMs;
  return { ms, cpuMs: Number(child.resourceUsage()?.cpuTime.total ?? Number.NaN) / 1_000 };
}

async function workers(folder: string): Promise<Pick<Machine, "workerMs" | "workerCpuMs">> {
  const source = join(folder, "worker.ts");
  writeFileSync(source, 'postMessage("up");');
  const times: number[] = [];
  const cpus: number[] = [];
  for (let i = 0; i < WORKERS; i++) {
    const cpuBefore = process.cpuUsage();
    const startMs = performance.now();
    const worker = new Worker(source);
    await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
    times.push(performance.now() - startMs);
    const { user, system } = process.cpuUsage(cpuBefore);
    cpus.push((user + system) / 1_000);
    worker.terminate();
  }
  return { workerMs: quantile(times, 0.5), workerCpuMs: quantile(cpus, 0.5) };
}
