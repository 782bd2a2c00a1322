/** Links that go, lie, lose and crawl: what the kernel shows of it is real. */
import { afterAll, expect } from "bun:test";
import type { NetLink } from "../../scripts/netlab-parts.ts";
import { Slowness } from "../../scripts/slowness.ts";
import { closeMeshes, report, scenario, type NetMesh } from "./net-mesh.ts";

afterAll(closeMeshes);

const figure = (ms: number, { factor }: Slowness): string =>
  `${Math.round(ms)} ms, on a machine ${factor.toFixed(1)} times as slow as by itself`;

/** A ring of veth links; the link of each to the next, by its first node. */
async function ring(mesh: NetMesh, callsigns: readonly string[]): Promise<NetLink[]> {
  const hosts = callsigns.map((callsign) => mesh.net.host(callsign));
  const links = hosts.map((host, i) =>
    mesh.net.link(host, hosts[(i + 1) % hosts.length]!, { units: "packets" }),
  );
  await Promise.all(hosts.map((host, i) => mesh.start(host, [links[i]!.b.endpoint()])));
  await mesh.untilWhole();
  return links;
}

const FOUR = ["DUN-A", "LON-B", "NYC-C", "PAR-D"];

for (const [how, withinMs, cut] of [
  ["a cable that is pulled", 2_000, (link: NetLink) => link.down()],
  ["a cable that goes silent", 4_000, (link: NetLink) => link.silence()],
] as const)
  scenario(`mail goes round ${how}`, async (mesh) => {
    const [first] = await ring(mesh, FOUR);
    await mesh.exchange("DUN-A", "LON-B", "before");
    using slowness = new Slowness();
    cut(first!);
    const ms = await mesh.exchange("DUN-A", "LON-B", "after");
    report(`round ${how}, until the receipt`, figure(ms, slowness));
    expect(ms).toBeLessThan(withinMs * slowness.factor);
    await mesh.untilLink("DUN-A", "LON-B", false);
    first!.up();
    first!.heal();
    const healedMs = performance.now();
    await mesh.untilLink("DUN-A", "LON-B", true);
    report(`link back after ${how}`, `${Math.round(performance.now() - healedMs)} ms`);
    await mesh.checkOnce();
  });

scenario("a link that carries one way only is dead at both ends, and mail goes round", async (mesh) => {
  const [first] = await ring(mesh, FOUR);
  first!.silence("a to b");
  const cutMs = performance.now();
  await Promise.all([mesh.exchange("DUN-A", "LON-B", "there"), mesh.exchange("LON-B", "DUN-A", "back")]);
  report("one way only, both receipts", `${Math.round(performance.now() - cutMs)} ms`);
  await Promise.all([mesh.untilLink("DUN-A", "LON-B", false), mesh.untilLink("LON-B", "DUN-A", false)]);
  report("one way only, dead at both ends", `${Math.round(performance.now() - cutMs)} ms`);
  first!.heal();
  await mesh.untilLink("LON-B", "DUN-A", true);
  await mesh.checkOnce();
});

scenario("mail arrives once over a line that loses 30 % of all packets both ways", async (mesh) => {
  const hosts = FOUR.slice(0, 3).map((callsign) => mesh.net.host(callsign));
  const links = [0, 1].map((i) => mesh.net.link(hosts[i]!, hosts[i + 1]!, { units: "packets" }));
  await Promise.all(hosts.map((host, i) => mesh.start(host, i < 2 ? [links[i]!.b.endpoint()] : [])));
  await mesh.untilWhole();
  links[0]!.lose({ ab: 0.3, ba: 0.3 });
  expect(hosts[0]!.lossTo(links[0]!.b.addresses.v4!)).toBeGreaterThan(0.3);
  const startedMs = performance.now();
  for (let i = 0; i < 10; i++) {
    await mesh.send("DUN-A", "NYC-C", `there ${i}`);
    await mesh.send("NYC-C", "DUN-A", `back ${i}`);
  }
  await mesh.checkOnce(75_000);
  report("20 messages at 30 % loss each way", `${Math.round(performance.now() - startedMs)} ms`);
});

scenario("1 MiB crosses a line of IPv6 only with an MTU of 1,280", async (mesh) => {
  const hosts = FOUR.slice(0, 3).map((callsign) => mesh.net.host(callsign));
  const links = [0, 1].map((i) => mesh.net.link(hosts[i]!, hosts[i + 1]!, { mtu: 1_280, families: "v6" }));
  const listen = ["[::]:4860"];
  await Promise.all(
    hosts.map((host, i) => mesh.start(host, i < 2 ? [links[i]!.b.endpoint()] : [], { listen })),
  );
  await mesh.untilWhole();
  report(
    "1 MiB over two IPv6 links of 1,280",
    `${Math.round(await mesh.exchange("DUN-A", "NYC-C", "x".repeat(2 ** 20)))} ms`,
  );
  await mesh.checkOnce();
});

