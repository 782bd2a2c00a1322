/** Godwit as the only program of a machine: a real kernel in QEMU, real DHCP, real watchdog, a real time server. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bunCache } from "../../scripts/build.ts";
import { root, run } from "../../scripts/lib.ts";
import { blockOf, readPage } from "../../scripts/pages.ts";
import { Caller } from "../telex/caller.ts";
import { api, buildImage, type BuiltImage, runDiskTool, TOKEN_WORD } from "./image.ts";
import { BOOT_MS, Guest, secondsOf, whyNot } from "./guest.ts";
import { startTimeServer } from "./time-server.ts";

const API = 8000;
const TELEX = 8023;
const OPEN_API = [`godwit.api=0.0.0.0:${API}`, TOKEN_WORD];

const why = whyNot("x64");
const boots = test.skipIf(why !== "");

let image: BuiltImage;

beforeAll(async () => {
  if (why !== "") return;
  image = await buildImage();
  for (const { what, bytes, isFile } of image.sizes)
    console.log(`  ${isFile ? "file" : "part"} ${what}: ${(bytes / 2 ** 20).toFixed(1)} MiB`);
}, 10 * 60_000);
afterAll(() => {
  if (why === "") image?.remove();
});

const answers = async (port: number): Promise<void> => {
  for (const untilMs = performance.now() + BOOT_MS; ;) {
    try {
      await api(port, "/health");
      return;
    } catch (error) {
      if (performance.now() > untilMs) throw error;
      await Bun.sleep(50);
    }
  }
};

boots(
  `the same sources and packages give the same bytes${why}`,
  async () => {
    const again = await buildImage();
    try {
      const hashes = (folder: string) =>
        ["vmlinuz", "initrd.zst", "cmdline"].map((name) =>
          new Bun.CryptoHasher("sha256").update(readFileSync(join(folder, name))).digest("hex"),
        );
      expect(hashes(again.folder)).toEqual(hashes(image.folder));
    } finally {
      again.remove();
    }
  },
  10 * 60_000,
);

/** In a clone that is thrown away, on a network of its own: 8000 is a port that others have. The packages are there from the image above. */
const asThePageSays = (folder: string) => `set -e
mount -t tmpfs tmpfs ${folder}
mkdir ${folder}/upper ${folder}/work
mount -t overlay overlay -o lowerdir=${root},upperdir=${folder}/upper,workdir=${folder}/work ${root}
ip link set lo up
cd ${root}
page() {
${blockOf(readPage("docs/boot.md"), "./scripts/image initramfs")}
}
page < /dev/null > ${folder}/console 2>&1 &
for try in $(seq 600); do
  if curl -s http://127.0.0.1:8000/health; then exit 0; fi
  kill -0 $! || break
  sleep 0.3
done
cat ${folder}/console
exit 1
`;

boots.skipIf(process.getuid?.() !== 0)(
  `what docs/boot.md says to type boots, and answers${why}`,
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-boot-page-"));
    try {
      const inside = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
      const { code, output } = await run([...inside, "bash", "-c", asThePageSays(folder)], {
        env: { ...process.env, BUN_INSTALL_CACHE_DIR: bunCache() },
        timeoutMs: 10 * 60_000,
      });
      expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining("{") });
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  11 * 60_000,
);

boots(
  `a processor without SSE4.2 is named on the console, and the machine rests there${why}`,
  async () => {
    await using guest = await Guest.start({
      image: image.folder,
      more: ["-cpu", "qemu64"],
      endsOnReset: true,
    });
    await guest.hear(/godwit: this processor lacks SSE4\.2/);
    // A kernel that had panicked would no longer listen to this.
    await guest.press("ctrl", "alt", "delete");
    expect(await guest.off()).toBe(0);
    expect(guest.text).not.toContain("panic");
  },
  BOOT_MS + 10_000,
);

