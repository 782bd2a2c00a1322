/**
 * The story of scripts/demo --radio: two islands that have Meshtastic radios alone, each on a preset of its own, and a gateway with a radio
 * for each and a cable to the rest of the mesh. A stranger's radio on a hill carries what it cannot read. The radios are emulated (test/radio), the
 * nodes are real, and so is the time: presets are fast ones, because what is not mail has a small share of the air.
 */
import { Ether } from "../test/radio/ether.ts";
import { decodeLoraFrame } from "../test/radio/lora-frame.ts";
import { presets } from "../test/radio/plan.ts";
import type { EmulatedRadio } from "../test/radio/radio.ts";
import { finishTelex, idOf, secondsSince, sendTelex, type Stage, type TelexReport } from "./demo-stage.ts";
import type { Lab, LabNode } from "./lab.ts";

/** Everybody's budget, percent: more than the default, so that nobody has to wait long before a screen. */
const AIRTIME_PERCENT = 10;
/** A handshake, a question about NYC-C, the telex and its receipt, within budgets. */
const PATIENCE_MS = 240_000;
/** Their own channel: its key is nobody else's. */
const telexChannel = { name: "Telex", psk: new Uint8Array(32).fill(0x54) };

interface AirtimeReport {
  readonly radio: string;
  readonly preset: string;
  readonly frames: number;
  readonly airtimeMs: number;
  /** Of the time since the radios were switched on. */
  readonly percent: number;
}

export interface RadioReport {
  readonly nodes: readonly { readonly callsign: string; readonly id: string; readonly api: string }[];
  readonly telex: readonly TelexReport[];
  readonly airtime: readonly AirtimeReport[];
}

interface Watched {
  readonly preset: string;
  frames: number;
  airtimeMs: number;
}

export class RadioStory {
  readonly #stage: Stage;
  readonly #lab: Lab;
  readonly #north = new Ether({ preset: "shortTurbo", seed: 1 });
  readonly #south = new Ether({ preset: "shortFast", seed: 2 });
  readonly #watched = new Map<EmulatedRadio, Watched>();
  readonly #startMs = performance.now();
  #nodes: readonly LabNode[] = [];

  constructor(stage: Stage, lab: Lab) {
    this.#stage = stage;
    this.#lab = lab;
  }

