/** What an attack must not change: traffic that flows exactly once, memory, descriptors, health and the log. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { binaryPath, type Lab, type LabNode } from "../../scripts/lab.ts";
import { memoryOf } from "../bench/process.ts";

/** Senders side by side, by default; each waits for the answer of the API before its next message. */
const SENDERS = 4;
const PAUSE_MS = 4;
const DELIVERY_MS_MAX = 60_000;

export const logPath = (lab: Lab, callsign: string): string => join(lab.dir, `${callsign}.log`);

/** The whole log goes to a file: the lab itself keeps only the end of it. */
export const addNode = (
  lab: Lab,
  callsign: string,
  peers: readonly string[],
  more: { readonly extra?: string } = {},
): Promise<LabNode> =>
  lab.add({
    callsign,
    peers,
    ...more,
    command: ["/bin/sh", "-c", `exec "${binaryPath}" "$@" 2>"${logPath(lab, callsign)}"`, "godwit"],
  });

/** Messages from one node to another, all the time, each with a nonce as its subject. */
export class Traffic {
  readonly #from: LabNode;
  readonly #to: LabNode;
  readonly #accepted = new Set<string>();
  readonly #failures: string[] = [];
  readonly #loops: Promise<void>[];
  #next = 0;
  #isStopped = false;

  constructor(from: LabNode, to: LabNode, senders = SENDERS) {
    this.#from = from;
    this.#to = to;
    this.#loops = Array.from({ length: senders }, () => this.#loop());
  }

  async #loop(): Promise<void> {
    while (!this.#isStopped) {
      const subject = `nonce ${this.#next++}`;
      try {
        await this.#from.send({ to: this.#to.callsign, body: "x".repeat(200), subject });
        this.#accepted.add(subject);
      } catch (error) {
        this.#failures.push(String(error).slice(0, 200));
        if (this.#failures.length > 100) return;
      }
      await Bun.sleep(PAUSE_MS);
    }
  }

  /** Messages that arrived, in a second, over the next `ms`. */
  async rate(ms: number): Promise<number> {
    const startedMs = performance.now();
    const before = await this.#arrived();
    await Bun.sleep(ms);
    const after = await this.#arrived();
    return ((after - before) * 1_000) / (performance.now() - startedMs);
  }

  #arrived = () => metricOf(this.#to, "godwit_messages_delivered_total");

  /** Stops, and answers what is wrong: each accepted message must be in the inbox once. */
  async finish(): Promise<{ readonly accepted: number; readonly faults: readonly string[] }> {
    this.#isStopped = true;
    await Promise.all(this.#loops);
    const endMs = performance.now() + DELIVERY_MS_MAX;
    for (;;) {
      const faults = await this.#faults();
      if (faults.length === 0 || performance.now() > endMs)
        return { accepted: this.#accepted.size, faults: [...this.#failures, ...faults] };
      await Bun.sleep(500);
    }
  }

  async #faults(): Promise<string[]> {
    const inbox = await this.#to.box<{ subject: string | null; from_callsign: string | null }>("inbox");
    const copies = new Map<string, number>();
    for (const { subject, from_callsign: from } of inbox)
      if (subject !== null && from === this.#from.callsign)
        copies.set(subject, (copies.get(subject) ?? 0) + 1);
    return [...this.#accepted].flatMap((nonce) => {
      const times = copies.get(nonce) ?? 0;
      return times === 1 ? [] : [`${nonce} is there ${times} times`];
    });
  }
}

export async function metricOf(node: LabNode, name: string): Promise<number> {
  const text = await (await node.api("/metrics")).text();
  let sum = 0;
  for (const line of text.split("\n"))
    if (line.startsWith(`${name} `) || line.startsWith(`${name}{`))
      sum += Number(line.slice(line.lastIndexOf(" ") + 1));
  return sum;
}

/** Whom the node goes around now. */
export async function quarantinedBy(node: LabNode): Promise<string[]> {
  const { peers } = await node.json<{ peers: { id: string; quarantine: unknown }[] }>("/mesh/peers?all=true");
  return peers.filter(({ quarantine }) => quarantine !== null).map(({ id }) => id);
}

export interface Vitals {
  readonly rssMb: number;
  readonly descriptors: number;
}

export const vitalsOf = (node: LabNode): Vitals => ({
  rssMb: memoryOf(node.pid!).rssMb,
  descriptors: readdirSync(`/proc/${node.pid!}/fd`).length,
});

/** Lines that no hostile peer may cause. */
export function alarms(lab: Lab, node: LabNode): string[] {
  const lines = readFileSync(logPath(lab, node.callsign), "utf8").split("\n");
  return lines.filter((line) => line !== "" && (!line.startsWith("{") || line.includes('"level":"error"')));
}

export const logBytes = (lab: Lab, node: LabNode): number => readFileSync(logPath(lab, node.callsign)).length;