describe("one machine of 320 MB", () => {
  let guest: Guest;

  beforeAll(async () => {
    if (why !== "") return;
    guest = await Guest.start({
      image: image.folder,
      ports: [API],
      words: [
        ...OPEN_API,
        "godwit.callsign=DUN-A",
        "godwit.rescue",
        "godwit.watchdog=40s",
        "foreign=1",
        "godwit.nonsense=1",
      ],
    });
  });
  afterAll(() => (why === "" ? guest[Symbol.asyncDispose]() : undefined));

  // In this order: what the machine does when it is left alone, then what is done to it.
  boots(
    `boots, gets an address by DHCP, answers, survives its node and goes off by its button${why}`,
    async () => {
      await guest.hear(/godwit is pid 1/);
      await guest.hear(/means nothing word="godwit\.nonsense=1"/);
      await guest.hear(/watchdog seconds=20/);
      // The node does not wait for the network: either may come first.
      await guest.said(/lease interface=eth0 address=10\.0\.2\.15\/24/);
      const ready = secondsOf(await guest.hear(/node answers health=ok seconds=([\d.]+)/));
      await answers(guest.port(API));
      console.log(
        `  kernel start to API ready: ${ready} s, ${((performance.now() - guest.startedAtMs) / 1000).toFixed(1)} s of QEMU`,
      );
      const { node } = await api<{ node: { id: string; callsign: string } }>(guest.port(API), "/mesh/status");
      expect(node.callsign).toBe("DUN-A");
      await guest.hear(new RegExp(`node +DUN-A ${node.id}, ok`));
      await guest.hear(/api +http:\/\/10\.0\.2\.15:8000/);
      // By router advertisements of QEMU's network, without a word of ours.
      guest.say("status");
      await guest.hear(/addresses +10\.0\.2\.15\/24 eth0, fec0:\S+\/64 eth0/);

      guest.say("memory");
      const left = await guest.hear(/machine +([\d.]+) MiB available/);
      const own = await guest.hear(/pid 1 +([\d.]+) MiB resident/);
      const its = await guest.hear(/node +([\d.]+) MiB resident/);
      console.log(`  of 320 MB available: ${left[1]} MiB; PID 1 ${own[1]} MiB, node ${its[1]} MiB`);
      expect(Number(left[1])).toBeGreaterThan(20);

      guest.say("kill node");
      await guest.hear(/name=node state=waiting reason="killed at the console; ended by SIGKILL"/);
      await guest.hear(/name=node state=running/);
      await guest.hear(/node answers health=ok/);
      await answers(guest.port(API));
      const again = await api<{ node: { id: string } }>(guest.port(API), "/mesh/status");
      expect(again.node.id).toBe(node.id);

      guest.say("freeze node");
      await guest.hear(/state=waiting reason="did not answer for \d+ s; ended by SIGKILL"/);
      await guest.hear(/node answers health=ok/);
      guest.say("programs");
      await guest.hear(/node +running +pid \d+, 3 starts/);

      await guest.monitor("system_powerdown");
      await guest.hear(/power button/);
      await guest.hear(/name=node state=stopped/);
      await guest.hear(/power off/);
      expect(await guest.off()).toBe(0);
      expect(guest.text).not.toContain("Kernel panic");
    },
    2 * BOOT_MS,
  );
});

