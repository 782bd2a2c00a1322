/**
 * Twenty agents of Serf and five nodes beside two processes that keep both processors busy: nobody is failed who is there, and memory does not grow.
 * `SERF_SOAK_MINUTES=n` changes how long.
 */
import { expect, test } from "bun:test";
import { memoryOf } from "../bench/process.ts";
import { agree, SerfNet, type SerfNode, until, whyNoSerf } from "./serf-net.ts";

const AGENTS = 20;
const NODES = 5;
const minutes = Number(process.env["SERF_SOAK_MINUTES"] ?? 30);
/** Anonymous memory of a node may grow by this much between the fifth part of the time and its end, MB. */
const GROWTH_MAX_MB = 15;

test(
  `${minutes} minutes under full load: ${AGENTS} agents and ${NODES} nodes, 0 false failures`,
  async () => {
    const why = whyNoSerf();
    if (why !== undefined) throw new Error(why);
    const net = await SerfNet.open();
    const burners = [0, 1].map(() => Bun.spawn([process.execPath, "-e", "for (;;);"]));
    try {
      for (let i = 0; i < AGENTS; i++) net.agent(`agent-${i}`);
      const seed = net.agents[0]!;
      await seed.start();
      for (const agent of net.agents.slice(1)) await agent.start({ start_join: [seed.address] });
      const nodes: SerfNode[] = [];
      for (let i = 0; i < NODES; i++) nodes.push(await net.node(`DUN-${i}`, `join = ["${seed.address}"]`));
      for (const node of nodes) await node.start();
      const alive = Object.fromEntries([...net.agents, ...nodes].map(({ name }) => [name, "alive"]));
      await until("all agree", () => agree(net, alive), 120_000, 1_000);
      for (const { log } of net.agents) log.length = 0;
      const memory = () => Math.max(...nodes.map((node) => memoryOf(node.lab.pid!).anonMb));
      let failures = 0;
      const count = () => {
        for (const { log } of net.agents) {
          failures += log.filter((line) => line.includes("EventMemberFailed")).length;
          log.length = 0;
        }
      };
      let earlyMb = 0;
      for (let tenths = 0; tenths < minutes * 6; tenths++) {
        await Bun.sleep(10_000);
        count();
        if (earlyMb === 0 && tenths >= (minutes * 6) / 5) earlyMb = memory();
        for (const node of nodes)
          for (const { name, status } of await node.members())
            if (status !== "alive") {
              failures++;
              console.log(`  ${node.name} sees ${name} ${status}`);
            }
      }
      const lateMb = memory();
      console.log(`  ${minutes} minutes: ${failures} false failures, memory ${earlyMb} -> ${lateMb} MB`);
      expect(failures).toBe(0);
      expect(lateMb - earlyMb).toBeLessThan(GROWTH_MAX_MB);
      await until("all agree", () => agree(net, alive), 60_000, 1_000);
    } finally {
      for (const burner of burners) burner.kill("SIGKILL");
      await net.close();
    }
  },
  (minutes + 6) * 60_000,
);
