/** Row 6: goodput and round trip of forwards, sealed end to end, between real nodes; relays see packet headers only. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { addForward, BLOCK, mesh, portOf } from "../stream/rig.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { meter } from "./process.ts";

const SECONDS = 3;
const WARM_MS = 1_500;
const ECHOES = 300;

/** Mbit/s as the server behind the far node counts them for some seconds, and what all nodes on the way paid for a MB. */
async function goodput(nodes: readonly LabNode[]): Promise<{ speed: number; cpuUs: number; peakMb: number }> {
  const [near, far] = [nodes[0]!, nodes.at(-1)!];
  let received = 0;
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (_socket, bytes) => void (received += bytes.length) },
  });
  const forward = await addForward(near, far, server.port);
  const push = (socket: Bun.Socket) => {
    while (socket.write(BLOCK) === BLOCK.length);
  };
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: portOf(forward),
    socket: { open: push, drain: push, data() {} },
  });
  await Bun.sleep(WARM_MS);
  const [startMs, start, cost] = [performance.now(), received, meter(...nodes.map(({ pid }) => pid!))];
  await Bun.sleep(SECONDS * 1_000);
  const bits = (received - start) * 8;
  const seconds = (performance.now() - startMs) / 1_000;
  const { cpuMs, peakMb } = cost();
  client.terminate();
  server.stop(true);
  await near.json(`/forwards/${forward.id}`, { method: "DELETE" }).catch(() => {});
  return { speed: bits / seconds / 1e6, cpuUs: (cpuMs * 1_000) / (bits / 8e6), peakMb };
}

/** Round trips of one byte through an echo behind the far node, ms. */
async function echoes(near: LabNode, far: LabNode): Promise<number[]> {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, bytes) => void socket.write(bytes) },
  });
  const forward = await addForward(near, far, server.port);
  const times: number[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let sentMs = 0;
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: portOf(forward),
    socket: {
      open(socket) {
        socket.setNoDelay(true);
        sentMs = performance.now();
        socket.write("x");
      },
      data(socket) {
        times.push(performance.now() - sentMs);
        if (times.length === ECHOES) return resolve();
        sentMs = performance.now();
        socket.write("x");
      },
      close: () => reject(new Error("the forward broke")),
    },
  });
  await promise;
  client.terminate();
  server.stop(true);
  await near.json(`/forwards/${forward.id}`, { method: "DELETE" }).catch(() => {});
  // The first ones run before the compiler has seen them.
  return times.slice(50);
}

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const lines = [2, 4].map((count) => ({
    count,
    over: count === 2 ? "1 hop" : `${count - 1} hops`,
    speeds: [] as number[],
    cpus: [] as number[],
    peaks: [] as number[],
    times: [] as number[],
  }));
  for (const { count, speeds, cpus, peaks, times } of lines) {
    const lab = await Lab.create();
    try {
      const edges = Array.from({ length: count - 1 }, (_, i) => [i + 1, i] as const);
      const nodes = await mesh(lab, count, edges);
      for (let i = 0; i < runs; i++) {
        times.push(...(await echoes(nodes[0]!, nodes[count - 1]!)));
        const { speed, cpuUs, peakMb } = await goodput(nodes);
        speeds.push(speed);
        cpus.push(cpuUs);
        peaks.push(peakMb);
        note(`stream, ${count - 1} hops, ${i + 1}/${runs}: ${Math.round(speeds.at(-1)!)} Mbit/s`);
      }
    } finally {
      await lab.close();
    }
  }
  return lines.flatMap(({ over, speeds, cpus, peaks, times }) => [
    { what: `goodput of a forward, ${over}`, unit: "Mbit/s", values: speeds },
    { what: `processor time of all nodes on the way for a MB, ${over}`, unit: "us", values: cpus },
    { what: `most resident memory of one of them, ${over}`, unit: "MB", values: peaks },
    { what: `TCP echo through a forward, ${over}`, unit: "ms", values: times },
  ]);
}

export const stream: Bench = {
  name: "stream",
  row: 6,
  how: "godwit forward over loopback, one TCP connection; source and sink are the measuring process and share the processors",
  run,
};