  async tell(): Promise<RadioReport> {
    const { say, colours } = this.#stage;
    const { bold } = colours;
    const a = this.#radio(this.#north, "DUN-A");
    const hill = this.#radio(this.#north, "a stranger on the hill", { isStranger: true, hears: [a] });
    const north = this.#radio(this.#north, "LON-B north", { hears: [hill] });
    const south = this.#radio(this.#south, "LON-B south");
    const c = this.#radio(this.#south, "NYC-C");

    const par = await this.#lab.add({ callsign: "PAR-D", network: "telex" });
    const lon = await this.#node("LON-B", { north, south }, [par.endpoint]);
    const dun = await this.#node("DUN-A", { lora: a }, [endpointOf(north)]);
    const nyc = await this.#node("NYC-C", { lora: c }, [endpointOf(south)]);
    const nodes = (this.#nodes = [dun, lon, nyc, par]);
    // Whoever calls before the other one listens has spent airtime for nothing.
    await par.start();
    await lon.start();
    await Promise.all([dun, nyc].map((node) => node.start()));
    const ids = await Promise.all(nodes.map(idOf));
    const callsigns = new Map(ids.map((id, at) => [id, nodes[at]!.callsign]));
    say("\nfour nodes are up; two of them have a radio and nothing else:");
    say(
      `  ${bold("DUN-A")}  on the north island, out of the gateway's earshot: a stranger's radio on a hill hears both`,
    );
    say(`  ${bold("LON-B")}  the gateway: a radio for each island, and a cable to PAR-D`);
    say(`  ${bold("NYC-C")}  on the south island`);

    say("\nDUN-A sends a telex to NYC-C, of whom it has never heard: it asks the gateway first");
    say("  about a minute in real time: a radio says little at once, and waits until the channel is free");
    const sent = await sendTelex(dun, "NYC-C", "HELLO NEW YORK STOP BY RADIO ALONE STOP");
    const telex = await finishTelex(this.#stage, dun, sent, callsigns, PATIENCE_MS);

    say("  over LON-B, though nobody noted it: on slow links a note of the way would cost airtime");
    const airtime = this.#airtime();
    const seconds = Math.round(secondsSince(this.#startMs));
    say(
      `\non the air in ${seconds} s, with all that the firmware adds; each node may take ${AIRTIME_PERCENT} % here, and 1 % unless told otherwise:`,
    );
    for (const { radio, preset, frames, airtimeMs, percent } of airtime)
      say(
        `  ${radio.padEnd(22)}  ${preset.padEnd(10)}  ${String(frames).padStart(3)} frames  ${String(airtimeMs).padStart(6)} ms  ${percent.toFixed(1).padStart(4)} %`,
      );
    const report = nodes.map((node, at) => ({ callsign: node.callsign, id: ids[at]!, api: node.apiUrl }));
    return { nodes: report, telex: [telex], airtime };
  }

  async close(): Promise<void> {
    await Promise.all([this.#north, this.#south].map((ether) => ether.close()));
  }

  /** Until Ctrl-C: what to try. */
  get hints(): string {
    const [dun, lon, nyc] = this.#nodes as [LabNode, LabNode, LabNode];
    return `
  dist/godwit send NYC-C "HELLO" --wait --socket ${dun.socketPath}
  dist/godwit inbox --socket ${nyc.socketPath}
  dist/godwit radio airtime --socket ${lon.socketPath}
  dist/godwit radio show --socket ${lon.socketPath}
  dist/godwit peers --socket ${lon.socketPath}
  dist/godwit why NYC-C --socket ${dun.socketPath}
  curl ${lon.apiUrl}/mesh/peers

a radio of your own: docs/radio.md`;
  }

  #radio(
    ether: Ether,
    name: string,
    options: { readonly isStranger?: boolean; readonly hears?: readonly EmulatedRadio[] } = {},
  ): EmulatedRadio {
    const { isStranger = false, hears } = options;
    const radio = ether.radio({
      name,
      region: "US",
      ...(isStranger ? {} : { channels: [telexChannel] }),
      ...(hears === undefined ? {} : { neighbours: hears }),
    });
    const watched: Watched = { preset: presets[ether.preset].channelName, frames: 0, airtimeMs: 0 };
    this.#watched.set(radio, watched);
    ether.medium.onSent = ({ radio: sender, frame, startMs, endMs }) => {
      const sums = this.#watched.get(sender);
      if (sums === undefined || decodeLoraFrame(frame) === undefined) return;
      sums.frames++;
      sums.airtimeMs += endMs - startMs;
    };
    return radio;
  }

  async #node(
    callsign: string,
    radios: Readonly<Record<string, EmulatedRadio>>,
    peers: readonly string[],
  ): Promise<LabNode> {
    let extra = "";
    for (const [name, radio] of Object.entries(radios)) {
      const { port } = await radio.listenTcp();
      extra += `\n[services.radio_${name}]\ntype = "radio"\nconnect = "tcp://127.0.0.1:${port}"\n`;
      extra += `\n[transports.${name}]\ntype = "meshtastic"\nradio = "radio_${name}"\nhops = 1\nairtime_percent = ${AIRTIME_PERCENT}\n`;
    }
    return this.#lab.add({ callsign, advertise: [], network: "telex", peers, extra });
  }

  #airtime(): AirtimeReport[] {
    const passedMs = performance.now() - this.#startMs;
    return [...this.#watched].map(([{ name }, { preset, frames, airtimeMs }]) => ({
      radio: name,
      preset,
      frames,
      airtimeMs: Math.round(airtimeMs),
      percent: (100 * airtimeMs) / passedMs,
    }));
  }
}

const endpointOf = ({ number }: EmulatedRadio): string =>
  `meshtastic://${number.toString(16).padStart(8, "0")}`;
