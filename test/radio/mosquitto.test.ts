/** Packets through a real mosquitto: in the clear, and with TLS and a password; it restarts, and nothing is ever published to it. */
import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { Mesh, Mqtt, Portnums } from "@meshtastic/protobufs";
import { DoorBench } from "../../plugins/service-radio/testing-door.ts";
import { channelHash, cryptChannel, DEFAULT_PSK, expandPsk } from "./keys.ts";

const programs = ["mosquitto", "mosquitto_pub", "mosquitto_passwd", "openssl"];
const missing = programs.filter(
  (program) => Bun.which(program, { PATH: `${process.env["PATH"]}:/usr/sbin` }) === null,
);
const why = missing.length === 0 ? "" : ` [skipped: ${missing.join(", ")} not installed]`;
const isSkipped = missing.length > 0 && process.env["CI"] !== "true";
const mosquitto = Bun.which("mosquitto", { PATH: `${process.env["PATH"]}:/usr/sbin` }) ?? "mosquitto";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

const PASSWORD = "wind and tide";

class Broker {
  readonly folder = mkdtempSync(join(tmpdir(), "godwit-mosquitto-"));
  readonly port: number;
  readonly isTls: boolean;
  #child: ReturnType<typeof Bun.spawn> | undefined;
  #log = "";

  private constructor(port: number, isTls: boolean) {
    this.port = port;
    this.isTls = isTls;
  }

  static async start(isTls: boolean): Promise<Broker> {
    const broker = new Broker(await freePort(), isTls);
    ends.push(async () => {
      await broker.stop();
      rmSync(broker.folder, { recursive: true, force: true });
    });
    await broker.#configure();
    await broker.run();
    return broker;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  async #configure(): Promise<void> {
    const lines = ["user root", `listener ${this.port} 127.0.0.1`, "log_dest stderr", "log_type all"];
    if (this.isTls) {
      const [cert, key] = [this.path("cert.pem"), this.path("key.pem")];
      await Bun.$`openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout ${key} -out ${cert} -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1`.quiet();
      writeFileSync(this.path("password"), PASSWORD, { mode: 0o600 });
      await Bun.$`mosquitto_passwd -c -b ${this.path("users")} reader ${PASSWORD}`.quiet();
      lines.push(`certfile ${cert}`, `keyfile ${key}`, `password_file ${this.path("users")}`);
    }
    lines.push(`allow_anonymous ${!this.isTls}`);
    writeFileSync(this.path("mosquitto.conf"), `${lines.join("\n")}\n`);
  }

  async run(): Promise<void> {
    const child = Bun.spawn([mosquitto, "-c", this.path("mosquitto.conf")], {
      stdout: "ignore",
      stderr: "pipe",
    });
    this.#child = child;
    void (async () => {
      const decoder = new TextDecoder();
      for await (const bytes of child.stderr) this.#log += decoder.decode(bytes, { stream: true });
    })();
    while (!this.#log.includes("running")) {
      if (child.exitCode !== null) throw new Error(`mosquitto ended: ${this.#log}`);
      await Bun.sleep(5);
    }
  }

  async stop(): Promise<void> {
    this.#child?.kill("SIGTERM");
    await this.#child?.exited;
    this.#log = this.#log.replaceAll("running", "ran");
  }

  get log(): string {
    return this.#log;
  }

  /** As a gateway's firmware does. */
  async publish(topic: string, payload: Uint8Array): Promise<void> {
    const file = this.path("payload");
    writeFileSync(file, payload);
    const tls = this.isTls ? ["--cafile", this.path("cert.pem"), "-u", "reader", "-P", PASSWORD] : [];
    await Bun.$`mosquitto_pub -h 127.0.0.1 -p ${this.port} ${tls} -t ${topic} -f ${file}`.quiet();
  }
}

const GATEWAY = "!0a1b2c3d";
const TOPIC = `msh/EU_868/2/e/LongFast/${GATEWAY}`;

