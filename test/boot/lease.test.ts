/** What PID 1 makes of DHCP on a real cable: addresses that come, stay and go by its own timers. The protocol's turns: dhcp.test.ts. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetLab } from "../../scripts/netlab.ts";
import { HEAR_MS, serveDhcp, type Talker, whyNoDnsmasq } from "./dnsmasq.ts";
import { BOOT_MS, Guest, whyNot } from "./guest.ts";
import { buildImage, type BuiltImage } from "./image.ts";

/** Told by option 58, because dnsmasq leases for two minutes at least. */
const RENEW_S = 6;

const missing = whyNoDnsmasq();
const why = missing === undefined ? whyNot("x64") : ` [skipped: ${missing}]`;

let image: BuiltImage;
beforeAll(async () => {
  if (why === "") image = await buildImage();
}, 10 * 60_000);
afterAll(() => {
  if (why === "") image?.remove();
});

test.skipIf(why !== "")(
  `a machine renews its lease by itself, changes its address when that is refused, and gives it back; nobody does more than look at its console${why}`,
  async () => {
    const net = NetLab.create();
    const folder = mkdtempSync(join(tmpdir(), "godwit-lease-"));
    let server: Talker | undefined;
    try {
      const host = net.host("server");
      host.ip("tuntap", "add", "dev", "tap0", "mode", "tap");
      host.ip("addr", "add", "10.9.0.1/24", "dev", "tap0");
      host.ip("link", "set", "tap0", "up");
      let servers = 0;
      const serve = (from: string, to: string) =>
        serveDhcp({
          host,
          device: "tap0",
          leases: join(folder, `leases-${++servers}`),
          range: `${from},${to},255.255.255.0`,
          more: [`--dhcp-option-force=58,${RENEW_S}`],
        });
      server = await serve("10.9.0.20", "10.9.0.29");
      await using guest = await Guest.start({
        image: image.folder,
        inside: host.prefix,
        more: [
          ...["-netdev", "tap,id=lan,ifname=tap0,script=no,downscript=no"],
          ...["-device", "virtio-net-pci,netdev=lan"],
        ],
        words: ["godwit.hostname=dun-a"],
      });
      const [, first] = await guest.hear(/lease interface=eth0 address=(10\.9\.0\.2\d)\/24/);
      const ack = new RegExp(`DHCPACK\\(tap0\\) ${first!.replaceAll(".", "\\.")} \\S+ dun-a`);
      // The first, and two by its own timer.
      for (let i = 0; i < 3; i++) await server.hear(ack);
      expect(server.text.match(/DHCPOFFER/g)).toHaveLength(1);

      // Another server, with other addresses: it refuses, the address goes, and another is found.
      await server[Symbol.asyncDispose]();
      server = await serve("10.9.0.50", "10.9.0.59");
      await server.hear(/DHCPNAK/);
      await guest.hear(/lease over interface=eth0/, HEAR_MS);
      await guest.hear(/lease interface=eth0 address=10\.9\.0\.5\d\/24/, HEAR_MS);
      guest.say("status");
      const [shown] = await guest.hear(/addresses +.*eth0/, HEAR_MS);
      expect(shown).toContain("10.9.0.5");
      expect(shown).not.toContain(first);

      guest.say("poweroff");
      await guest.hear(/the console is for looking only/, HEAR_MS);
      await guest.monitor("system_powerdown");
      await server.hear(/DHCPRELEASE\(tap0\) 10\.9\.0\.5\d/);
      expect(await guest.off()).toBe(0);
    } finally {
      await server?.[Symbol.asyncDispose]();
      await net.close();
      rmSync(folder, { recursive: true, force: true });
    }
  },
  BOOT_MS + 4 * HEAR_MS,
);
