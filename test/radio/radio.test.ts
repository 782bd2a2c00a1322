/** Real nodes that are joined by radios alone: telexes and their receipts through the stream API, the queue and the budget. */
import { afterEach, expect, test } from "bun:test";
import { FakeEther, FakeRadio, type FakeRadioOptions } from "../../plugins/service-radio/testing.ts";
import { Lab, type LabNode } from "../../scripts/lab.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function newLab(): Promise<Lab> {
  const lab = await Lab.create();
  cleanups.push(() => lab.close());
  return lab;
}

function newRadio(ether: FakeEther, options?: FakeRadioOptions): FakeRadio {
  const radio = new FakeRadio(ether, options);
  cleanups.push(() => radio.close());
  return radio;
}

const tables = (radio: FakeRadio, more = "") => `
[services.pi]
type = "radio"
connect = "tcp://127.0.0.1:${radio.port}"

[transports.lora]
type = "meshtastic"
radio = "pi"
${more}
`;

const hex = (radio: FakeRadio) => `meshtastic://${radio.number.toString(16).padStart(8, "0")}`;

async function delivered(from: LabNode, to: LabNode, text: string, timeoutMs: number): Promise<void> {
  const id = await from.sendBytes(new TextEncoder().encode(text), { to: to.callsign });
  await from.until(
    `"${text}" is delivered`,
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    timeoutMs,
  );
  const inbox = await to.box<{ id: string }>("inbox");
  const bodies = await Promise.all(
    inbox.map(async ({ id: one }) => (await to.api(`/messages/${one}/body`)).text()),
  );
  expect(bodies).toContain(text);
}

/** Its radio has said what it is: a call that comes before is lost, and the next one has to be earned. */
const ready = (node: LabNode) =>
  node.until(
    "its radio to be ready",
    async () => (await (await node.api("/metrics")).text()).includes("godwit_channel_nodes_heard{"),
    20_000,
  );

interface PeersBody {
  readonly peers: readonly {
    readonly callsign: string | null;
    readonly links: readonly { readonly transport: string; readonly address: string }[];
  }[];
}

test("two nodes with nothing but LongFast radios exchange telexes with receipts", async () => {
  const lab = await newLab();
  const ether = new FakeEther();
  const [one, other] = [newRadio(ether), newRadio(ether)];
  const a = await lab.add({ callsign: "AAA-A", advertise: [], peers: [hex(other)], extra: tables(one) });
  const b = await lab.add({ callsign: "BBB-B", advertise: [], extra: tables(other) });
  await b.start();
  await ready(b);
  await a.start();
  await delivered(a, b, "over the hill", 60_000);
  await delivered(b, a, "and back", 60_000);
  const { peers } = await a.json<PeersBody>("/mesh/peers");
  expect(peers.find(({ callsign }) => callsign === "BBB-B")?.links[0]?.transport).toBe("meshtastic");
  for (const { packet } of ether.sent) {
    expect(packet.payloadVariant.case).toBe("decoded");
    if (packet.payloadVariant.case !== "decoded") continue;
    const port: number = packet.payloadVariant.value.portnum;
    expect(port).toBe(413);
    expect(packet.payloadVariant.value.payload.length).toBeLessThanOrEqual(200);
  }
  expect([...one.heartbeatNonces, ...other.heartbeatNonces].every((nonce) => nonce === 0)).toBe(true);
}, 150_000);
