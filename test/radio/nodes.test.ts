/** Real nodes that are joined by emulated radios alone: telexes and their receipts through the firmware's queue, its signatures and its limits. */
import { afterEach, expect, test } from "bun:test";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { Ether, type EtherOptions } from "./ether.ts";
import type { PresetName } from "./plan.ts";
import type { EmulatedRadio } from "./radio.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function newLab(): Promise<Lab> {
  const lab = await Lab.create();
  cleanups.push(() => lab.close());
  return lab;
}

function newEther(options: EtherOptions = {}): Ether {
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
async function newRadio(
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

const tables = ({ port }: { port: number }, more = "") => `
[services.pi]
type = "radio"
connect = "tcp://127.0.0.1:${port}"

[transports.lora]
type = "meshtastic"
radio = "pi"
${more}
`;

const endpointOf = ({ radio }: { radio: EmulatedRadio }) =>
  `meshtastic://${radio.number.toString(16).padStart(8, "0")}`;

const metrics = async (node: LabNode) => (await node.api("/metrics")).text();

/** Its radio has said what it is: a call that comes before is lost, and the next one has to be earned. */
const ready = (node: LabNode) =>
  node.until(
    "its radio to be ready",
    async () => (await metrics(node)).includes("godwit_channel_nodes_heard{"),
    20_000,
  );

const send = (from: LabNode, to: LabNode, text: string) =>
  from.sendBytes(new TextEncoder().encode(text), { to: to.callsign });

const isDelivered = async (node: LabNode, id: string) =>
  (await node.json<{ state: string }>(`/messages/${id}`)).state === "delivered";

/** A packet that two say at once is lost, and a receipt that was comes again after ten minutes: then another telex is sent. */
async function delivered(from: LabNode, to: LabNode, text: string, timeoutMs: number): Promise<void> {
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

const linksOf = async (node: LabNode, callsign: string) => {
  const { peers } = await node.json<{
    peers: readonly { callsign: string | null; links: readonly { transport: string }[] }[];
  }>("/mesh/peers");
  return (peers.find((peer) => peer.callsign === callsign)?.links ?? []).map(({ transport }) => transport);
};

/** What a node says that it took of the air is what its radio sent, in ms. */
async function demandAirtime(node: LabNode, { radio }: { radio: EmulatedRadio }): Promise<void> {
  await node.until(
    "its airtime to be what the radio sent",
    async () => {
      const told = /^godwit_plugin_radio_airtime_ms_total (\S+)$/m.exec(await metrics(node))?.[1];
      return Math.abs(Number(told) / radio.airtime.ownMs - 1) < 0.02;
    },
    30_000,
  );
}

test("two nodes with nothing but radios exchange telexes with receipts; bulk stays until there is TCP, which is then preferred", async () => {
  const lab = await newLab();
  const ether = newEther();
  const [one, other] = [await newRadio(ether), await newRadio(ether, { firmware: "2.7" })];
  const a = await lab.add({
    callsign: "AAA-A",
    advertise: [],
    peers: [endpointOf(other)],
    extra: tables(one),
  });
  const b = await lab.add({ callsign: "BBB-B", advertise: [], extra: tables(other) });
  await b.start();
  await ready(b);
  await a.start();
  await delivered(a, b, "over the hill", 60_000);
  await delivered(b, a, "and back", 60_000);
  expect(await linksOf(a, "BBB-B")).toEqual(["meshtastic"]);
  await demandAirtime(a, one);
  await demandAirtime(b, other);

  const bulk = await a.sendBytes(crypto.getRandomValues(new Uint8Array(50_000)), { to: "BBB-B" });
  await a.until(
    "bulk to say that it waits for a faster way",
    async () => {
      const { state, reason } = await a.json<{ state: string; reason: string | null }>(`/messages/${bulk}`);
      return state === "queued" && reason?.includes("faster") === true;
    },
    30_000,
  );
  const onAirMs = one.radio.airtime.ownMs;

  await a.configure([endpointOf(other), b.endpoint]);
  await a.api("/reload", { method: "POST" });
  await a.until("bulk is delivered", () => isDelivered(a, bulk), 30_000);
  await delivered(a, b, "by cable", 10_000);
  expect((await linksOf(a, "BBB-B")).toSorted()).toEqual(["meshtastic", "tcp"]);
  // A route update may go by each link; a message or its acknowledgement would be more.
  expect(one.radio.airtime.ownMs - onAirMs).toBeLessThan(2_000);
}, 240_000);

test("three nodes, of which the one between has a radio and a cable, carry telexes and receipts from one end to the other", async () => {
  const lab = await newLab();
  const ether = newEther({ seed: 2 });
  const [one, between] = [await newRadio(ether), await newRadio(ether)];
  const b = await lab.add({ callsign: "BBB-B", advertise: [], extra: tables(between) });
  const c = await lab.add({ callsign: "CCC-C", advertise: [], peers: [b.endpoint] });
  const a = await lab.add({ callsign: "AAA-A", advertise: [], peers: [b.endpoint], extra: tables(one) });
  // They meet by cable first: to ask for a name by radio takes airtime that is earned in minutes.
  one.radio.unplug();
  await Promise.all([a.start(), b.start(), c.start()]);
  await delivered(a, c, "before it left", 20_000);
  await a.kill("SIGTERM");
  one.radio.plug();
  await a.configure([endpointOf(between)]);
  await ready(b);
  await a.start();
  await delivered(a, c, "from the hill to the harbour", 60_000);
  await delivered(c, a, "and back up", 60_000);
  expect(await linksOf(a, "BBB-B")).toEqual(["meshtastic"]);
  expect(await linksOf(a, "CCC-C")).toEqual([]);
}, 240_000);
