/** PID 1's DHCP client and a real server, dnsmasq, in namespaces that the test makes: the whole life of a lease. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetLab } from "../../scripts/netlab.ts";
import type { NetHost } from "../../scripts/netlab-parts.ts";
import { HEAR_MS, LEASE_MS, serveDhcp, Talker, whyNoDnsmasq } from "./dnsmasq.ts";

const NAK_PAUSE_MS = 10_000;

const missing = whyNoDnsmasq();
const why = missing === undefined ? "" : ` [skipped: ${missing}]`;

test.skipIf(why !== "")(
  `a lease of dnsmasq is renewed, moved to another server, refused, lost and given back${why}`,
  async () => {
    const lab = NetLab.create();
    const work = mkdtempSync(join(tmpdir(), "godwit-dhcp-"));
    let server: Talker | undefined;
    try {
      const [near, far] = [lab.host("server"), lab.host("client")];
      const link = lab.link(near, far, { families: "v4" });
      const { device } = link.b;
      far.ip("addr", "flush", "dev", device);
      near.ip("addr", "flush", "dev", link.a.device);
      let servers = 0;
      const serve = async (address: string, from: string, to: string) => {
        near.ip("addr", "flush", "dev", link.a.device);
        near.ip("addr", "add", `${address}/24`, "dev", link.a.device);
        return await serveDhcp({
          host: near,
          device: link.a.device,
          leases: join(work, `leases-${++servers}`),
          range: `${from},${to},255.255.255.0`,
        });
      };
      const addresses = (host: NetHost) => host.ip("-4", "-o", "addr", "show", "dev", device);

      server = await serve("10.77.0.1", "10.77.0.50", "10.77.0.59");
      await using client = new Talker([
        ...far.prefix,
        process.execPath,
        join(import.meta.dir, "dhcp-client.ts"),
        device,
      ]);
      const [, address] = await client.hear(/lease (10\.77\.0\.5\d) of 10\.77\.0\.1\n/);
      expect(addresses(far)).toContain(`${address}/24`);
      await server.hear(/DHCPACK\(/);

      // T1 as the server says it (dnsmasq: half of the lease): not before it, and then to that server.
      const heardBefore = server.text.length;
      await client.tell(`advance ${LEASE_MS / 2 - 1_000}`);
      expect(server.text.slice(heardBefore)).not.toContain("DHCPREQUEST");
      expect(await client.tell("advance 1000")).toContain("sends renewing 10.77.0.1\n");
      await server.hear(/DHCPREQUEST/);
      await server.hear(/DHCPACK\(/);
      await client.hear(new RegExp(`lease ${address} of 10\\.77\\.0\\.1\n`));

      // Its server is gone, another one has the same network: T2, seven eighths, and to everybody.
      await server[Symbol.asyncDispose]();
      server = await serve("10.77.0.2", "10.77.0.50", "10.77.0.59");
      expect(await client.tell(`advance ${LEASE_MS / 2}`)).toContain("sends renewing 10.77.0.1\n");
      await client.tell(`advance ${LEASE_MS * 0.375}`);
      await client.hear(/lease 10\.77\.0\.\d+ of 10\.77\.0\.2\n/);
      expect(client.text).toContain("sends rebinding 255.255.255.255\n");
      expect(client.text).not.toContain("over\n");
      expect(addresses(far)).toContain(`${address}/24`);

      // A server that has other addresses to give refuses: the address goes at once, and there is another after a pause.
      await server[Symbol.asyncDispose]();
      server = await serve("10.77.0.2", "10.77.0.70", "10.77.0.79");
      await client.tell(`advance ${LEASE_MS / 2}`);
      await server.hear(/DHCPNAK\(/);
      await client.hear(/over\n/);
      expect(addresses(far)).toBe("");
      await client.tell(`advance ${NAK_PAUSE_MS}`);
      const [, other] = await client.hear(/lease (10\.77\.0\.7\d) of 10\.77\.0\.2\n/);
      expect(addresses(far)).toContain(`${other}/24`);

      // Nobody answers until the end: the address goes, not a moment before. Then there is a server again.
      await server[Symbol.asyncDispose]();
      await client.tell(`advance ${LEASE_MS - 1_000}`);
      expect(addresses(far)).toContain(`${other}/24`);
      await client.tell("advance 1000");
      await client.hear(/over\n/);
      expect(addresses(far)).toBe("");
      server = await serve("10.77.0.1", "10.77.0.90", "10.77.0.99");
      await client.tell("advance 5000");
      await client.hear(/lease 10\.77\.0\.9\d of 10\.77\.0\.1\n/);

      await client.tell("release");
      await server.hear(/DHCPRELEASE\(/);
    } finally {
      await server?.[Symbol.asyncDispose]();
      await lab.close();
      rmSync(work, { recursive: true, force: true });
    }
  },
  5 * HEAR_MS,
);
