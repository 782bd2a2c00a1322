/**
 * What only Debian's own kernel, 6.1, can show, all in one machine in QEMU that has nothing but an image: the kernel's
 * WireGuard, against a node here whose tunnel is wireguard-go's; the daemons of Debian's packages, which its node runs itself;
 * and the attacks of test/sandbox, for Landlock has its second version there, so more is left to seccomp.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, Lab } from "../../scripts/lab.ts";
import { root, run } from "../../scripts/lib.ts";
import { Guest, whyNot } from "../boot/guest.ts";
import { api, buildImage, type BuiltImage, TOKEN_WORD } from "../boot/image.ts";
import { ATTACK_NAMES, ENDINGS } from "../sandbox/attack-list.ts";
import { delivers, entryAt, nodeOf, whyNoWireguard, type WgSelf } from "../wireguard/wg-net.ts";

const API = 8_000;
/** Of QEMU's own network: this machine, as the guest sees it. */
const HERE = "10.0.2.2";
const SUITE_MS = 600_000;
const WAIT_MS = 90_000;
const LOOK_MS = 200;
/** Two nodes with their daemons, and an attack that takes all the memory it gets. */
const MEMORY_MIB = 1_280;

const missing = process.env["CI"] === "true" ? undefined : whyNoWireguard;
const why = missing === undefined ? whyNot("x64") : ` [skipped: ${missing}]`;

interface Shown {
  readonly interface: string;
  readonly address: string;
  readonly peers: readonly { handshake_seconds: number | null; preshared: boolean; received_bytes: number }[];
}
interface Status {
  readonly transports: readonly {
    name: string;
    state: string;
    reason: string | null;
    listen: readonly string[];
  }[];
}
interface Judged {
  readonly attack: string;
  readonly result: string;
  readonly ok: boolean;
}
interface PeerRows {
  readonly peers: readonly { links: readonly { address: string }[] }[];
}

/** `gate`, a program that waits to be stopped; then `attacks` begins. Until then the machine is the other tests'. */
const GATE = `#!/bin/busybox sh
trap "/bin/busybox touch /run/attack; exit 0" TERM
while :; do /bin/busybox sleep 1; done
`;
const attacks = (reportPort: number) => `#!/bin/busybox sh
while ! /bin/busybox test -e /run/attack; do /bin/busybox sleep 1; done
/attacks/attack-run /godwit /attacks/attacks.gwp --report http://${HERE}:${reportPort}/ ||
  /bin/busybox wget -q -O - --post-data '[]' http://${HERE}:${reportPort}/
while :; do /bin/busybox sleep 1; done # Not again, beside other tests.
`;

/** The hostile plugin, the program that tries everything, and what is attacked: it has to be there, or an attack fails for want of it. */
async function layAttacks(overlay: string, reportPort: number): Promise<void> {
  const folder = join(overlay, "attacks");
  const built = await run([process.execPath, "test/sandbox/attack-run.ts", "--build", folder], { cwd: root });
  expect([built.code, built.output]).toEqual([0, ""]);
  chmodSync(join(folder, "attack-run"), 0o755);
  writeFileSync(join(folder, "gate"), GATE, { mode: 0o755 });
  writeFileSync(join(folder, "attacks"), attacks(reportPort), { mode: 0o755 });
  writeFileSync(join(overlay, "etc/shadow"), "root:*:1::::::\n", { mode: 0o640 });
  writeFileSync(join(overlay, "etc/passwd"), "root:x:0:0:root:/:/none\n", { mode: 0o644 });
  mkdirSync(join(overlay, "bin"));
  symlinkSync("/godwit", join(overlay, "bin/true"));
}

let lab: Lab;
let overlay: string;
let image: BuiltImage;
let here: WgSelf;
let guest: Guest;
/** Where the attacks of the guest are told, each with what came of it. */
let reports: Bun.Server<undefined>;
const judged = Promise.withResolvers<readonly Judged[]>();
const call = <T>(path: string, body?: unknown) => api<T>(guest.port(API), path, body);
const until = (what: string, look: () => Promise<boolean>) => here.node.until(what, look, WAIT_MS, LOOK_MS);
const transport = async (name: string) =>
  (await call<Status>("/mesh/status")).transports.find((one) => one.name === name)!;

