/** How the benchmarks look at a node: its events as they come, and a stream of transient messages between two nodes. */
import type { LabNode } from "../../scripts/lab.ts";

export interface SeenEvent {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** When it arrived here, by `performance.now()`. */
  readonly atMs: number;
}

/** Follows `GET /events`; resolves when the node has subscribed us. `close` ends it. */
export async function follow(
  node: LabNode,
  families: string,
  onEvent: (event: SeenEvent) => void,
): Promise<{ close(): void }> {
  const controller = new AbortController();
  const response = await node.api(`/events?family=${families}`, { signal: controller.signal });
  if (!response.ok || response.body === null) throw new Error(`${node.callsign} /events: ${response.status}`);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  const take = (chunk: Uint8Array) => {
    const atMs = performance.now();
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const line = block.split("\n").find((text) => text.startsWith("data: "));
      if (line === undefined) continue;
      const event = JSON.parse(line.slice("data: ".length)) as Partial<SeenEvent>;
      onEvent({
        type: event.type ?? "events.lost",
        data: event.data ?? {},
        atMs,
      });
    }
  };
  // The greeting says that the subscription stands.
  take((await reader.read()).value ?? new Uint8Array(0));
  const read = async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      take(value);
    }
  };
  // Ends with the node or with `close`; either is known elsewhere.
  void read().catch(() => {});
  return { close: () => controller.abort() };
}

interface Shot {
  readonly sentMs: number;
  readonly arrivedMs: number;
}

/** Who waits for the first thing that was sent after a fault and arrived: an outage means the same for everybody. */
export class Arrivals {
  #shots: Shot[] = [];
  #waiting: { sinceMs: number; resolve: (shot: Shot) => void }[] = [];

  /** When the first one arrived that was sent after `sinceMs`. */
  after(sinceMs: number, timeoutMs: number): Promise<number> {
    const early = this.#shots.find(({ sentMs }) => sentMs >= sinceMs);
    if (early !== undefined) return Promise.resolve(early.arrivedMs);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`nothing arrived within ${timeoutMs} ms`)), timeoutMs);
      this.#waiting.push({
        sinceMs,
        resolve: ({ arrivedMs }) => {
          clearTimeout(timer);
          resolve(arrivedMs);
        },
      });
    });
  }

  add(shot: Shot): void {
    this.#shots.push(shot);
    if (this.#shots.length > 10_000) this.#shots = this.#shots.slice(-5_000);
    const ready = this.#waiting.filter(({ sinceMs }) => shot.sentMs >= sinceMs);
    this.#waiting = this.#waiting.filter(({ sinceMs }) => shot.sentMs < sinceMs);
    for (const waiter of ready) waiter.resolve(shot);
  }
}

/** Something small that goes from one end to the other every few milliseconds. */
export interface Ticks {
  readonly arrivals: Arrivals;
  stop(): void;
}

/** Transient messages from one node to another, one every `everyMs`, and when each arrived. */
export class Traffic implements Ticks {
  readonly arrivals = new Arrivals();
  readonly #from: LabNode;
  readonly #to: LabNode;
  readonly #sent = new Map<string, number>();
  readonly #arrived = new Map<string, number>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #events: { close(): void } | undefined;

  private constructor(from: LabNode, to: LabNode) {
    this.#from = from;
    this.#to = to;
  }

  static async start(from: LabNode, to: LabNode, everyMs: number): Promise<Traffic> {
    const traffic = new Traffic(from, to);
    traffic.#events = await follow(to, "message", ({ type, data, atMs }) => {
      if (type === "message.received") traffic.#onArrival(String(data["id"]), atMs);
    });
    traffic.#timer = setInterval(() => void traffic.#shoot().catch(() => {}), everyMs);
    return traffic;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#events?.close();
  }

  async #shoot(): Promise<void> {
    const sentMs = performance.now();
    const id = await this.#from.send({ to: this.#to.callsign, body: "here", transient: true });
    this.#sent.set(id, sentMs);
    this.#pair(id);
  }

  #onArrival(id: string, atMs: number): void {
    this.#arrived.set(id, atMs);
    this.#pair(id);
  }

  /** The answer of the API and the arrival come in any order. */
  #pair(id: string): void {
    const [sentMs, arrivedMs] = [this.#sent.get(id), this.#arrived.get(id)];
    if (sentMs === undefined || arrivedMs === undefined) return;
    this.#sent.delete(id);
    this.#arrived.delete(id);
    this.arrivals.add({ sentMs, arrivedMs });
  }
}

interface RouteRow {
  readonly destination: string;
  readonly callsign: string | null;
  readonly next_hop: string;
}

export const routesOf = async (node: LabNode): Promise<readonly RouteRow[]> =>
  (await node.json<{ routes: RouteRow[] }>("/mesh/routes")).routes;

export const idOf = async (node: LabNode): Promise<string> =>
  (await node.json<{ node: { id: string } }>("/mesh/status")).node.id;

/** Waits until every node has a route to every other. */
export async function untilWhole(nodes: readonly LabNode[], timeoutMs = 30_000): Promise<void> {
  await Promise.all(
    nodes.map((node) =>
      node.until(
        "routes to all",
        async () => (await routesOf(node)).length >= nodes.length - 1,
        timeoutMs,
        50,
      ),
    ),
  );
}

/** Sum over all labels of one metric of `GET /metrics`; 0 when it is not there yet. */
export async function metricOf(node: LabNode, name: string): Promise<number> {
  const text = await (await node.api("/metrics")).text();
  let sum = 0;
  for (const line of text.split("\n")) {
    if (!line.startsWith(`${name} `) && !line.startsWith(`${name}{`)) continue;
    sum += Number(line.slice(line.lastIndexOf(" ") + 1));
  }
  return sum;
}
