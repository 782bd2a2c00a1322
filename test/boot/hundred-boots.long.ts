/** A hundred boots of one machine, each to a node that answers and an orderly end. GODWIT_BOOT_COUNT changes it. */
import { expect, test } from "bun:test";
import { BOOT_MS, Guest, secondsOf, whyNot } from "./guest.ts";
import { buildImage } from "./image.ts";

const BOOTS = Number(process.env["GODWIT_BOOT_COUNT"] ?? 100);

const why = whyNot("x64");

test.skipIf(why !== "")(
  `${BOOTS} boots${why}`,
  async () => {
    const image = await buildImage();
    try {
      const seconds: number[] = [];
      for (let boot = 0; boot < BOOTS; boot++) {
        await using guest = await Guest.start({
          image: image.folder,
          ports: [8000],
          words: ["godwit.rescue"],
        });
        seconds.push(secondsOf(await guest.hear(/node answers health=ok seconds=([\d.]+)/)));
        if (!guest.text.includes("lease interface=eth0")) await guest.hear(/lease interface=eth0/);
        guest.say("poweroff");
        expect(await guest.off()).toBe(0);
        expect(guest.text).not.toMatch(/Kernel panic|a fault of PID 1| error boot/);
      }
      seconds.sort((a, b) => a - b);
      console.log(
        `  kernel start to API ready over ${BOOTS} boots: median ${seconds[BOOTS >> 1]} s, minimum ${seconds[0]} s, maximum ${seconds.at(-1)} s`,
      );
    } finally {
      image.remove();
    }
  },
  BOOTS * BOOT_MS,
);
