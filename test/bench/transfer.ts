/**
 * `bun test/bench/transfer.ts [--binary PATH]... [--runs N] [--bytes N]`: a large message over two hops, from the request that accepts it to
 * its receipt, beside the same bytes through a forward over the same nodes, in turns. For each node bytes by `write_bytes` of /proc/PID/io, times
 * its size, and the peak of its memory above what it held before. Each binary is another build of Godwit, measured in turns with this one.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { addForward, mesh, portOf } from "../stream/rig.ts";
import { quantile } from "./bench.ts";
import { idOf } from "./probe.ts";
import { cpuMs } from "./process.ts";

const TIMEOUT_MS = 60_000;
/** What is written to disk late is written by then. */
const REST_MS = 1_500;
const MIB = 1024 * 1024;

const statusOf = (node: LabNode, field: string): number =>
  Number(
    new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${node.pid!}/status`, "utf8"))![1],
  ) * 1024;
const writtenBy = (node: LabNode): number =>
  Number(/\nwrite_bytes: (\d+)/.exec(readFileSync(`/proc/${node.pid!}/io`, "utf8"))![1]);
/** The peak counts from now on. */
const resetPeak = (node: LabNode): void => writeFileSync(`/proc/${node.pid!}/clear_refs`, "5");

type Figures = Record<string, number>;

async function message(nodes: readonly LabNode[], to: string, bytes: number): Promise<Figures> {
  const [source] = nodes;
  const body = crypto.getRandomValues(new Uint8Array(65_536));
  const whole = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += body.length) whole.set(body.subarray(0, bytes - at), at);
  const before = nodes.map((node) => {
    resetPeak(node);
    return { rest: statusOf(node, "VmRSS"), written: writtenBy(node), cpu: cpuMs(node.pid!) };
  });
  const startMs = performance.now();
  const id = await source!.sendBytes(whole, { to });
  const acceptedMs = performance.now() - startMs;
  const isDelivered = async () =>
    (await source!.json<{ state: string }>(`/messages/${id}`)).state === "delivered";
  await source!.until("its receipt", isDelivered, TIMEOUT_MS, 10);
  const ms = performance.now() - startMs;
  const peaks = nodes.map((node) => statusOf(node, "VmHWM"));
  const cpus = nodes.map((node) => cpuMs(node.pid!));
  // One sender may fill half of an inbox.
  await nodes[2]!.api(`/messages/${id}`, { method: "DELETE" });
  await Bun.sleep(REST_MS);
  const figures: Figures = {
    "message MiB/s": bytes / MIB / (ms / 1_000),
    "accepted after ms": acceptedMs,
    "delivered after ms": ms,
  };
  for (const [i, name] of ["source", "relay", "recipient"].entries()) {
    figures[`${name} writes x`] = (writtenBy(nodes[i]!) - before[i]!.written) / bytes;
    figures[`${name} peak MB`] = (peaks[i]! - before[i]!.rest) / 1e6;
    figures[`${name} cpu ms`] = cpus[i]! - before[i]!.cpu;
  }
  return figures;
}

/** The same bytes, counted by a server behind the far node. */
async function stream(near: LabNode, far: LabNode, bytes: number): Promise<Figures> {
  let received = 0;
  const done = Promise.withResolvers<void>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(_socket, part) {
        received += part.length;
        if (received >= bytes) done.resolve();
      },
    },
  });
  const forward = await addForward(near, far, server.port);
  const block = new Uint8Array(MIB);
  let left = bytes;
  const push = (socket: Bun.Socket) => {
    while (left > 0) {
      const wrote = socket.write(block.subarray(0, Math.min(left, block.length)));
      left -= wrote;
      if (wrote < Math.min(left + wrote, block.length)) return;
    }
  };
  const startMs = performance.now();
  const client = await Bun.connect({
    hostname: "127.0.0.1",
    port: portOf(forward),
    socket: { open: push, drain: push, data() {} },
  });
  await done.promise;
  const ms = performance.now() - startMs;
  client.terminate();
  server.stop(true);
  await near.json(`/forwards/${forward.id}`, { method: "DELETE" }).catch(() => {});
  return { "stream MiB/s": bytes / MIB / (ms / 1_000) };
}

const { values } = parseArgs({
  options: {
    binary: { type: "string", multiple: true, default: [] },
    runs: { type: "string", default: "5" },
    bytes: { type: "string", default: String(16 * MIB) },
  },
});
const bytes = Number(values.bytes);
const builds = [join(root, "dist/godwit"), ...values.binary];
const labs: Lab[] = [];
const lines = new Map<string, LabNode[]>();
const samples = new Map<string, Figures[]>();
try {
  for (const binary of builds) {
    const lab = await Lab.create();
    labs.push(lab);
    const edges = [
      [1, 0],
      [2, 1],
    ] as const;
    lines.set(binary, await mesh(lab, 3, edges, [binary]));
  }
  // The first ones run before the compiler has seen them.
  for (let turn = -1; turn < Number(values.runs); turn++)
    for (const [binary, nodes] of lines) {
      const to = await idOf(nodes[2]!);
      const figures = {
        ...(await message(nodes, to, bytes)),
        ...(await stream(nodes[0]!, nodes[2]!, bytes)),
      };
      if (turn >= 0) samples.set(binary, [...(samples.get(binary) ?? []), figures]);
    }
} finally {
  for (const lab of labs) await lab.close();
}
console.log(
  `load ${readFileSync("/proc/loadavg", "utf8").trim()}; median (least to most) of ${values.runs} turns, ${bytes} bytes`,
);
const text = (value: number): string => String(Number(value.toPrecision(3)));
for (const [binary, all] of samples) {
  console.log(binary);
  for (const key of Object.keys(all[0]!)) {
    const of = all.map((one) => one[key]!);
    console.log(
      `  ${key.padEnd(22)} ${text(quantile(of, 0.5))} (${text(quantile(of, 0))} to ${text(quantile(of, 1))})`,
    );
  }
}
