/** The same image for arm64: a virtual machine, and the Raspberry Pi 3B as QEMU knows it (no clock, Ethernet behind USB). */
import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { PackageRoot } from "../../scripts/images/packages.ts";
import { Steps } from "../../scripts/steps.ts";
import { BOOT_MS, Guest, secondsOf, whyNot } from "./guest.ts";
import { api, buildImage, TOKEN_WORD } from "./image.ts";

const API = 8000;
const WORDS = [`godwit.api=0.0.0.0:${API}`, TOKEN_WORD, "godwit.callsign=DUN-A", "godwit.rescue"];
const BOARD_KERNEL = "linux-image-arm64";

const why = whyNot("arm64");

test.skipIf(why !== "")(
  `arm64, a virtual machine: DHCP, an answer, an orderly end${why}`,
  async () => {
    const image = await buildImage("arm64");
    try {
      await using guest = await Guest.start({
        image: image.folder,
        machine: "arm64",
        ports: [API],
        words: WORDS,
      });
      const ready = secondsOf(await guest.hear(/node answers health=ok seconds=([\d.]+)/));
      console.log(`  arm64 virt: kernel start to API ready ${ready} s`);
      for (const { what, bytes, isFile } of image.sizes)
        if (isFile) console.log(`  file ${what}: ${(bytes / 2 ** 20).toFixed(1)} MiB`);
      const { node } = await api<{ node: { callsign: string } }>(guest.port(API), "/mesh/status");
      expect(node.callsign).toBe("DUN-A");
      guest.say("poweroff");
      expect(await guest.off()).toBe(0);
    } finally {
      image.remove();
    }
  },
  3 * BOOT_MS,
);

test.skipIf(why !== "")(
  `arm64, Raspberry Pi 3B: a clock in 1970, Ethernet that appears late${why}`,
  async () => {
    const image = await buildImage("arm64", ["--kernel", BOARD_KERNEL]);
    try {
      const packages = new PackageRoot("arm64", new Steps(undefined));
      const name = await packages.dependency(BOARD_KERNEL, "linux-image-");
      const { folder } = await packages.get(name);
      const tree = join(image.folder, "board.dtb");
      copyFileSync(join(folder, "usr/lib", name, "broadcom/bcm2837-rpi-3-b.dtb"), tree);
      await using guest = await Guest.start({
        image: image.folder,
        machine: "raspi3b",
        ports: [API],
        // QEMU resets this board in the moment in which its watchdog is armed.
        words: [...WORDS, "godwit.watchdog=off"],
        more: ["-dtb", tree],
      });
      await guest.hear(/clock set to the last time known/);
      const ready = secondsOf(await guest.hear(/node answers health=ok seconds=([\d.]+)/));
      console.log(`  raspi3b: kernel start to API ready ${ready} s`);
      if (!/lease interface=\w+/.test(guest.text)) await guest.hear(/lease interface=\w+/);
      const { node } = await api<{ node: { callsign: string } }>(guest.port(API), "/mesh/status");
      expect(node.callsign).toBe("DUN-A");
      // What is typed does not arrive by this board's serial line in QEMU 7.2, so there is no orderly end.
    } finally {
      image.remove();
    }
  },
  4 * BOOT_MS,
);