scenario("1 MiB goes round a path that swallows what is too big and says nothing", async (mesh) => {
  const { net } = mesh;
  const [a, b, c] = FOUR.slice(0, 3).map((callsign) => net.host(callsign));
  const router = net.host("router", { forwards: true });
  const [near, far] = [net.link(a!, router), net.link(router, b!)];
  a!.ip("route", "add", `${far.b.addresses.v4!}/32`, "via", near.b.addresses.v4!);
  b!.ip("route", "add", `${near.a.addresses.v4!}/32`, "via", far.a.addresses.v4!);
  far.a.setMtu(1_280);
  near.a.receive({ dropsIcmpErrors: true });
  const [first, second] = [net.link(a!, c!), net.link(c!, b!)];
  await mesh.start(b!, []);
  await mesh.start(c!, [second.b.endpoint()]);
  await mesh.start(a!, [far.b.endpoint(), first.b.endpoint()]);
  await mesh.untilWhole();
  await mesh.untilLink("DUN-A", "LON-B", true);
  expect(a!.canReach(far.b.addresses.v4!, 1_000)).toBe(true);
  expect(a!.canReach(far.b.addresses.v4!, 1_400)).toBe(false);
  const ms = await mesh.exchange("DUN-A", "LON-B", "x".repeat(2 ** 20), 90_000);
  report("1 MiB beside a black hole", `${Math.round(ms)} ms`);
  await mesh.checkOnce();
});

scenario("duplicated, reordered and late packets change nothing", async (mesh) => {
  const [a, b] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B")];
  const impairment = { seed: 7, duplicate: 0.05, reorder: 0.2, delayMs: 5, jitterMs: 5 };
  const link = await mesh.net.shim(a, b, impairment);
  await Promise.all([mesh.start(a, [link.b.endpoint()]), mesh.start(b, [])]);
  await mesh.untilWhole();
  const startedMs = performance.now();
  for (let i = 0; i < 20; i++) await mesh.send("DUN-A", "LON-B", `there ${i}`);
  await mesh.send("LON-B", "DUN-A", "x".repeat(2 ** 20));
  await mesh.checkOnce();
  report(
    "20 messages and 1 MiB, 5 % twice, 20 % overtaken",
    `${Math.round(performance.now() - startedMs)} ms`,
  );
});

for (const [kilobits, bytes, withinMs] of [
  [256, 2 ** 20, 8_000],
  [10_000, 4 * 2 ** 20, 3_000],
] as const)
  scenario(
    `an urgent message overtakes ${bytes / 2 ** 20} MiB on a link of ${kilobits} kbit/s`,
    async (mesh) => {
      const [a, b] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B")];
      const link = mesh.net.link(a, b);
      await Promise.all([mesh.start(a, [link.b.endpoint()]), mesh.start(b, [])]);
      await mesh.untilWhole();
      link.limit(kilobits);
      const big = await mesh.send("DUN-A", "LON-B", "x".repeat(bytes), { priority: 3 });
      await Bun.sleep(1_000); // the body fills every queue there is
      using slowness = new Slowness();
      const startedMs = performance.now();
      const urgent = await mesh.send("DUN-A", "LON-B", "urgent", { priority: 0 });
      await mesh.delivered("DUN-A", urgent);
      const ms = performance.now() - startedMs;
      report(`urgent beside ${bytes / 2 ** 20} MiB at ${kilobits} kbit/s`, figure(ms, slowness));
      expect(ms).toBeLessThan(withinMs * slowness.factor);
      const { state } = await mesh.node("DUN-A").json<{ state: string }>(`/messages/${big}`);
      expect(state).not.toBe("delivered");
      link.limit(undefined);
      await mesh.checkOnce();
    },
  );

for (const dialler of ["sender", "recipient"] as const)
  scenario(`a link that the ${dialler} dialled lives through 10 s of bulk at 128 kbit/s`, async (mesh) => {
    const [a, b] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B")];
    const link = mesh.net.link(a, b);
    const isSender = dialler === "sender";
    await Promise.all([
      mesh.start(a, isSender ? [link.b.endpoint()] : []),
      mesh.start(b, isSender ? [] : [link.a.endpoint()]),
    ]);
    await mesh.untilWhole();
    const fromMs = performance.now();
    link.limit(128);
    await mesh.send("DUN-A", "LON-B", "x".repeat(2 ** 20), { priority: 3 });
    await Bun.sleep(10_000);
    link.limit(undefined);
    await mesh.checkOnce();
    // Another link in its place would be younger.
    for (const callsign of ["DUN-A", "LON-B"]) {
      const { peers } = await mesh
        .node(callsign)
        .json<{ peers: { links: { up_seconds: number }[] }[] }>("/mesh/peers");
      const upSeconds = Math.max(...peers.flatMap(({ links }) => links.map((one) => one.up_seconds)));
      expect(upSeconds).toBeGreaterThanOrEqual((performance.now() - fromMs) / 1_000 - 1);
    }
  });

scenario("two halves of six nodes, apart for 10 s, deliver everything once when they heal", async (mesh) => {
  const callsigns = [...FOUR, "OSL-E", "ROM-F"];
  const links = await ring(mesh, callsigns);
  const cuts = [links[2]!, links[5]!]; // C | D and F | A
  const pairs = callsigns.slice(0, 3).map((from, i) => [from, callsigns[i + 3]!] as const);
  const both = async (what: string) => {
    for (const [left, right] of pairs) {
      await mesh.send(left, right, `${what} there`);
      await mesh.send(right, left, `${what} back`);
    }
  };
  await both("before");
  for (const link of cuts) link.silence();
  for (let second = 0; second < 10; second++) {
    await both(`second ${second}`);
    await Bun.sleep(1_000); // the partition lasts
  }
  for (const link of cuts) link.heal();
  const healedMs = performance.now();
  await mesh.checkOnce();
  report(
    "66 messages of a 10 s partition, after it healed",
    `${Math.round(performance.now() - healedMs)} ms`,
  );
});
