/**
 * Real nodes under load that start on something else than they left: an older copy of `state_dir`, a copy that runs
 * beside the original for a while, a flipped byte in the database, a wall clock that is years wrong. Draws all of it from
 * a seed; the ledger judges what could still be known. Which kinds happen is the caller's switch.
 */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { silentLog } from "../../runtime/kernel/log.ts";
import { seededRandom, type Random } from "../../runtime/kernel/random.ts";
import { openSqliteStore } from "../../runtime/store/sqlite.ts";
import type { LabNode } from "../../scripts/lab.ts";
import { Lineage, type Mark } from "../sim/lineage.ts";
import { Cluster } from "./cluster.ts";
import { Ledger, type Sent } from "./ledger.ts";
import { sizeOf } from "./plan.ts";

export const processKinds = ["old", "clones", "flips", "pages", "clocks"] as const;
export type ProcessKind = (typeof processKinds)[number];

export interface OldDisksPlan {
  readonly seed: number;
  readonly kinds: readonly ProcessKind[];
  /** Starts of this sort in all. */
  readonly restarts: number;
  readonly messagesPerSecond: number;
  readonly settleMs: number;
}

export interface OldDisksOutcome {
  readonly faults: readonly string[];
  readonly struck: Readonly<Record<string, number>>;
  readonly accepted: number;
  readonly ended: number;
  readonly receipts: number;
  readonly seconds: number;
}

const CALLSIGNS = ["DUN-A", "LON-B", "NYC-C", "PAR-D"] as const;
const LINKS = [
  ["DUN-A", "LON-B"],
  ["LON-B", "NYC-C"],
  ["NYC-C", "PAR-D"],
  ["PAR-D", "DUN-A"],
] as const;
/** Copies of one state that are kept. */
const COPIES_MAX = 4;
const SEND_TIMEOUT_MS = 5_000;
const OFFER_MS = 60_000;
const CLONE_MS = 6_000;
/** Of load between two faults. */
const PAUSE_MS = 1_200;
const SECTOR_BYTES = 512;
const FAKE_CLOCKS = ["+10y", "-10y", "+1d", "@1970-01-01 00:00:10"] as const;

const fakeTime = [
  "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
  "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
].find((path) => existsSync(path));

/** Why a kind cannot be had here; undefined where it can. */
export const whyNot = (kind: ProcessKind): string | undefined =>
  kind === "clocks" && fakeTime === undefined
    ? "needs libfaketime: scripts/test --peers installs it"
    : undefined;

/** Kinds from `OLD_DISKS_KINDS`, by comma, or those that hold; what the simulator alone has is left out. */
export function processKindsOf(environment: string | undefined): ProcessKind[] {
  const names = environment?.split(",") ?? [...processKinds];
  return processKinds.filter((kind) => names.includes(kind));
}

export async function runOldDisks(plan: OldDisksPlan): Promise<OldDisksOutcome> {
  const cluster = await Cluster.open({ callsigns: CALLSIGNS, links: LINKS });
  try {
    return await new OldDisksRun(plan, cluster).run();
  } finally {
    await cluster.close();
  }
}

interface StateCopy {
  readonly dir: string;
  readonly at: Mark;
}

class OldDisksRun {
  readonly #plan: OldDisksPlan;
  readonly #cluster: Cluster;
  readonly #ledger: Ledger;
  readonly #random: Random;
  readonly #copies = new Map<string, StateCopy[]>();
  readonly #problems: string[] = [];
  readonly #struck: Record<string, number> = {};
  #copyNumber = 0;
  #isOver = false;

  constructor(plan: OldDisksPlan, cluster: Cluster) {
    this.#plan = plan;
    this.#cluster = cluster;
    this.#ledger = new Ledger(cluster);
    this.#random = seededRandom(plan.seed);
  }

