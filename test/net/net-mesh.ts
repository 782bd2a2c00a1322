/**
 * Real nodes in network namespaces, and the questions that every case of this suite asks of them: did each message arrive
 * once, and how long did it take. Owns lab and nodes; gives them back at the end, whatever happened.
 */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, LabNode } from "../../scripts/lab.ts";
import { NetLab, whyNoNetLab } from "../../scripts/netlab.ts";
import type { NetHost } from "../../scripts/netlab-parts.ts";
import type { Message } from "../chaos/cluster.ts";

const CASE_TIMEOUT_MS = 120_000;
const why = whyNoNetLab();
const open = new Set<NetMesh>();

/** For `afterAll`: what tests that ran out of time left behind. */
export async function closeMeshes(): Promise<void> {
  await Promise.all([...open].map((mesh) => mesh.close()));
}

/** One case with a lab of its own. */
export function scenario(
  name: string,
  run: (mesh: NetMesh) => Promise<void>,
  timeoutMs = CASE_TIMEOUT_MS,
): void {
  test.skipIf(why !== undefined)(
    why === undefined ? name : `${name} [skipped: ${why}]`,
    async () => {
      if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
      await using mesh = await NetMesh.open();
      await run(mesh);
    },
    timeoutMs,
  );
}

/** Prints a figure of the suite (docs/benchmarks.md, "Real networks"). */
export function report(what: string, figure: string): void {
  console.log(`  ${what}: ${figure}`);
}

interface StartOptions {
  readonly isPublic?: boolean;
  /** Default: every IPv4 address. */
  readonly listen?: readonly string[];
  /** More lines of the `[node]` table. */
  readonly nodeExtra?: string;
  /** More tables. */
  readonly extra?: string;
  /** Links that it seeks of its own accord; default 0. */
  readonly linksWanted?: number;
  /** More addresses of its API. */
  readonly apiListen?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class NetMesh implements AsyncDisposable {
  readonly net: NetLab;
  readonly #lab: Lab;
  readonly #nodes = new Map<string, LabNode>();
  readonly #ids = new Map<string, string>();
  /** What was accepted, in that order. */
  readonly #sent: {
    readonly from: string;
    readonly to: string;
    readonly id: string;
  }[] = [];

  private constructor(net: NetLab, lab: Lab) {
    this.net = net;
    this.#lab = lab;
  }

  static async open(): Promise<NetMesh> {
    const mesh = new NetMesh(NetLab.create(), await Lab.create());
    open.add(mesh);
    return mesh;
  }

