/** What the stream suite and its benchmark share: nodes in a shape, a TCP server behind one, and transfers with sums. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Lab, LabNode } from "../../scripts/lab.ts";

export const BLOCK = new Uint8Array(1 << 20);
for (let i = 0; i < BLOCK.length; i += 4) new DataView(BLOCK.buffer).setUint32(i, Math.imul(i, 0x9e3779b1));

export interface ForwardInfo {
  id: string;
  listen: string;
  connections: number;
  connections_total: number;
  failures: number;
  last_error: string | null;
}

export const addForward = (node: LabNode, to: LabNode, port: number): Promise<ForwardInfo> =>
  node.json<ForwardInfo>("/forwards", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ listen: "127.0.0.1:0", to: to.callsign, target: `127.0.0.1:${port}` }),
  });

export const portOf = ({ listen }: ForwardInfo): number => Number(listen.split(":").at(-1));

/** Nodes that dial each other as `edges` (by index) say; the last allows everything on loopback to all others. */
export async function mesh(
  lab: Lab,
  count: number,
  edges: readonly (readonly [number, number])[],
  command?: readonly string[],
): Promise<LabNode[]> {
  const names = ["STR-A", "STR-B", "STR-C", "STR-D"];
  const nodes: LabNode[] = [];
  for (let i = 0; i < count; i++) {
    const peers = edges.filter(([from]) => from === i).map(([, to]) => nodes[to]!.endpoint);
    const extra = `[[forward_allow]]\nfrom = ["STR-A"]\ntargets = ["127.0.0.0/8:*"]`;
    nodes.push(
      await lab.add({
        callsign: names[i]!,
        peers,
        ...(i === count - 1 ? { extra } : {}),
        ...(command === undefined ? {} : { command }),
      }),
    );
  }
  await Promise.all(nodes.map((node) => node.start()));
  const [first, last] = [nodes[0]!, nodes[count - 1]!];
  for (const [node, far] of [
    [first, last],
    [last, first],
  ] as const)
    await node.until(
      `a route and the name of ${far.callsign}`,
      async () =>
        (await node.json<{ routes: { callsign: string | null }[] }>("/mesh/routes")).routes.some(
          ({ callsign }) => callsign === far.callsign,
        ),
      15_000,
    );
  await bind(last, first);
  return nodes;
}

/** The operator of `node` says who has the callsign of `far`: rights hang on no name that was pinned at sight. */
export async function bind(node: LabNode, far: LabNode): Promise<void> {
  const { node: about } = await far.json<{ node: { id: string } }>("/mesh/status");
  await node.json(`/mesh/names/${far.callsign}/resolve`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ node: about.id }),
  });
}

/** Resident memory, bytes. */
export function residentBytes(node: LabNode): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${node.pid}/status`, "utf8"));
  return Number(line![1]) * 1024;
}

/** A server that sums what it is sent and answers with the sum when the client has ended. */
export function sumServer(): { port: number; received: () => number; stop: () => void } {
  let received = 0;
  const server = Bun.listen<{ hash: ReturnType<typeof createHash> }>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open: (socket) => void (socket.data = { hash: createHash("sha256") }),
      data(socket, bytes) {
        received += bytes.length;
        socket.data.hash.update(bytes);
      },
      end(socket) {
        socket.write(socket.data.hash.digest("hex"));
        socket.end();
      },
    },
  });
  return { port: server.port, received: () => received, stop: () => server.stop(true) };
}

/** Sends `megabytes`, ends its half, and answers the server's sum beside the true one. */
export function upload(port: number, megabytes: number): Promise<{ answer: string; sum: string }> {
  const hash = createHash("sha256");
  let answer = "";
  let [block, at] = [0, 0];
  return new Promise((resolve, reject) => {
    const push = (socket: Bun.Socket) => {
      while (block < megabytes) {
        if (at === 0) hash.update(BLOCK);
        const sent = socket.write(BLOCK.subarray(at));
        at += Math.max(0, sent);
        if (at < BLOCK.length) return;
        [block, at] = [block + 1, 0];
      }
      if (block++ === megabytes) socket.shutdown();
    };
    Bun.connect({
      hostname: "127.0.0.1",
      port,
      allowHalfOpen: true,
      socket: {
        open: push,
        drain: push,
        data: (_socket, bytes) => void (answer += bytes.toString()),
        end: (socket) => void socket.end(),
        close: () => resolve({ answer, sum: hash.copy().digest("hex") }),
        error: (_socket, error) => reject(error),
      },
    }).catch(reject);
  });
}
