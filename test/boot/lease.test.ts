/** The DHCP client of PID 1 against a real server: dnsmasq in a network namespace, on the other end of the machine's cable. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NetHost, NetLab, whyNoNetLab } from "../../scripts/netlab.ts";
import { BOOT_MS, Guest, whyNot } from "./guest.ts";
import { buildImage, type BuiltImage } from "./image.ts";

/** Told by options 58 and 59, because dnsmasq leases for two minutes at least. */
const RENEW_S = 6;
const REBIND_S = 12;
const WAIT_MS = 60_000;

const missing =
  process.env["CI"] === "true"
    ? undefined
    : (whyNoNetLab() ?? (Bun.which("dnsmasq") === null ? "dnsmasq is not installed" : undefined));
const why = missing === undefined ? whyNot("x64") : ` [skipped: ${missing}]`;

let image: BuiltImage;
beforeAll(async () => {
  if (why === "") image = await buildImage();
}, 10 * 60_000);
afterAll(() => {
  if (why === "") image.remove();
});

/** dnsmasq with one range of addresses; ends with `stop`. */
class Server {
  readonly #child: Bun.Subprocess<"ignore", "ignore", "pipe">;
  #log = "";

  constructor(host: NetHost, folder: string, range: string, more: readonly string[] = []) {
    const words = [
      ...["--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--port=0", "--user=root", "--no-ping"],
      ...[`--dhcp-leasefile=${join(folder, "leases")}`, `--dhcp-range=${range},2m`],
      ...["--interface=tap0", "--bind-interfaces", "--dhcp-option=6,192.0.2.53"],
      ...[`--dhcp-option-force=58,${RENEW_S}`, `--dhcp-option-force=59,${REBIND_S}`, ...more],
    ];
    this.#child = Bun.spawn([...host.prefix, "dnsmasq", "--conf-file=/dev/null", ...words], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    void this.#read();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const bytes of this.#child.stderr) this.#log += decoder.decode(bytes, { stream: true });
  }

  count(pattern: RegExp): number {
    return [...this.#log.matchAll(new RegExp(pattern, "g"))].length;
  }

  async until(pattern: RegExp, times = 1): Promise<void> {
    const endMs = performance.now() + WAIT_MS;
    while (this.count(pattern) < times) {
      if (performance.now() > endMs || this.#child.exitCode !== null)
        throw new Error(`the server did not log ${pattern} ${times} times\n${this.#log.slice(-4_000)}`);
      await Bun.sleep(20);
    }
  }

  async stop(): Promise<void> {
    this.#child.kill();
    await this.#child.exited;
  }
}

test.skipIf(why !== "")(
  `a lease is renewed with its server, then with whoever there is, refused, found anew, and given back${why}`,
  async () => {
    const net = NetLab.create();
    const folder = mkdtempSync(join(tmpdir(), "godwit-dhcp-"));
    let server: Server | undefined;
    try {
      const host = net.host("server");
      host.ip("tuntap", "add", "dev", "tap0", "mode", "tap");
      host.ip("addr", "add", "10.9.0.1/24", "dev", "tap0");
      host.ip("link", "set", "tap0", "up");
      server = new Server(host, folder, "10.9.0.20,10.9.0.29");
      await using guest = await Guest.start({
        image: image.folder,
        inside: host.prefix,
        more: [
          ...["-netdev", "tap,id=lan,ifname=tap0,script=no,downscript=no"],
          ...["-device", "virtio-net-pci,netdev=lan"],
        ],
        words: ["godwit.hostname=dun-a", "godwit.rescue"],
      });
      const [, first] = await guest.hear(/lease interface=eth0 address=(10\.9\.0\.2\d)\/24/);
      const acks = new RegExp(`DHCPACK\\(tap0\\) ${first!.replaceAll(".", "\\.")} \\S+ dun-a`);
      const acked = server.count(acks);
      // Renewed at T1, by a message to the server alone.
      await server.until(acks, acked + 2);
      expect(server.count(/DHCPDISCOVER/)).toBe(1);

      // Its server is gone; at T2 another answers what was sent to all, and knows of the lease.
      await server.stop();
      server = new Server(host, folder, "10.9.0.20,10.9.0.29");
      await server.until(acks);
      expect(server.count(/DHCPDISCOVER/)).toBe(0);

      // A server that leases other addresses: it refuses, the address goes, and another is found.
      await server.stop();
      rmSync(join(folder, "leases"));
      server = new Server(host, folder, "10.9.0.50,10.9.0.59", ["--dhcp-authoritative"]);
      await server.until(/DHCPNAK/);
      await guest.hear(/lease over interface=eth0/, WAIT_MS);
      await guest.hear(/lease interface=eth0 address=10\.9\.0\.5\d\/24/, WAIT_MS);
      guest.say("status");
      await guest.hear(/addresses +10\.9\.0\.5\d\/24 eth0/, WAIT_MS);

      guest.say("poweroff");
      await server.until(/DHCPRELEASE\(tap0\) 10\.9\.0\.5\d/);
      expect(await guest.off()).toBe(0);
    } finally {
      await server?.stop();
      await net.close();
      rmSync(folder, { recursive: true, force: true });
    }
  },
  BOOT_MS + 4 * WAIT_MS,
);
