/** Addresses that change, interfaces that come late, and NAT. */
import { afterAll, expect } from "bun:test";
import { NODE_PORT } from "../../scripts/netlab-parts.ts";
import { closeMeshes, report, scenario } from "./net-mesh.ts";

afterAll(closeMeshes);

scenario(
  "a node whose address changes is back on the LAN by itself and publishes the new one",
  async (mesh) => {
    const lan = mesh.net.lan("lan");
    const [a, b, c] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B"), mesh.net.host("NYC-C")];
    const port = lan.join(a);
    const hub = lan.join(b);
    lan.join(c);
    await mesh.start(b, [], { isPublic: true });
    await Promise.all([
      mesh.start(a, [hub.endpoint("v4")], { isPublic: true }),
      mesh.start(c, [hub.endpoint("v4")], { isPublic: true }),
    ]);
    await mesh.untilWhole();
    const fresh = lan.addresses(77);
    port.readdress(fresh);
    const startedMs = performance.now();
    await mesh.exchange("NYC-C", "DUN-A", "to the new address");
    report("address changed, until the receipt", `${Math.round(performance.now() - startedMs)} ms`);
    await mesh.node("DUN-A").until(
      "the new address to be published",
      async () => {
        const { transports } = await mesh
          .node("DUN-A")
          .json<{ transports: { listen: string[] }[] }>("/mesh/status");
        return transports.some(({ listen }) => listen.includes(`tcp://${fresh.v4}:${NODE_PORT}`));
      },
      45_000,
    );
    report("address changed, until it is published", `${Math.round(performance.now() - startedMs)} ms`);
    await mesh.checkOnce();
  },
);

scenario("a node that starts before its interface links once it is there", async (mesh) => {
  const [a, b] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B")];
  await mesh.start(b, []);
  await mesh.start(a, [`tcp://10.64.1.2:${NODE_PORT}`]);
  await Bun.sleep(2_000); // several attempts without any network
  mesh.net.link(a, b);
  const startedMs = performance.now();
  await mesh.untilLink("DUN-A", "LON-B", true, 60_000);
  report("interface there, until the link", `${Math.round(performance.now() - startedMs)} ms`);
  await mesh.untilWhole();
  await mesh.exchange("DUN-A", "LON-B", "at last");
  await mesh.checkOnce();
});

scenario("an address with a zone is linked over by each transport", async (mesh) => {
  const hub = mesh.net.host("DUN-A");
  const schemes = { "LON-B": "tcp", "NYC-C": "udp", "OSL-D": "ws" };
  const cables = Object.entries(schemes).map(([callsign, scheme]) => ({
    scheme,
    cable: mesh.net.link(hub, mesh.net.host(callsign), { families: "v6" }),
  }));
  const web = NODE_PORT + 1;
  await mesh.start(hub, [], {
    listen: [`[::]:${NODE_PORT}`],
    extra:
      `[transports.datagrams]\ntype = "udp"\nlisten = ["[::]:${NODE_PORT}"]\n` +
      `[transports.web]\ntype = "websocket"\nlisten = ["[::]:${web}"]\n`,
  });
  for (const { scheme, cable } of cables) {
    const { a, b } = cable;
    const address = /fe80::[0-9a-f:]+/.exec(hub.ip("-6", "addr", "show", "dev", a.device))![0];
    const place = `[${address}%${b.device}]`;
    const endpoint = scheme === "ws" ? `ws://${place}:${web}/godwit` : `${scheme}://${place}:${NODE_PORT}`;
    const node = await mesh.start(b.host, [endpoint], {
      extra: `[transports.datagrams]\ntype = "udp"\nlisten = []\n[transports.web]\ntype = "websocket"\n`,
    });
    await mesh.untilLink(b.host.name, "DUN-A", true, 15_000);
    const { peers } = await node.json<{
      peers: { callsign: string | null; links: { transport: string }[] }[];
    }>("/mesh/peers");
    const links = peers.find(({ callsign }) => callsign === "DUN-A")!.links;
    expect(links.map(({ transport }) => transport)).toEqual([scheme]);
    await mesh.exchange(b.host.name, "DUN-A", `over ${endpoint}`);
  }
});

for (const kind of ["cone", "symmetric"] as const)
  scenario(
    `nodes behind two ${kind} NATs exchange mail, also after both forgot every connection`,
    async (mesh) => {
      const { net } = mesh;
      const wan = net.lan("wan");
      const hub = net.host("LON-B");
      const hubPort = wan.join(hub);
      await mesh.start(hub, []);
      for (const [callsign, name] of [
        ["DUN-A", "box1"],
        ["NYC-C", "box2"],
      ] as const) {
        const [host, box] = [net.host(callsign), net.host(name, { forwards: true })];
        const inside = net.link(host, box);
        host.ip("route", "add", "default", "via", inside.b.addresses.v4!);
        net.nat(box, wan.join(box), kind);
        await mesh.start(host, [hubPort.endpoint("v4")]);
      }
      await mesh.untilWhole();
      await mesh.exchange("DUN-A", "NYC-C", "through both");
      for (const box of net.hosts.filter(({ name }) => name.startsWith("box"))) net.forget(box);
      const startedMs = performance.now();
      await Promise.all([mesh.exchange("DUN-A", "NYC-C", "there"), mesh.exchange("NYC-C", "DUN-A", "back")]);
      report(`${kind} NAT forgot, until both receipts`, `${Math.round(performance.now() - startedMs)} ms`);
      await mesh.checkOnce();
    },
  );

scenario(
  "an address that comes late is waited for by the API and by forwards, and said by health",
  async (mesh) => {
    const late = "10.99.9.9";
    const [a] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B")];
    const node = await mesh.start(a, [], {
      extra: `[[forwards]]\nlisten = "${late}:8088"\nto = "LON-B"\ntarget = "127.0.0.1:80"\n`,
      apiListen: [`${late}:8000`],
    });
    const checks = async () =>
      (await node.json<{ checks: { name: string; status: string; reason: string | null }[] }>("/health"))
        .checks;
    const troubled = async () =>
      (await checks()).flatMap(({ name, status, reason }) => (status === "ok" ? [] : [`${name} ${reason}`]));
    const before = await troubled();
    expect(before.filter((text) => text.includes(late))).toHaveLength(2);
    a.ip("addr", "add", `${late}/32`, "dev", "lo");
    const startedMs = performance.now();
    await node.until(
      "both to listen",
      async () => (await troubled()).every((text) => !text.includes(late)),
      15_000,
    );
    report("address there, until API and forward listen", `${Math.round(performance.now() - startedMs)} ms`);
    const { stdout } = Bun.spawnSync(["ip", "netns", "exec", a.namespace, "ss", "-ltnH"]);
    for (const port of [8_000, 8_088]) expect(stdout.toString()).toContain(`${late}:${port}`);
  },
);