  async close(): Promise<void> {
    if (!open.delete(this)) return;
    await this.#lab.close();
    await this.net.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A node on a host. Unless it is public it publishes no endpoint, so that its links are those of the case. */
  async start(
    host: NetHost,
    peers: readonly string[],
    {
      isPublic = false,
      listen = host.nodeOptions.listen!,
      nodeExtra,
      extra,
      linksWanted,
      apiListen,
      env,
    }: StartOptions = {},
  ): Promise<LabNode> {
    const node = await this.#lab.add({
      callsign: host.name,
      peers,
      namespace: host.namespace,
      listen,
      ...(isPublic ? {} : { advertise: [] }),
      ...(nodeExtra === undefined ? {} : { nodeExtra }),
      ...(extra === undefined ? {} : { extra }),
      ...(linksWanted === undefined ? {} : { linksWanted }),
      ...(apiListen === undefined ? {} : { apiListen }),
      ...(env === undefined ? {} : { env }),
    });
    this.#nodes.set(host.name, node);
    await node.start();
    const { node: self } = await node.json<{ node: { id: string } }>("/mesh/status");
    this.#ids.set(host.name, self.id);
    return node;
  }

  /** The folder of the lab: for files that nodes share. */
  get dir(): string {
    return this.#lab.dir;
  }

  /** Runs what `godwit join` has set up in `dir`. */
  async run(host: NetHost, dir: string, env: Readonly<Record<string, string>>): Promise<LabNode> {
    const options = { callsign: host.name, namespace: host.namespace, stateDir: join(dir, "state"), env };
    const node = new LabNode(dir, options, () => !open.has(this));
    this.#lab.nodes.push(node);
    this.#nodes.set(host.name, node);
    await node.start();
    const { node: self } = await node.json<{ node: { id: string } }>("/mesh/status");
    this.#ids.set(host.name, self.id);
    return node;
  }

  node(callsign: string): LabNode {
    const node = this.#nodes.get(callsign);
    if (node === undefined) throw new Error(`no node ${callsign}`);
    return node;
  }

  /** Every node knows a way to every other, and its name. */
  async untilWhole(timeoutMs = 20_000): Promise<void> {
    for (const [callsign, node] of this.#nodes) {
      let missing: string[] = [];
      const isWhole = async () => (missing = await this.#missing(callsign)).length === 0;
      await node.until("routes to all others", isWhole, timeoutMs).catch((error: Error) => {
        throw new Error(`${callsign} knows no ${missing.join(", no ")}: ${error.message}`, { cause: error });
      });
    }
  }

  async #missing(callsign: string): Promise<string[]> {
    const node = this.node(callsign);
    const { routes } = await node.json<{ routes: { destination: string }[] }>("/mesh/routes");
    const { names } = await node.json<{ names: { node: string }[] }>("/mesh/names");
    return [...this.#ids].flatMap(([other, id]) => {
      if (other === callsign) return [];
      const without = routes.some(({ destination }) => destination === id) ? [] : [`route to ${other}`];
      return names.some((name) => name.node === id) ? without : [...without, `name of ${other}`];
    });
  }

  async #linkedIds(callsign: string): Promise<string[]> {
    const { peers } = await this.node(callsign).json<{ peers: { id: string; links: unknown[] }[] }>(
      "/mesh/peers",
    );
    return peers.filter(({ links }) => links.length > 0).map(({ id }) => id);
  }

  /** Waits until `callsign` has, or has no, link to `other`. */
  untilLink(callsign: string, other: string, isThere: boolean, timeoutMs = 20_000): Promise<void> {
    return this.node(callsign).until(
      `${isThere ? "a" : "no"} link to ${other}`,
      async () => (await this.#linkedIds(callsign)).includes(this.#ids.get(other)!) === isThere,
      timeoutMs,
    );
  }

  async send(from: string, to: string, body: string, fields: Record<string, unknown> = {}): Promise<string> {
    const id = await this.node(from).send({ to, body, ...fields });
    this.#sent.push({ from, to, id });
    return id;
  }

  /** Waits for the receipt. */
  async delivered(from: string, id: string, timeoutMs = 40_000): Promise<Message> {
    let message: Message | undefined;
    await this.node(from).until(
      `the receipt of ${id}`,
      async () => {
        message = await this.node(from).json<Message>(`/messages/${id}`);
        return message.state === "delivered";
      },
      timeoutMs,
      5,
    );
    return message!;
  }

  /** Sends one and waits for its receipt: the milliseconds both took. */
  async exchange(from: string, to: string, body: string, timeoutMs?: number): Promise<number> {
    const startedMs = performance.now();
    await this.delivered(from, await this.send(from, to, body), timeoutMs);
    return performance.now() - startedMs;
  }

  /** Every message sent so far has its receipt and lies in the inbox of its recipient, once; nothing else does. */
  async checkOnce(timeoutMs?: number): Promise<void> {
    for (const { from, id } of this.#sent) await this.delivered(from, id, timeoutMs);
    for (const [callsign, node] of this.#nodes) {
      const inbox = await node.box<{ id: string }>("inbox");
      const expected = this.#sent.filter(({ to }) => to === callsign).map(({ id }) => id);
      expect(inbox.map(({ id }) => id).sort()).toEqual(expected.sort());
    }
  }
}
