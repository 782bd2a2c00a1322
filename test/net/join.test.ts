/** A newcomer with nothing but a token joins a closed mesh of eight across two NATs while most of it is off. */
import { afterAll, expect } from "bun:test";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { binaryPath } from "../../scripts/lab.ts";
import type { NetHost, NetPort } from "../../scripts/netlab-parts.ts";
import { closeMeshes, report, scenario, type NetMesh } from "./net-mesh.ts";

afterAll(closeMeshes);

const HUBS = ["LON-A", "LON-B"] as const;
const SITES = [
  ["DUN-A", "DUN-B", "DUN-C"],
  ["NYC-A", "NYC-B", "NYC-C"],
] as const;

/** A site behind a NAT box; answers how to put a machine into it. */
function site(mesh: NetMesh, name: string, wan: { join(host: NetHost): NetPort }): (host: NetHost) => void {
  const lan = mesh.net.lan(name);
  const box = mesh.net.host(`${name}-box`, { forwards: true });
  const gateway = lan.join(box);
  mesh.net.nat(box, wan.join(box));
  return (host) => {
    lan.join(host);
    host.ip("route", "add", "default", "via", gateway.addresses.v4!);
  };
}

interface Peers {
  readonly peers: { readonly state: string }[];
}

for (const inviter of ["LON-A", "DUN-B", "NYC-C"])
  scenario(
    `a token of ${inviter} lets a newcomer in while five of eight, the inviter too, are off`,
    async (mesh) => {
      const key = join(mesh.dir, "network.key");
      await writeFile(key, "Vt0c8Jq2nXe5Lr7bYk1Hs9Gd4Mw6Zf3Pa-QuTxRoNiB\n", { mode: 0o600 });
      const options = { nodeExtra: `network_secret = "file:${key}"`, linksWanted: 4 };
      const wan = mesh.net.lan("wan");
      const hubs = HUBS.map((callsign) => ({ callsign, host: mesh.net.host(callsign) }));
      const ports = hubs.map(({ host }) => wan.join(host));
      const [hubA, hubB] = ports as [NetPort, NetPort];
      await mesh.start(hubs[0]!.host, [], { ...options, isPublic: true });
      await mesh.start(hubs[1]!.host, [hubA.endpoint("v4")], { ...options, isPublic: true });
      const sites = ["dun", "nyc"].map((name) => site(mesh, name, wan));
      await Promise.all(
        SITES.flatMap((callsigns, index) =>
          callsigns.map(async (callsign) => {
            const host = mesh.net.host(callsign);
            sites[index]!(host);
            await mesh.start(host, [hubA.endpoint("v4"), hubB.endpoint("v4")], {
              ...options,
              isPublic: true,
            });
          }),
        ),
      );
      await mesh.untilWhole(40_000);
      const { token } = await mesh.node(inviter).json<{ token: string }>("/mesh/invites", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
      });

      // Who can be reached from where the newcomer stands: one hub, and one machine of its own site. The rest goes.
      const staying = inviter === "LON-A" ? ["LON-B", "NYC-B", "DUN-A"] : ["LON-A", "NYC-B", "DUN-A"];
      const everybody = [...HUBS, ...SITES.flat()];
      for (const callsign of everybody)
        if (!staying.includes(callsign)) await mesh.node(callsign).kill("SIGKILL");

      const machine = mesh.net.host("NEW-X");
      sites[1]!(machine);
      const dir = join(mesh.dir, "newcomer");
      await mkdir(dir);
      const config = join(dir, "godwit.toml");
      const env = { GODWIT_NODE__STATE_DIR: join(dir, "state"), GODWIT_API__LISTEN: "false" };
      const startedMs = performance.now();
      const joining = Bun.spawn(
        [
          "ip",
          "netns",
          "exec",
          machine.namespace,
          binaryPath,
          "join",
          token,
          "--config",
          config,
          "--callsign",
          "NEW-X",
        ],
        {
          cwd: dir,
          env: { PATH: process.env["PATH"] ?? "", NO_COLOR: "1", ...env },
          stdout: "pipe",
          stderr: "pipe",
        },
      );
      const said = `${await new Response(joining.stdout).text()}${await new Response(joining.stderr).text()}`;
      expect(`${await joining.exited} ${said}`).toStartWith("0 ");
      const node = await mesh.run(machine, dir, env);
      await node.until(
        "a link",
        async () => (await node.json<Peers>("/mesh/peers")).peers.some(({ state }) => state === "connected"),
        30_000,
      );
      for (const callsign of staying) await mesh.exchange("NEW-X", callsign, `hello ${callsign}`);
      await mesh.exchange("DUN-A", "NEW-X", "welcome");
      report(`joined and in touch, token of ${inviter}`, `${Math.round(performance.now() - startedMs)} ms`);

      // The others come back and know it; a machine of the other NAT writes to it.
      for (const callsign of everybody) if (!staying.includes(callsign)) await mesh.node(callsign).start();
      await mesh.exchange("DUN-C", "NEW-X", "back again", 60_000);
      await mesh.checkOnce();
    },
  );
