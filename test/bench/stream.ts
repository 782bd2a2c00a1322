/** Row 6: goodput and round trip of forwards, sealed end to end, between real nodes; relays see packet headers only. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { addForward, BLOCK, mesh, portOf } from "../stream/rig.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";

const SECONDS = 3;
const WARM_MS = 1_500;
const ECHOES = 300;

/** Sends for some seconds and answers Mbit/s as the server behind the far node counts them. */
async function goodput(near: LabNode, far: LabNode): Promise<number> {
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
  const [startMs, start] = [performance.now(), received];
  await Bun.sleep(SECONDS * 1_000);
  const bits = (received - start) * 8;
  const seconds = (performance.now() - startMs) / 1_000;
  client.terminate();
  server.stop(true);
  await near.json(`/forwards/${forward.id}`, { method: "DELETE" }).catch(() => {});
  return bits / seconds / 1e6;
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
  const [one, three]: [number[], number[]] = [[], []];
  const [oneMs, threeMs]: [number[], number[]] = [[], []];
  const lines = [
    { count: 2, speeds: one, times: oneMs },
    { count: 4, speeds: three, times: threeMs },
  ] as const;
  for (const { count, speeds, times } of lines) {
    const lab = await Lab.create();
    try {
      const edges = Array.from({ length: count - 1 }, (_, i) => [i + 1, i] as const);
      const nodes = await mesh(lab, count, edges);
      for (let i = 0; i < runs; i++) {
        times.push(...(await echoes(nodes[0]!, nodes[count - 1]!)));
        speeds.push(await goodput(nodes[0]!, nodes[count - 1]!));
        note(`stream, ${count - 1} hops, ${i + 1}/${runs}: ${Math.round(speeds.at(-1)!)} Mbit/s`);
      }
    } finally {
      await lab.close();
    }
  }
  return [
    {
      what: "goodput of a forward, 1 hop",
      unit: "Mbit/s",
      values: one,
      goal: { of: "median", atLeast: 2_500 },
    },
    {
      what: "goodput of a forward, 3 hops",
      unit: "Mbit/s",
      values: three,
      goal: { of: "median", atLeast: 1_000 },
    },
    { what: "TCP echo through a forward, 1 hop", unit: "ms", values: oneMs },
    { what: "TCP echo through a forward, 3 hops", unit: "ms", values: threeMs },
  ];
}

export const stream: Bench = {
  name: "stream",
  row: 6,
  how: "godwit forward over loopback, one TCP connection; source and sink are the measuring process and share the processors",
  run,
};
