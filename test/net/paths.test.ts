/** UDP over paths that carry little, or less than a moment ago, and say nothing of it. */
import { afterAll, expect } from "bun:test";
import type { LabNode } from "../../scripts/lab.ts";
import type { NetLink } from "../../scripts/netlab-parts.ts";
import { closeMeshes, report, scenario, type NetMesh } from "./net-mesh.ts";

afterAll(closeMeshes);

const UDP_PORT = 4861;
const SIZES = [10, 700, 3_000, 200_000];
/** 1,200 without the heads of a datagram and of a record. */
const FRAME_BYTES_BASE = 1_200 - 13 - 21;

/** Two nodes with two routers between them; the middle is what shrinks. No error of ICMP reaches either node. */
async function path(mesh: NetMesh, mtu: number, family: "v4" | "v6" = "v4", dropsFragments = false) {
  const { net } = mesh;
  const [a, b] = [net.host("DUN-A"), net.host("LON-B")];
  const [r1, r2] = [net.host("r1", { forwards: true }), net.host("r2", { forwards: true })];
  const [near, middle, far] = [net.link(a, r1), net.link(r1, r2), net.link(r2, b)];
  const [toA, toB] = [near.a.addresses[family]!, far.b.addresses[family]!];
  a.ip("route", "add", toB, "via", near.b.addresses[family]!);
  r1.ip("route", "add", toB, "via", middle.b.addresses[family]!);
  r2.ip("route", "add", toA, "via", middle.a.addresses[family]!);
  b.ip("route", "add", toA, "via", far.a.addresses[family]!);
  for (const port of [near.a, far.b]) port.receive({ dropsIcmpErrors: true, dropsFragments });
  shrink(middle, mtu);
  const extra = `[transports.far]\ntype = "udp"\nlisten = ["[::]:${UDP_PORT}"]\n`;
  await mesh.start(b, [], { extra });
  const host = family === "v6" ? `[${toB}]` : toB;
  await mesh.start(a, [`udp://${host}:${UDP_PORT}`], { extra });
  await mesh.untilWhole();
  return { middle, a: mesh.node("DUN-A"), b: mesh.node("LON-B") };
}

function shrink(link: NetLink, mtu: number): void {
  link.a.setMtu(mtu);
  link.b.setMtu(mtu);
}

/** All sizes, both ways. */
async function exchangeAll(mesh: NetMesh): Promise<number> {
  const startedMs = performance.now();
  for (const size of SIZES)
    await Promise.all([
      mesh.exchange("DUN-A", "LON-B", "x".repeat(size)),
      mesh.exchange("LON-B", "DUN-A", "x".repeat(size)),
    ]);
  return performance.now() - startedMs;
}

async function linkMtu(node: LabNode): Promise<number | undefined> {
  const { peers } = await node.json<{ peers: { links: { mtu: number }[] }[] }>("/mesh/peers");
  return peers[0]?.links[0]?.mtu;
}

const healthOf = async (node: LabNode): Promise<string> => JSON.stringify(await node.json("/mesh/status"));

for (const mtu of [1_000, 576])
  scenario(`messages of every size cross a UDP path of ${mtu} bytes`, async (mesh) => {
    const { a, b } = await path(mesh, mtu);
    report(`all sizes over ${mtu} bytes`, `${Math.round(await exchangeAll(mesh))} ms`);
    for (const node of [a, b])
      await node.until(
        "its log",
        async () => node.logLines.some((line) => line.includes("small path")),
        10_000,
      );
    expect(await linkMtu(a)).toBe(FRAME_BYTES_BASE);
    await mesh.checkOnce();
  });

scenario(
  "messages of every size cross a UDP path of 576 bytes that drops fragments, and health says so",
  async (mesh) => {
    const { a } = await path(mesh, 576, "v4", true);
    report("all sizes over 576 bytes without fragments", `${Math.round(await exchangeAll(mesh))} ms`);
    expect(await linkMtu(a)).toBe(548 - 13 - 21);
    await a.until(
      "its health",
      async () => (await healthOf(a)).includes("carries datagrams of 548 bytes and no fragments"),
      15_000,
    );
    await mesh.checkOnce();
  },
);

for (const dropsFragments of [false, true])
  scenario(
    `a UDP path that shrinks to 576 bytes while the link is up carries every size, ${dropsFragments ? "fragments dropped" : "in fragments"}`,
    async (mesh) => {
      const { a, middle } = await path(mesh, 1_500, "v4", dropsFragments);
      await exchangeAll(mesh);
      const before = await a.json<{ peers: { links: { up_seconds: number }[] }[] }>("/mesh/peers");
      expect(await linkMtu(a)).toBe(1_452 - 13 - 21);
      shrink(middle, 576);
      report("all sizes after the path shrank", `${Math.round(await exchangeAll(mesh))} ms`);
      // The same link.
      const after = await a.json<{ peers: { links: { up_seconds: number }[] }[] }>("/mesh/peers");
      expect(after.peers[0]!.links[0]!.up_seconds).toBeGreaterThanOrEqual(
        before.peers[0]!.links[0]!.up_seconds,
      );
      await mesh.checkOnce();
    },
  );

scenario(
  "a UDP path of IPv6 that shrinks to 1,280 bytes while the link is up carries every size",
  async (mesh) => {
    const { a, middle } = await path(mesh, 1_500, "v6");
    await exchangeAll(mesh);
    shrink(middle, 1_280);
    report("all sizes after the IPv6 path shrank", `${Math.round(await exchangeAll(mesh))} ms`);
    expect(await linkMtu(a)).toBeGreaterThanOrEqual(FRAME_BYTES_BASE);
    await mesh.checkOnce();
  },
);
