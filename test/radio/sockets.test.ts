/** A radio's ports in real time: TCP, and a pseudo-terminal that any program opens as a serial port. */
import { afterEach, expect, test } from "bun:test";
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSerial } from "@godwit/sdk/serial";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { Ether } from "./ether.ts";
import { Port } from "./packet.ts";
import { TestClient } from "./testing.ts";

const ethers: Ether[] = [];
const ends: (() => void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) end();
  await Promise.all(ethers.splice(0).map((ether) => ether.close()));
});

function newEther(): Ether {
  const ether = new Ether({ preset: "shortTurbo" });
  ethers.push(ether);
  return ether;
}

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await Bun.sleep(5);
}

async function dial(port: number): Promise<{ client: TestClient; socket: Socket }> {
  const client = new TestClient();
  const socket = connect(port, "127.0.0.1");
  ends.push(() => socket.destroy());
  socket.on("data", (bytes: Buffer) => client.reader.push(bytes));
  socket.on("close", () => (client.closed = "closed"));
  socket.on("error", () => {});
  client.write = (bytes) => void socket.write(bytes);
  await new Promise((resolve) => socket.once("connect", resolve));
  return { client, socket };
}

test("over TCP a client is configured, and its packets come to another radio's client", async () => {
  const ether = newEther();
  const [a, b] = [ether.radio(), ether.radio({ firmware: "2.7" })];
  const { client: one } = await dial((await a.listenTcp()).port);
  const { client: other } = await dial((await b.listenTcp()).port);
  for (const client of [one, other]) client.say({ case: "wantConfigId", value: 4711 });
  await until(() => one.isConfigured && other.isConfigured);
  expect(one.all("configCompleteId")).toEqual([4711]);
  expect(one.all("myInfo")[0]?.myNodeNum).toBe(a.number);
  one.send(Port.TEXT_MESSAGE_APP, "HELLO STOP");
  await until(() => other.packets(Port.TEXT_MESSAGE_APP).length > 0);
  expect(other.packets(Port.TEXT_MESSAGE_APP).map(({ text, from }) => [text, from])).toEqual([
    ["HELLO STOP", a.number],
  ]);
});

test("a new connection ends the one before", async () => {
  const radio = newEther().radio();
  const { port } = await radio.listenTcp();
  const { client: first } = await dial(port);
  const { client: second } = await dial(port);
  await until(() => first.closed !== undefined);
  second.say({ case: "wantConfigId", value: 1 });
  await until(() => second.isConfigured);
});

test("a reboot ends a connection, and until it has started there is none", async () => {
  const radio = newEther().radio({ bootMs: 50 });
  const { port } = await radio.listenTcp();
  const { client } = await dial(port);
  radio.reboot();
  await until(() => client.closed !== undefined);
  const { client: early } = await dial(port);
  await until(() => early.closed !== undefined || radio.isOn);
  await until(() => radio.isOn);
  const { client: again } = await dial(port);
  again.say({ case: "wantConfigId", value: 2 });
  await until(() => again.isConfigured);
  expect(again.all("myInfo")[0]?.rebootCount).toBe(2);
});

test("the same over a serial port, which vanishes when the radio is unplugged", async () => {
  const radio = newEther().radio();
  const { path } = radio.openPty();
  const fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  ends.push(() => closeSync(fd));
  const client = new TestClient();
  client.write = (bytes) => void writeSync(fd, bytes);
  const buffer = new Uint8Array(4_096);
  let isGone = false;
  const read = () => {
    try {
      const taken = readSync(fd, buffer);
      if (taken === 0) isGone = true;
      client.reader.push(buffer.subarray(0, taken));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") isGone = true;
    }
  };
  // As clients wake a device that sleeps.
  client.write(new Uint8Array(32).fill(0xc3));
  client.say({ case: "wantConfigId", value: 9 });
  await until(() => {
    read();
    return client.isConfigured;
  });
  expect(client.reader.skipped).toBe(0);
  radio.unplug();
  await until(() => {
    read();
    return isGone;
  });
});

test("Godwit's own serial port speaks with it, sees it unplugged, and finds it again by its name", async () => {
  const dir = await mkdtemp(join(tmpdir(), "godwit-radio-"));
  try {
    const ether = newEther();
    const radio = ether.radio({ bootMs: 1, faults: { logNoise: true, split: "anywhere" } });
    for (const nonce of [1, 2]) {
      const { path } = radio.openPty({ link: join(dir, "radio") });
      const port = await openSerial({ path, baudRate: 115_200, clock: systemClock });
      const client = new TestClient();
      port.on("data", (bytes: Buffer) => client.reader.push(bytes));
      const closed = new Promise<{ disconnected?: boolean } | null>((resolve) => port.once("close", resolve));
      client.write = (bytes) => void port.write(bytes);
      client.say({ case: "wantConfigId", value: nonce });
      await until(() => client.isConfigured);
      expect(client.all("configCompleteId")).toEqual([nonce]);
      radio.unplug();
      expect((await closed)?.disconnected).toBe(true);
      radio.plug();
      await until(() => radio.isOn);
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
