/**
 * What a member names in its signed record, and what the nodes that hear of it then connect to: DUN-A hears of NYC-C through LON-B and wants a
 * link to it. Everything that it names is a trap on DUN-A's own machine and in its network.
 */
import { afterAll, expect } from "bun:test";
import { join } from "node:path";
import type { LabNode } from "../../scripts/lab.ts";
import type { NetHost } from "../../scripts/netlab-parts.ts";
import { closeMeshes, scenario } from "../net/net-mesh.ts";
import { metricOf } from "./watch.ts";

afterAll(closeMeshes);

interface Call {
  readonly at: string;
  readonly said: string;
}

interface WhyAnswer {
  readonly skipped: { readonly endpoint: string; readonly reason: string }[];
}

class Trap implements AsyncDisposable {
  readonly calls: Call[] = [];
  readonly ports: readonly number[];
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;

  private constructor(child: Bun.Subprocess<"pipe", "pipe", "inherit">, ports: readonly number[]) {
    this.#child = child;
    this.ports = ports;
  }

  static async open(host: NetHost, addresses: readonly string[]): Promise<Trap> {
    const command = [process.execPath, join(import.meta.dir, "trap.ts"), ...addresses];
    const child = Bun.spawn(["ip", "netns", "exec", host.namespace, ...command], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    const first = Promise.withResolvers<Trap>();
    void (async () => {
      let trap: Trap | undefined;
      let rest = "";
      for await (const bytes of child.stdout) {
        const lines = (rest + new TextDecoder().decode(bytes)).split("\n");
        rest = lines.pop()!;
        for (const line of lines) {
          const value: unknown = JSON.parse(line);
          if (trap !== undefined) trap.calls.push(value as Call);
          else first.resolve((trap = new Trap(child, value as number[])));
        }
      }
      first.reject(new Error("the trap ended"));
    })();
    return await first.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

const skippedAt = async (node: LabNode, about: string): Promise<WhyAnswer["skipped"]> =>
  (await node.json<WhyAnswer>(`/mesh/routes/${about}/why`)).skipped;

scenario(
  "a record that names this machine, its network and the cloud's keys makes nobody ask there",
  async (mesh) => {
    const lan = mesh.net.lan("lan");
    const [a, b, c] = [mesh.net.host("DUN-A"), mesh.net.host("LON-B"), mesh.net.host("NYC-C")];
    const ownPort = lan.join(a);
    const hub = lan.join(b);
    lan.join(c);
    a.ip("link", "set", "lo", "up");
    const own = ownPort.addresses.v4!;
    await using trap = await Trap.open(a, ["127.0.0.1", own]);
    const [local, near] = trap.ports as [number, number];
    const web = (lines: string) => `[transports.web]\ntype = "websocket"\n${lines}`;
    await mesh.start(b, [], { isPublic: true });
    const node = await mesh.start(a, [hub.endpoint("v4")], {
      isPublic: true,
      linksWanted: 4,
      extra: web(""),
    });
    // By address, by name, and by other spellings of an address.
    const places = [
      `ws://127.0.0.1:${local}/any/path`,
      `ws://localhost:${local}/godwit`,
      `ws://2130706433:${local}/godwit`,
      `ws://[::ffff:127.0.0.1]:${local}/godwit`,
      `ws://${own}:${near}/any/path`,
      "ws://169.254.169.254/godwit",
    ];
    // The one that may be asked: what proves that the others were not is that this one was.
    const allowed = `ws://${own}:${near}/godwit`;
    const listed = JSON.stringify([allowed, ...places]);
    await mesh.start(c, [hub.endpoint("v4")], {
      isPublic: false,
      extra: web(`listen = ["0.0.0.0:1"]\nadvertise = ${listed}`),
    });
    await mesh.untilWhole();
    await node.until(
      "the allowed one to be asked",
      async () => trap.calls.some(({ said }) => said !== ""),
      60_000,
    );
    await node.until(
      "all others to be skipped",
      async () => (await skippedAt(node, "NYC-C")).length >= places.length,
      60_000,
    );
    const skipped = await skippedAt(node, "NYC-C");
    expect(skipped.map(({ endpoint }) => endpoint).toSorted()).toEqual(places.toSorted());
    for (const { reason } of skipped) expect(reason).toMatch(/loopback|metadata|path/);
    const said = trap.calls.filter((call) => call.said !== "").map((call) => call.said.split("\r\n")[0]);
    expect(new Set(said)).toEqual(new Set(["GET /godwit HTTP/1.1"]));
    expect(trap.calls.filter(({ at }) => at === "127.0.0.1")).toEqual([]);
    for (const reason of ["loopback", "path"])
      expect(await metricOf(node, `godwit_endpoints_skipped_total{reason="${reason}"}`)).toBeGreaterThan(0);
  },
);
