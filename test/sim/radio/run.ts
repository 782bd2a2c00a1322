/**
 * `bun run sim:radio [SCENARIO...] [--seed N [--count N]] [--mtu BYTES] [--own SHARE] [--modem] [--beacons] [--firmware] [--json]`: worlds on radio channels
 * (scenarios.ts), a few lines for each: mail, airtime by what it was for, what was repeated too early. `--own`: of the airtime for
 * each node, 0 to 1; `--modem`: a bare modem with datagrams of 508 bytes and no signatures; `--beacons`: nobody has an endpoint written
 * down, all have to hear of each other; `--firmware`: over emulated Meshtastic radios, every second of 2.7, and the plugins as they are. Exit 1 where an oracle found a fault.
 */
import { parseArgs } from "node:util";
import { firmwareAir } from "../../radio/mesh-air.ts";
import { bareModem } from "./lora.ts";
import { reportLines } from "./report.ts";
import type { RadioWorldOptions } from "./options.ts";
import { scenarios } from "./scenarios.ts";
import { RadioWorld } from "./world.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string", default: "1" },
    count: { type: "string", default: "1" },
    mtu: { type: "string" },
    own: { type: "string" },
    modem: { type: "boolean", default: false },
    firmware: { type: "boolean", default: false },
    beacons: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

/** A promise that nobody waits for failed: in a node that is a crash. */
const unhandled: string[] = [];
process.on("unhandledRejection", (error) => {
  unhandled.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
});

let failed = 0;
for (const name of positionals.length > 0 ? positionals : Object.keys(scenarios)) {
  const scenario = scenarios[name];
  if (scenario === undefined)
    throw new Error(`no scenario ${name}; there are ${Object.keys(scenarios).join(", ")}`);
  const changed = {
    ...(values.modem ? { overhead: bareModem, mtu: 508 } : {}),
    ...(values.firmware
      ? { newAir: firmwareAir((node) => ({ firmware: node % 2 === 0 ? "2.8" : "2.7" })) }
      : {}),
    ...(values.mtu === undefined ? {} : { mtu: Number(values.mtu) }),
    ...(values.beacons ? { isConfigured: false } : {}),
    ...(values.own === undefined ? {} : { ownShare: Number(values.own), dutyCycle: 1 }),
  };
  for (let i = 0; i < Number(values.count); i++)
    await run(name, { ...scenario(Number(values.seed) + i), ...changed });
}
process.exit(failed === 0 ? 0 : 1);

async function run(name: string, options: RadioWorldOptions): Promise<void> {
  const before = process.cpuUsage();
  const found = new RadioWorld(options).run();
  await Bun.sleep(0);
  const rejections = unhandled.splice(0).map((text) => `nobody handled: ${text}`);
  const result = { ...found, faults: [...found.faults, ...new Set(rejections)] };
  const { user, system } = process.cpuUsage(before);
  if (result.faults.length > 0) failed++;
  if (values.json) console.log(JSON.stringify({ scenario: name, seed: options.seed, ...result }));
  else
    for (const line of reportLines(`${name} ${options.seed}`, result, (user + system) / 1e6))
      console.log(line);
}
