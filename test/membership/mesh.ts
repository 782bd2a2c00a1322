/** Real nodes whose views of each other are watched: who says what of whom, and when. */
import type { Lab, LabNode } from "../../scripts/lab.ts";

export interface MemberRow {
  readonly id: string;
  readonly callsign: string | null;
  readonly state: "alive" | "suspect" | "failed" | "left";
  readonly incarnation: number;
  readonly reason: string;
  readonly source: string | null;
}

export const membersOf = async (node: LabNode): Promise<MemberRow[]> =>
  (await node.json<{ members: MemberRow[] }>("/mesh/members")).members;

export const stateAt = async (node: LabNode, id: string): Promise<MemberRow["state"] | undefined> =>
  (await membersOf(node)).find((member) => member.id === id)?.state;

export const idOf = async (node: LabNode): Promise<string> =>
  (await node.json<{ node: { id: string } }>("/mesh/status")).node.id;

/** Nodes where each dials those before it: all of them, or only the one before (`line`). */
export async function startNodes(lab: Lab, count: number, shape: "full" | "line"): Promise<LabNode[]> {
  const nodes: LabNode[] = [];
  for (let i = 0; i < count; i++) {
    const before = shape === "full" ? nodes : nodes.slice(-1);
    nodes.push(await lab.add({ callsign: `MEM-${i}`, peers: before.map((node) => node.endpoint) }));
  }
  await Promise.all(nodes.map((node) => node.start(60_000)));
  return nodes;
}

/** Every node sees every one as alive. */
export async function untilAgreed(nodes: readonly LabNode[], timeoutMs = 20_000): Promise<void> {
  await Promise.all(
    nodes.map((node) =>
      node.until(
        `${nodes.length} members alive`,
        async () => {
          const members = await membersOf(node);
          return (
            members.length >= nodes.length &&
            members.filter(({ state }) => state === "alive").length >= nodes.length
          );
        },
        timeoutMs,
      ),
    ),
  );
}

/** Follows a node's `member` events; `at` resolves with the time (performance.now) of the first match, past ones included. */
export class MemberWatch {
  readonly #events: { type: string; id: string; atMs: number }[] = [];
  readonly #waiters = new Set<() => void>();
  readonly #abort = new AbortController();

  static async open(node: LabNode): Promise<MemberWatch> {
    const watch = new MemberWatch();
    const response = await node.api("/events?family=member", { signal: watch.#abort.signal });
    void watch.#read(response).catch(() => {});
    return watch;
  }

  get events(): readonly { type: string; id: string; atMs: number }[] {
    return this.#events;
  }

  async at(type: string, id: string, timeoutMs: number, sinceMs = 0): Promise<number> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const found = this.#events.find(
        (event) => event.type === type && event.id === id && event.atMs >= sinceMs,
      );
      if (found !== undefined) return found.atMs;
      const leftMs = endMs - performance.now();
      if (leftMs <= 0) throw new Error(`no ${type} of ${id.slice(0, 10)} within ${timeoutMs} ms`);
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          this.#waiters.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, leftMs);
        this.#waiters.add(wake);
      });
    }
  }

  close(): void {
    this.#abort.abort();
  }

  async #read(response: Response): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of response.body!) {
      const atMs = performance.now();
      const blocks = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data === undefined) continue;
        const event = JSON.parse(data) as { type: string; data?: { id?: string } };
        if (event.data?.id !== undefined) this.#events.push({ type: event.type, id: event.data.id, atMs });
      }
      for (const wake of [...this.#waiters]) wake();
    }
  }
}