  async run(): Promise<OldDisksOutcome> {
    const startedMs = performance.now();
    const senders = this.#cluster.nodes.map((node) => this.#sendFrom(node).catch((e) => this.#problem(e)));
    try {
      for (let done = 0; done < this.#plan.restarts;) {
        await Bun.sleep(PAUSE_MS * 2 * this.#random.float());
        if (await this.#strike()) done++;
      }
    } catch (error) {
      this.#problem(error);
    }
    this.#isOver = true;
    await Promise.all(senders);
    let receipts = 0;
    try {
      await this.#settle();
      await this.#ledger.judge();
      if (this.#ledger.open.length > 0)
        for (const node of this.#cluster.nodes)
          console.log(node.callsign, JSON.stringify(await node.json("/health")));
      for (const node of this.#cluster.nodes) await node.kill("SIGTERM");
      receipts = this.#ledger.verifyReceipts();
    } catch (error) {
      this.#problem(error);
    }
    const faults = [...this.#problems, ...this.#ledger.faults];
    if (faults.length > 0)
      for (const node of this.#cluster.nodes) console.log(`--- ${node.callsign}\n${node.logTail}`);
    return {
      faults,
      struck: this.#struck,
      accepted: this.#ledger.accepted,
      ended: this.#ledger.ended,
      receipts,
      seconds: Math.round((performance.now() - startedMs) / 1000),
    };
  }

  async #settle(): Promise<void> {
    const untilMs = performance.now() + this.#plan.settleMs;
    while (performance.now() < untilMs) {
      await this.#readOutboxes();
      if (this.#ledger.open.length === 0) return;
      // One may have understood that there were two when the other had just gone.
      for (const node of this.#cluster.nodes) await this.#lookAgain(node);
      await Bun.sleep(500);
    }
  }

  /** Until the faults are over; what was not answered by then is offered to its end. */
  async #sendFrom(node: LabNode): Promise<void> {
    const random = seededRandom(this.#plan.seed * 31 + node.linkPort);
    const pauseMs = (1_000 * this.#cluster.nodes.length) / this.#plan.messagesPerSecond;
    const offers: Promise<void>[] = [];
    while (!this.#isOver) {
      await Bun.sleep(pauseMs * 2 * random.float());
      const others = CALLSIGNS.filter((name) => name !== node.callsign);
      const to = others[random.below(others.length)]!;
      const { sent, body } = this.#ledger.offer(node.callsign, to, sizeOf(random, 0.01));
      const address = random.float() < 0.5 ? this.#cluster.id(to) : to;
      const fields = { to: address, priority: random.below(4), idempotency_key: sent.nonce };
      offers.push(this.#offer(node, sent, body, fields).catch((error) => this.#problem(error)));
    }
    await Promise.all(offers);
  }

  async #offer(
    node: LabNode,
    sent: Sent,
    body: Uint8Array,
    fields: Readonly<Record<string, string | number>>,
  ): Promise<void> {
    const untilMs = performance.now() + OFFER_MS;
    let last: unknown;
    // A disk that was replaced took its keys along: whether the message was accepted will never be known.
    while (performance.now() < untilMs && this.#ledger.epochOf(node.callsign) === sent.fromEpoch) {
      try {
        const id = await node.sendBytes(body, fields, AbortSignal.timeout(SEND_TIMEOUT_MS));
        if (this.#ledger.epochOf(node.callsign) === sent.fromEpoch) this.#ledger.accept(sent, id);
        return;
      } catch (error) {
        last = error;
        await Bun.sleep(100);
      }
    }
    if (this.#ledger.epochOf(node.callsign) === sent.fromEpoch)
      throw new Error(`${node.callsign} never accepted a message: ${String(last)}`);
  }

  /** False: there was nothing to do it with yet. */
  async #strike(): Promise<boolean> {
    const random = this.#random;
    const { nodes } = this.#cluster;
    if (random.float() < 0.7) await this.#backUp(nodes[random.below(nodes.length)]!);
    const node = nodes[random.below(nodes.length)]!;
    const kind = this.#plan.kinds[random.below(this.#plan.kinds.length)]!;
    if (kind === "old" && !this.#copies.has(node.callsign)) return false;
    await this.#readOutboxes();
    this.#struck[kind] = (this.#struck[kind] ?? 0) + 1;
    switch (kind) {
      case "old":
        await this.#restore(node);
        break;
      case "clones":
        await this.#runBeside(node);
        break;
      case "flips":
        await this.#flip(node);
        break;
      case "pages":
        await this.#tear(node);
        break;
      case "clocks":
        await this.#restartAt(node, FAKE_CLOCKS[random.below(FAKE_CLOCKS.length)]!);
        break;
    }
    return true;
  }

  async #readOutboxes(): Promise<void> {
    for (const node of this.#cluster.nodes) await this.#ledger.readOutbox(node);
  }

  /** As a snapshot of the machine: the process stands still meanwhile. */
  async #copyState(node: LabNode): Promise<StateCopy> {
    const dir = join(this.#cluster.lab.dir, `copy-${this.#copyNumber++}`);
    await mkdir(dir, { mode: 0o700 });
    node.signal("SIGSTOP");
    try {
      await node.until(
        "it to stand still",
        async () => /^State:\s+T/m.test(await readFile(`/proc/${node.pid}/status`, "utf8")),
        5_000,
        1,
      );
      const at = this.#ledger.diskOf(node.callsign).mark();
      await copyFiles(node.stateDir, dir);
      return { dir, at };
    } finally {
      node.signal("SIGCONT");
    }
  }

  async #backUp(node: LabNode): Promise<void> {
    const copies = [...(this.#copies.get(node.callsign) ?? []), await this.#copyState(node)];
    for (const old of copies.splice(0, copies.length - COPIES_MAX)) await rm(old.dir, { recursive: true });
    this.#copies.set(node.callsign, copies);
  }

  async #end(node: LabNode): Promise<void> {
    await node.kill(this.#random.float() < 0.5 ? "SIGKILL" : "SIGTERM");
  }

  async #restore(node: LabNode): Promise<void> {
    const copies = this.#copies.get(node.callsign)!;
    const { dir, at } = copies[this.#random.below(copies.length)]!;
    await this.#end(node);
    this.#ledger.noteRestored(node.callsign, at);
    await node.destroyState();
    await copyFiles(dir, node.stateDir);
    // Half of them accept mail before they have heard anybody.
    if (this.#random.float() < 0.5) return node.start();
    await this.#alone(node, async () => {
      await node.start();
      await Bun.sleep(PAUSE_MS);
    });
  }

  /** With every cable of the node cut. */
  async #alone(node: LabNode, play: () => Promise<void>): Promise<void> {
    const wires = [...this.#cluster.wires].filter(([name]) => name.split(" ").includes(node.callsign));
    for (const [, wire] of wires) wire.cut();
    try {
      await play();
    } finally {
      for (const [, wire] of wires) wire.heal();
    }
  }

  /** The copy dials the same neighbours; what came to it is read when it has gone from them. */
  async #runBeside(node: LabNode): Promise<void> {
    const { dir, at } = await this.#copyState(node);
    const number = this.#copyNumber;
    const { callsign } = node;
    const peers = LINKS.filter(([a]) => a === callsign).map(([a, b]) => this.#cluster.wire(a, b).endpoint);
    const clone = await this.#cluster.lab.add({
      callsign,
      folder: `${callsign}-beside-${number}`,
      peers,
      advertise: [],
      network: "chaos",
      stateDir: dir,
    });
    const had = await inboxIdsIn(dir);
    const disk = new Lineage();
    disk.restore(at);
    const startedMs = Date.now();
    await clone.start();
    await Bun.sleep(CLONE_MS * (0.5 + this.#random.float()));
    await clone.kill("SIGKILL");
    this.#ledger.noteGone(disk, Date.now());
    this.#ledger.noteAlone(disk, startedMs, heardMs(clone, startedMs));
    this.#ledger.noteAlone(this.#ledger.diskOf(callsign), startedMs, heardMs(node, startedMs));
    // What comes while its inbox is read would be counted by nobody: it is read by a life without a link.
    await clone.configure([]);
    await clone.start();
    await this.#ledger.judgeInbox(clone, disk, had);
    await clone.kill("SIGKILL");
    await rm(dir, { recursive: true });
    await this.#lookAgain(node);
  }

  /** It would by itself after a quarter of an hour; at a restart it does at once. */
  async #lookAgain(node: LabNode): Promise<void> {
    if (!(await standsDown(node))) return;
    await node.kill("SIGTERM");
    await node.start();
  }

  /** One byte of one stored body. */
  async #flip(node: LabNode): Promise<void> {
    await node.kill("SIGTERM");
    const row = await flipBody(node.stateDir, this.#random);
    if (row !== undefined) this.#ledger.noteDamaged(node.callsign, [row]);
    await node.start();
  }

  /** One sector anywhere: what that costs nobody can say, but the node starts, and nothing comes twice or falsely. */
  async #tear(node: LabNode): Promise<void> {
    await node.kill("SIGKILL");
    const path = join(node.stateDir, "godwit.db");
    const file = await readFile(path);
    const at = this.#random.below(Math.ceil(file.length / SECTOR_BYTES)) * SECTOR_BYTES;
    file.set(this.#random.bytes(Math.min(SECTOR_BYTES, file.length - at)), at);
    await writeFile(path, file);
    this.#ledger.noteTorn(node.callsign);
    await node.start();
  }

  /** One life under another wall clock, with mail that waits for a way, then one under the right one. */
  async #restartAt(node: LabNode, clock: string): Promise<void> {
    await this.#alone(node, async () => {
      await Bun.sleep(PAUSE_MS);
      await this.#end(node);
      const env = { LD_PRELOAD: fakeTime!, FAKETIME: clock, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
      await node.reconfigure({ env });
      await node.start();
      await Bun.sleep(PAUSE_MS);
    });
    // Some of it leaves while the clock is wrong.
    await Bun.sleep(PAUSE_MS * this.#random.float());
    await this.#end(node);
    await node.reconfigure({ env: {} });
    await node.start();
  }

  #problem(error: unknown): void {
    this.#problems.push(error instanceof Error ? error.message : String(error));
  }
}

/** All but sockets. */
async function copyFiles(from: string, to: string): Promise<void> {
  for (const name of await readdir(from))
    if (!name.endsWith(".sock"))
      await cp(join(from, name), join(to, name), { recursive: true, preserveTimestamps: true });
}

/** Of a copy that no node has open; reads another one, so that not a byte of it changes. */
async function inboxIdsIn(stateDir: string): Promise<ReadonlySet<string>> {
  const dir = `${stateDir}-read`;
  await mkdir(dir, { mode: 0o700 });
  try {
    await copyFiles(stateDir, dir);
    const store = await openSqliteStore({ path: join(dir, "godwit.db"), log: silentLog });
    const rows = await store.load("inbox");
    await store.close();
    return new Set(rows.map(({ key }) => key));
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** Answers the row, as `<collection>/<key>`; undefined: nothing is stored. */
async function flipBody(stateDir: string, random: Random): Promise<string | undefined> {
  const path = join(stateDir, "godwit.db");
  const db = new Database(path);
  db.run("PRAGMA wal_checkpoint(TRUNCATE)");
  const rows = (["outbox", "inbox", "transit"] as const).flatMap((table) =>
    (
      db.query(`SELECT key, body FROM ${table} WHERE length(body) >= 64`).all() as {
        key: string;
        body: Uint8Array;
      }[]
    ).map(({ key, body }) => ({ name: `${table}/${key}`, body })),
  );
  db.close();
  const row = rows[random.below(Math.max(1, rows.length))];
  if (row === undefined) return undefined;
  const file = await readFile(path);
  const at = file.indexOf(row.body.subarray(0, 32));
  if (at < 0) return undefined;
  file[at + random.below(32)]! ^= 1 << random.below(8);
  await writeFile(path, file);
  return row.name;
}

async function standsDown(node: LabNode): Promise<boolean> {
  const { checks } = await node.json<{ checks: { reason: string }[] }>("/health");
  return checks.some(({ reason }) => reason.includes("this one stands down"));
}

/** When the machine first said that it heard words of its own that it had not said, epoch ms; now where it never did. */
function heardMs(node: LabNode, sinceMs: number): number {
  for (const line of node.logLines) {
    if (!/"event":"(?:another machine runs|own sequence number was behind)/.test(line)) continue;
    const atMs = Date.parse((JSON.parse(line) as { time: string }).time);
    if (atMs >= sinceMs) return atMs;
  }
  return Date.now();
}