beforeAll(async () => {
  if (why !== "") return;
  lab = await Lab.create();
  const port = freePort();
  here = await nodeOf(lab, "AAA-A", undefined, `port = ${port}\nadvertise = ["${HERE}:${port}"]`);
  await here.node.start();
  overlay = mkdtempSync(join(tmpdir(), "godwit-overlay-"));
  mkdirSync(join(overlay, "etc/godwit"), { recursive: true });
  const known = [`tcp://${HERE}:${here.node.linkPort}`, entryAt(here, [`${HERE}:${port}`])];
  writeFileSync(
    join(overlay, "etc/godwit/godwit.toml"),
    `[node]\ncallsign = "BBB-B"\nnetwork = "lab"\n
[transports.lan]\ntype = "tcp"\n
[transports.wg]\ntype = "wireguard"\nmode = "kernel"\n
[transports.ygg]\ntype = "yggdrasil"\nmode = "supervised"\n
[transports.onion]\ntype = "tor"\nmode = "supervised"\n
[[machine.programs]]\nname = "tunnel"\ncommand = ["/usr/bin/wireguard-go", "-f", "wg9"]\n
[[machine.programs]]\nname = "gate"\ncommand = ["/attacks/gate"]\n
[[machine.programs]]\nname = "attacks"\ncommand = ["/attacks/attacks"]\n
[discovery.known]\ntype = "static"\npeers = ${JSON.stringify(known)}\n`,
  );
  reports = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      judged.resolve((await request.json()) as readonly Judged[]);
      return new Response("taken");
    },
  });
  await layAttacks(overlay, reports.port!);
  const programs = ["tor", "yggdrasil", "wireguard-go"].flatMap((name) => ["--package", name]);
  image = await buildImage("x64", ["--overlay", overlay, ...programs]);
  guest = await Guest.start({
    image: image.folder,
    memoryMiB: MEMORY_MIB,
    ports: [API],
    words: [`godwit.api=0.0.0.0:${API}`, TOKEN_WORD, "godwit.rescue"],
  });
  await guest.hear(/node answers health=/);
}, SUITE_MS);
afterAll(async () => {
  if (why !== "") return;
  try {
    await guest?.[Symbol.asyncDispose]();
    await reports?.stop(true);
    await lab?.close();
  } finally {
    image?.remove();
    if (overlay !== undefined) rmSync(overlay, { recursive: true, force: true });
  }
});

test.skipIf(why !== "")(
  `a node on a kernel with the module links to one on wireguard-go${why}`,
  async () => {
    const { node } = here;
    const show = () => call<Shown>("/plugins/wireguard/requests", { request: "show", instance: "wg" });
    await until("the guest by its name", async () => {
      const { state, reason } = await transport("wg");
      if (state !== "running") throw new Error(`${state}: ${reason}`);
      const { names } = await node.json<{ names: { name: string }[] }>("/mesh/names");
      return names.some(({ name }) => name === "BBB-B");
    });
    await until("a handshake and a preshared key", async () =>
      (await show()).peers.some((peer) => peer.handshake_seconds !== null && peer.preshared),
    );
    await until("a link inside the tunnel", async () =>
      (await node.json<PeerRows>("/mesh/peers")).peers.some(({ links }) =>
        links.some(({ address }) => address.startsWith("wg://")),
      ),
    );
    await delivers(node, { callsign: "BBB-B" }, WAIT_MS);
    const shown = await show();
    expect(shown.peers).toHaveLength(1);
    expect(shown.peers[0]!.received_bytes).toBeGreaterThan(0);

    // The node crashes, the interface stays: the next life takes it over as it is, sessions and all.
    guest.say("kill node");
    await guest.hear(/name=node state=running/);
    await guest.hear(/interface adopted/);
    await until("the same interface", async () => (await show()).interface === shown.interface);
    await delivers(node, { callsign: "BBB-B" }, WAIT_MS);
    console.log(`  ${shown.interface} ${shown.address}: ${JSON.stringify(shown.peers[0])}`);
  },
  SUITE_MS,
);

test.skipIf(why !== "")(
  `Debian's yggdrasil and tor run under the node, wireguard-go under PID 1, all from the image${why}`,
  async () => {
    const says = (name: string, pattern: RegExp) =>
      until(`${name} to run`, async () => {
        const { state, reason, listen } = await transport(name);
        const text = `${state}: ${reason ?? "fine"} ${listen.join(" ")}`;
        if (!pattern.test(text)) throw new Error(text);
        return true;
      });
    // Nobody is out there, so these get no further; but they say themselves how far they are.
    await says("ygg", /connected to nobody/);
    await says("onion", /bootstrap|\d+ ?%/i);
    guest.say("programs");
    await guest.hear(/tunnel +running +pid \d+, 1 start/);
    guest.say("kill tunnel");
    await guest.hear(/name=tunnel state=waiting reason="killed at the console; ended by SIGKILL"/);
    await guest.hear(/name=tunnel state=running/);
    const names = await Promise.all(["ygg", "onion"].map(transport));
    console.log(
      `  ${names.map(({ name, state, reason }) => `${name} ${state}: ${reason ?? "fine"}`).join("; ")}`,
    );
  },
  SUITE_MS,
);

test.skipIf(why !== "")(
  `no attack works on Debian's kernel, and none ends more than the plugin${why}`,
  async () => {
    const startedMs = performance.now();
    guest.say("stop gate");
    const rows = await judged.promise;
    if (rows.length === 0) throw new Error(`the attacks crashed\n${guest.text.slice(-6_000)}`);
    const names = new Set(rows.map(({ attack }) => attack));
    for (const name of [...ATTACK_NAMES, ...ENDINGS.map((ending) => ending.name)])
      expect(names).toContain(name);
    expect(rows.filter(({ ok }) => !ok)).toEqual([]);
    const kernel = /godwit is pid 1 kernel=(\S+)/.exec(guest.text)?.[1];
    console.log(
      `  ${names.size} attacks on ${kernel ?? "?"} in ${((performance.now() - startedMs) / 1_000).toFixed(0)} s`,
    );
  },
  SUITE_MS,
);