function envelopeOf(id: number, text: string): Uint8Array {
  const from = 0x25c21b88;
  const key = expandPsk(DEFAULT_PSK);
  const data = create(Mesh.DataSchema, {
    portnum: Portnums.PortNum.TEXT_MESSAGE_APP,
    payload: Buffer.from(text),
  });
  const packet = create(Mesh.MeshPacketSchema, {
    ...{ from, to: 0xffffffff, id, channel: channelHash("LongFast", key), hopLimit: 3, hopStart: 3 },
    payloadVariant: {
      case: "encrypted",
      value: cryptChannel(key, from, id, toBinary(Mesh.DataSchema, data)),
    },
  });
  return toBinary(
    Mqtt.ServiceEnvelopeSchema,
    create(Mqtt.ServiceEnvelopeSchema, { packet, channelId: "LongFast", gatewayId: GATEWAY }),
  );
}

async function newBench(table: Readonly<Record<string, unknown>>): Promise<DoorBench> {
  const bench = new DoorBench();
  ends.push(() => bench.stop());
  await bench.start(table);
  return bench;
}

describe.skipIf(isSkipped)(`a real mosquitto${why}`, () => {
  test("hands over what gateways publish, with the gateway named, and hears nothing from us", async () => {
    const broker = await Broker.start(false);
    const bench = await newBench({
      connect: `mqtt://127.0.0.1:${broker.port}`,
      channels: [{ name: "LongFast" }],
    });
    await bench.until(() => bench.isListening, "the subscription");
    await broker.publish("msh/EU_868/2/json/LongFast/!0a1b2c3d", Buffer.from("{}"));
    await broker.publish(TOPIC, envelopeOf(7, "low water at nine"));
    await bench.until(() => bench.packets.length === 1, "a packet");
    const [packet] = bench.packets;
    expect(packet).toMatchObject({
      ...{ source: "mqtt", viaMqtt: true, transport: 5, gateway: GATEWAY, channelName: "LongFast" },
      ...{ id: 7, port: 1, readBy: "channel", channel: null },
    });
    bench.say({ t: "send", tag: 1, port: 1, to: 5, channel: 0, hopLimit: 3 });
    await bench.until(() => bench.count("refused{reason=listens_only}") === 1, "a refusal");
    // What is dropped at the broker goes to others only.
    expect(broker.log).toMatch(/Received PUBLISH from (?!godwit)/);
    expect(broker.log).not.toContain("Received PUBLISH from godwit");
  }, 60_000);

  test("that asks for TLS and a password is heard again after it was away", async () => {
    const broker = await Broker.start(true);
    const bench = await newBench({
      connect: `mqtts://127.0.0.1:${broker.port}`,
      user: "reader",
      password: `file:${broker.path("password")}`,
      ca: broker.path("cert.pem"),
    });
    await bench.until(() => bench.isListening, "the subscription");
    await broker.publish(TOPIC, envelopeOf(1, "before"));
    await bench.until(() => bench.packets.length === 1, "a packet");
    await broker.stop();
    await bench.until(() => !bench.isListening, "the loss to be seen");
    await broker.run();
    await bench.until(() => bench.isListening, "the subscription again");
    await broker.publish(TOPIC, envelopeOf(2, "after"));
    await bench.until(() => bench.packets.length === 2, "a packet");
  }, 60_000);

  test("whose certificate nobody signed that is trusted, or that refuses the user, is not heard: health says why", async () => {
    const broker = await Broker.start(true);
    const connect = `mqtts://127.0.0.1:${broker.port}`;
    const stranger = await newBench({ connect, user: "reader", password: `file:${broker.path("password")}` });
    await stranger.until(
      () => /certificate/i.test(stranger.host.health.at(-1)?.reason ?? ""),
      "the certificate to be refused",
    );
    const nobody = await newBench({ connect, ca: broker.path("cert.pem") });
    await nobody.until(
      () => /not authorized/i.test(nobody.host.health.at(-1)?.reason ?? ""),
      "the user to be refused",
    );
    expect(broker.log).not.toContain("Received SUBSCRIBE");
  }, 60_000);
});