boots(
  `a machine without a token shows one on its screen, once, and never on its serial line${why}`,
  async () => {
    // What stands on the screen, for us alone: the serial line is what a cloud keeps.
    const look = "/bin/busybox sleep 5; /bin/busybox fold -w 80 /dev/vcs1";
    await using guest = await Guest.start({
      image: image.folder,
      ports: [API],
      words: [
        ...["console=tty0", "console=ttyS0", `godwit.api=0.0.0.0:${API}`, "godwit.rescue"],
        `"godwit.machine.programs=[{name='screen',command=['/bin/busybox','sh','-c','${look}']}]"`,
      ],
    });
    await guest.hear(/node answers health=ok/);
    await guest.said(/lease interface=eth0/);
    const [, shown] = await guest.hear(/screen \|\s+token +(gwt_[a-z2-7]+)/);
    const called = (secret: string) =>
      fetch(`http://127.0.0.1:${guest.port(API)}/tokens`, { headers: { authorization: `Bearer ${secret}` } });
    const { tokens } = (await (await called(shown!)).json()) as { tokens: { label: string }[] };
    expect(tokens.map(({ label }) => label)).toEqual(["shown at the first start"]);
    // The node after this one finds it.
    guest.say("kill node");
    await guest.hear(/node answers health=ok/);
    guest.say("token");
    await guest.hear(/this console is ttyS0: who keeps what it says keeps the token/);
    const others = () =>
      guest.text.split("\n").filter((line) => line.includes("gwt_") && !line.includes("screen |"));
    expect(others()).toEqual([]);
    guest.say("token anyway");
    const [, made] = await guest.hear(/\n {2}token +(gwt_[a-z2-7]+)\s/);
    expect(made).not.toBe(shown);
    expect((await called(made!)).status).toBe(200);
    guest.say("poweroff");
    expect(await guest.off()).toBe(0);
  },
  2 * BOOT_MS,
);

boots(
  `two machines on one cable become peers and exchange a telex; one without its node is reset by the watchdog${why}`,
  async () => {
    const folder = `${image.folder}/..`;
    const cable = (own: string, other: string, mac: string) => [
      ...[
        "-netdev",
        `dgram,id=cable,local.type=unix,local.path=${folder}/${own},remote.type=unix,remote.path=${folder}/${other}`,
      ],
      ...["-device", `virtio-net-pci,netdev=cable,mac=52:54:00:00:00:0${mac}`],
    ];
    const telex = [
      "godwit.services.telex.type=telex",
      `godwit.services.telex.listen=0.0.0.0:${TELEX}`,
      "godwit.services.telex.allow_from=['10.0.2.0/24']",
    ];
    const common = [
      ...OPEN_API,
      ...telex,
      "godwit.network=telex",
      "godwit.net=eth0=dhcp",
      "godwit.rescue",
      "godwit.watchdog=20s",
    ];
    await using a = await Guest.start({
      image: image.folder,
      ports: [API, TELEX],
      words: [...common, "godwit.callsign=DUN-A", "godwit.net=eth1=10.99.0.1/24"],
      more: cable("a", "b", "1"),
    });
    await using b = await Guest.start({
      image: image.folder,
      ports: [API, TELEX],
      words: [
        ...common,
        "godwit.callsign=LON-B",
        "godwit.net=eth1=10.99.0.2/24",
        "godwit.peer=tcp://10.99.0.1:4860",
      ],
      more: cable("b", "a", "2"),
    });
    const first = secondsOf(await b.hear(/peers connected=1 seconds=([\d.]+)/));
    console.log(`  kernel start to first peer: ${first} s (two machines booting at once)`);
    // Callers come by the other interfaces, which have their own pace.
    for (const guest of [a, b]) await guest.said(/lease interface=eth0/);
    const reader = await Caller.call(b.port(TELEX));
    reader.say("live on\r\n");
    const writer = await Caller.call(a.port(TELEX));
    writer.say("send LON-B ALL WELL OVER ONE CABLE\r\n");
    await writer.hear(/accepted [0-9a-f]+/, BOOT_MS);
    await writer.hear(/delivered [0-9a-f]+ by LON-B/, BOOT_MS);
    await reader.hear(/DUN-A/, BOOT_MS);
    reader.say("read 1\r\n");
    await reader.hear(/ALL WELL OVER ONE CABLE/, BOOT_MS);
    reader.hangUp();
    writer.hangUp();

    b.say("stop node");
    await b.hear(/name=node state=stopped/);
    await b.hear(/the watchdog is not fed/);
    await b.hear(/godwit is pid 1/);
    await b.hear(/node answers health=ok/);
    await b.hear(/peers connected=1/);
    // What the console said between the two is the end of one boot and the start of another, with nothing orderly.
    expect(b.text.split("godwit is pid 1")).toHaveLength(3);
    expect(b.text).not.toContain("power off");

    a.say("poweroff");
    expect(await a.off()).toBe(0);
  },
  3 * BOOT_MS,
);

