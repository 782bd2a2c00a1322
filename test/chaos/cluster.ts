/**
 * A small mesh of real processes whose every link runs over a `Wire`. Owns nodes, wires and disks and gives all of them
 * back at the end, whatever happened. Nodes advertise nothing, so that no link ever bypasses its wire.
 */
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode, type LabNodeOptions } from "../../scripts/lab.ts";
import { TmpDisk } from "./tmp-disk.ts";
import { Wire } from "./wire.ts";

export interface Receipt {
  readonly by: string;
  readonly at: string;
  readonly signature: string;
  readonly unconfirmed: boolean;
}

/** A message as the API shows it. */
export interface Message {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly size: number;
  readonly state: string;
  readonly reason: string | null;
  readonly receipt: Receipt | null;
  readonly trace: readonly { readonly node: string; readonly at: string }[];
}

export interface ClusterOptions {
  readonly callsigns: readonly string[];
  /** Pairs of callsigns; the first dials the second. */
  readonly links: readonly (readonly [string, string])[];
  /** This node gets a disk of its own, of so many MiB. */
  readonly disk?: { readonly callsign: string; readonly megabytes: number };
  /** Further configuration by callsign; `*` for all. */
  readonly config?: Readonly<Record<string, Pick<LabNodeOptions, "extra" | "nodeExtra" | "network">>>;
}

/** Meshes that are up: a test that runs out of time never comes to its own end. */
const open = new Set<Cluster>();

/** For `afterAll`: what tests left behind. */
export async function closeClusters(): Promise<void> {
  await Promise.all([...open].map((cluster) => cluster.close()));
}

export class Cluster {
  readonly lab: Lab;
  readonly #nodes = new Map<string, LabNode>();
  readonly #ids = new Map<string, string>();
  /** By id; one that became a stranger has two. */
  readonly #callsigns = new Map<string, string>();
  /** By `FIRST SECOND`, as in the options. */
  readonly wires = new Map<string, Wire>();
  disk: TmpDisk | undefined;

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  /** Starts everything and waits until every node has a route to every other, unless `isLazy`. */
  static async open(options: ClusterOptions, isLazy = false): Promise<Cluster> {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    const cluster = new Cluster(await Lab.create());
    open.add(cluster);
    try {
      await cluster.#add(options);
      if (!isLazy) await cluster.startAll();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  async startAll(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.start()));
    for (const node of this.nodes) await this.learnId(node.callsign);
    await Promise.all(this.nodes.map((node) => this.#untilRoutes(node)));
  }

  get nodes(): LabNode[] {
    return [...this.#nodes.values()];
  }

  node(callsign: string): LabNode {
    const node = this.#nodes.get(callsign);
    if (node === undefined) throw new Error(`no node ${callsign}`);
    return node;
  }

  /** The node's id as it was when it was last asked. */
  id(callsign: string): string {
    return this.#ids.get(callsign) ?? callsign;
  }

  callsignOf(id: string): string {
    return this.#callsigns.get(id) ?? id;
  }

  async learnId(callsign: string): Promise<string> {
    const { node } = await this.node(callsign).json<{ node: { id: string } }>("/mesh/status");
    this.#ids.set(callsign, node.id);
    this.#callsigns.set(node.id, callsign);
    return node.id;
  }

  wire(a: string, b: string): Wire {
    const wire = this.wires.get(`${a} ${b}`) ?? this.wires.get(`${b} ${a}`);
    if (wire === undefined) throw new Error(`no link between ${a} and ${b}`);
    return wire;
  }

  areLinked(a: string, b: string): boolean {
    return this.wires.has(`${a} ${b}`) || this.wires.has(`${b} ${a}`);
  }

  /** The trace of a message in callsigns. */
  way(message: Message): string {
    return message.trace.map(({ node }) => this.callsignOf(node)).join(" > ");
  }

  /** Waits for a message of the outbox to end. */
  async outcome(from: string, id: string, timeoutMs = 30_000): Promise<Message> {
    let message: Message | undefined;
    const node = this.node(from);
    try {
      await node.until(
        `an end of message ${id}`,
        async () => {
          message = await node.json<Message>(`/messages/${id}`);
          return !["queued", "relayed"].includes(message.state);
        },
        timeoutMs,
      );
    } catch (error) {
      const where = message === undefined ? "" : `${message.state}: ${message.reason}`;
      throw new Error(`${where} ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
    return message!;
  }

  /** Idempotent. */
  async close(): Promise<void> {
    open.delete(this);
    await this.lab.close();
    await Promise.all([...this.wires.values()].map((wire) => wire.close()));
    await this.disk?.unmount();
  }

  async #add({ callsigns, links, disk, config }: ClusterOptions): Promise<void> {
    if (disk !== undefined) this.disk = await TmpDisk.mount(disk.megabytes);
    for (const [a, b] of links) this.wires.set(`${a} ${b}`, await Wire.open(() => this.node(b).linkPort));
    for (const callsign of callsigns) {
      const peers = links.filter(([a]) => a === callsign).map(([a, b]) => this.wire(a, b).endpoint);
      const node = await this.lab.add({
        callsign,
        peers,
        advertise: [],
        network: "chaos",
        ...config?.["*"],
        ...config?.[callsign],
        ...(disk?.callsign === callsign ? { stateDir: this.disk!.stateDir } : {}),
      });
      this.#nodes.set(callsign, node);
    }
  }

  #untilRoutes(node: LabNode): Promise<void> {
    const others = [...this.#ids.values()].filter((id) => id !== this.id(node.callsign));
    return node.until(
      "routes to all others",
      async () => {
        const { routes } = await node.json<{ routes: { destination: string }[] }>("/mesh/routes");
        const names = await node.json<{ names: { node: string }[] }>("/mesh/names");
        return others.every(
          (id) =>
            routes.some(({ destination }) => destination === id) &&
            names.names.some((name) => name.node === id),
        );
      },
      20_000,
    );
  }
}
