/** Real nodes with emulated radios in real time, for tests. */
import { expect } from "bun:test";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { Ether, type EtherOptions } from "./ether.ts";
import type { PresetName } from "./plan.ts";
import type { EmulatedRadio } from "./radio.ts";

const cleanups: (() => unknown)[] = [];

/** After each test. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export async function newLab(): Promise<Lab> {
  const lab = await Lab.create();
  cleanups.push(() => lab.close());
  return lab;
}

export function newEther(options: EtherOptions = {}): Ether {
  const ether = new Ether({ preset: PRESET, ...options });
  cleanups.push(() => ether.close());
  return ether;
}

/**
 * `RADIO_PRESET=longFast` is what most radios have. There a hello that two say at once costs the airtime of minutes, and a test that waits for that is none;
 * on this one all is the same but twenty times as fast.
 */
const PRESET = (process.env["RADIO_PRESET"] ?? "shortTurbo") as PresetName;
const TRIES = 3;
const channels = [{ name: "godwit", psk: new Uint8Array(32).fill(7) }];

/** Its own channel, and silent of its own accord, so that what is on the air is ours. */
export async function newRadio(
  ether: Ether,
  options: Parameters<Ether["radio"]>[0] = {},
): Promise<{ radio: EmulatedRadio; port: number }> {
  const radio = ether.radio({
    channels,
    beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 },
    ...options,
  });
  const { port } = await radio.listenTcp();
  return { radio, port };
}

export const tables = ({ port }: { port: number }, more = "") => `
[services.pi]
type = "radio"
connect = "tcp://127.0.0.1:${port}"

[transports.lora]
type = "meshtastic"
radio = "pi"
${more}
`;

export const endpointOf = ({ radio }: { radio: EmulatedRadio }) =>
  `meshtastic://${radio.number.toString(16).padStart(8, "0")}`;

const metrics = async (node: LabNode) => (await node.api("/metrics")).text();

/** Its radio has said what it is: a call that comes before is lost, and the next one has to be earned. */
export const ready = (node: LabNode) =>
  node.until(
    "its radio to be ready",
    async () => (await metrics(node)).includes("godwit_channel_nodes_heard{"),
    20_000,
  );

export const send = (from: LabNode, to: LabNode, text: string) =>
  from.sendBytes(new TextEncoder().encode(text), { to: to.callsign });

export const isDelivered = async (node: LabNode, id: string) =>
  (await node.json<{ state: string }>(`/messages/${id}`)).state === "delivered";

/** A packet that two say at once is lost, and a receipt that was comes again after ten minutes: then another telex is sent. */
export async function delivered(from: LabNode, to: LabNode, text: string, timeoutMs: number): Promise<void> {
  const ids: string[] = [];
  const isOneDelivered = async () => {
    for (const id of ids) if (await isDelivered(from, id)) return true;
    return false;
  };
  for (let tries = 1; ; tries++) {
    ids.push(await send(from, to, text));
    try {
      await from.until(`"${text}" is delivered`, isOneDelivered, timeoutMs, 100);
      break;
    } catch (error) {
      if (tries === TRIES || !from.isRunning) throw error;
    }
  }
  expect(await textsAt(to)).toContain(text);
}

async function textsAt(node: LabNode): Promise<string[]> {
  const inbox = await node.box<{ id: string }>("inbox");
  return Promise.all(inbox.map(async ({ id }) => (await node.api(`/messages/${id}/body`)).text()));
}

export const linksOf = async (node: LabNode, callsign: string) => {
  const { peers } = await node.json<{
    peers: readonly { callsign: string | null; links: readonly { transport: string }[] }[];
  }>("/mesh/peers");
  return (peers.find((peer) => peer.callsign === callsign)?.links ?? []).map(({ transport }) => transport);
};

/** What a node says that it took of the air is what its radio sent, in ms. */
export async function demandAirtime(node: LabNode, { radio }: { radio: EmulatedRadio }): Promise<void> {
  await node.until(
    "its airtime to be what the radio sent",
    async () => {
      const told = /^godwit_plugin_radio_airtime_ms_total (\S+)$/m.exec(await metrics(node))?.[1];
      return Math.abs(Number(told) / radio.airtime.ownMs - 1) < 0.02;
    },
    30_000,
  );
}