boots(
  `a clock in 1970 is set to the image's age, holds back what needs the time, is right after a time server's word, and knows it after a restart without any network; SIGTERM, Ctrl-Alt-Del and SIGPWR end it in order${why}`,
  async () => {
    await using server = await startTimeServer();
    const disk = join(image.folder, "state.img");
    expect((await runDiskTool(["mke2fs", "-q", "-t", "ext4", "-L", "perm", disk, "64M"])).code).toBe(0);
    const options = {
      image: image.folder,
      more: ["-rtc", "base=1970-01-01T00:00:00", "-drive", `file=${disk},if=virtio,format=raw`],
      words: [
        ...OPEN_API,
        "godwit.rescue",
        "godwit.state=LABEL=perm",
        `godwit.time=10.0.2.2:${server.port}`,
        `godwit.machine.programs=[${[
          "{name='needy',command=['/godwit','version'],needs_clock=true}",
          "{name='manager',command=['/bin/signal-pid1','TERM']}",
          "{name='ups',command=['/bin/signal-pid1','PWR']}",
        ].join(",")}]`,
      ],
    };
    await using guest = await Guest.start({ ...options, ports: [API] });
    await guest.hear(/clock set to the last time known saved=false/);
    await guest.hear(/name=needy state=held reason="the clock is not known yet"/);
    await guest.hear(/node answers health=ok/);
    server.start();
    await guest.hear(/clock server=10\.0\.2\.2:\d+ step_seconds=\d+/);
    await guest.hear(/name=needy state=running/);
    await guest.hear(/clock +from a time server/);
    // The HTTP server of the node keeps a date for a second or so.
    const isRight = async (): Promise<boolean> => {
      const { headers } = await fetch(`http://127.0.0.1:${guest.port(API)}/health`);
      return Math.abs(Date.parse(headers.get("date")!) - Date.now()) < 30_000;
    };
    for (const untilMs = performance.now() + BOOT_MS; !(await isRight()); await Bun.sleep(100))
      expect(performance.now()).toBeLessThan(untilMs);
    guest.say("stop manager"); // Sends SIGTERM to PID 1.
    await guest.hear(/ending how=powerOff/);
    await guest.hear(/name=node state=stopped/);
    expect(await guest.off()).toBe(0);
    // Unmounted: there is nothing in its journal to be done.
    const checked = await runDiskTool(["e2fsck", "-fn", disk]);
    expect(checked.output).not.toContain("journal");
    expect(checked.code).toBe(0);

    await using again = await Guest.start(options);
    await again.hear(/state mounted device=\/dev\/vda/);
    await again.hear(/clock set to the last time known saved=true/);
    // Of a log line the time of day; the first is of 1970, the last of today.
    const dayTime = /(\d\d):(\d\d):\d\d\.\d{3} info {2}clock set to the last time known saved=true/.exec(
      again.text,
    )!;
    const minutes = Number(dayTime[1]) * 60 + Number(dayTime[2]);
    const now = new Date();
    const apart = Math.abs(now.getUTCHours() * 60 + now.getUTCMinutes() - minutes);
    expect(Math.min(apart, 24 * 60 - apart)).toBeLessThan(15);
    await again.hear(/node answers health=/);
    await again.hear(/addresses +none yet/);
    await again.press("ctrl", "alt", "delete");
    await again.hear(/ending how=restart/);
    await again.hear(/name=node state=stopped/);
    await again.hear(/godwit is pid 1/);
    await again.hear(/state mounted device=\/dev\/vda/);
    await again.hear(/node answers health=/);
    again.say("stop ups"); // Sends SIGPWR to PID 1.
    await again.hear(/power is failing/);
    expect(await again.off()).toBe(0);
    expect(guest.text).not.toContain("Kernel panic");
  },
  3 * BOOT_MS,
);
