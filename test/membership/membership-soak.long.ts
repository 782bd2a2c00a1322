/**
 * Half an hour of a quiet mesh beside two processes that keep both processors busy: nobody is given up, and memory does
 * not grow. `MEMBERSHIP_SOAK_MINUTES=n` changes how long.
 */
import { expect, test } from "bun:test";
import { Lab } from "../../scripts/lab.ts";
import { memoryOf } from "../bench/process.ts";
import { MemberWatch, startNodes, untilAgreed } from "./mesh.ts";

const NODES = 8;
const minutes = Number(process.env["MEMBERSHIP_SOAK_MINUTES"] ?? 30);
/** Anonymous memory may grow by this much between the fifth part of the time and its end, MB. */
const GROWTH_MAX_MB = 15;

test(
  `${minutes} minutes under full load: 0 wrongly suspected for good, memory flat`,
  async () => {
    const lab = await Lab.create();
    const burners = [0, 1].map(() => Bun.spawn([process.execPath, "-e", "for (;;);"]));
    try {
      const nodes = await startNodes(lab, NODES, "full");
      await untilAgreed(nodes, 60_000);
      const watches = await Promise.all(nodes.map((node) => MemberWatch.open(node)));
      const memory = () => Math.max(...nodes.map((node) => memoryOf(node.pid!).anonMb));
      await Bun.sleep(minutes * 12_000);
      const earlyMb = memory();
      await Bun.sleep(minutes * 48_000);
      const lateMb = memory();
      const events = watches.flatMap((watch) => watch.events);
      const failures = events.filter(({ type }) => type === "member.failed");
      for (const failure of failures) console.log(`  ${JSON.stringify(failure)}`);
      const wrong = failures.length;
      const suspected = events.filter(({ type }) => type === "member.suspect").length;
      console.log(
        `  ${minutes} minutes: failed ${wrong}, suspected ${suspected}, memory ${earlyMb} -> ${lateMb} MB`,
      );
      expect(wrong).toBe(0);
      expect(lateMb - earlyMb).toBeLessThan(GROWTH_MAX_MB);
      await untilAgreed(nodes, 60_000);
      for (const watch of watches) watch.close();
    } finally {
      for (const burner of burners) burner.kill("SIGKILL");
      await lab.close();
    }
  },
  (minutes + 4) * 60_000,
);
