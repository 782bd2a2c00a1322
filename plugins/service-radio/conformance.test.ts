/** The plugin as the kits of the SDK see it: a radio over TCP, and a group that is only heard. */
import { createSocket } from "node:dgram";
import { create, toBinary } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import { FakeHostNetwork, radioConformance, type RadioPacket } from "@godwit/sdk/testkit";
import { channelHash } from "./names.ts";
import radio from "./index.ts";
import { readChannel } from "./ciphers.ts";
import { FakeRadio, packetOf } from "./testing.ts";

const sealed = ({ from, to, id, payload }: RadioPacket) =>
  create(Mesh.MeshPacketSchema, { from, to, id, payloadVariant: { case: "encrypted", value: payload } });

radioConformance({
  name: "a radio over TCP",
  setup() {
    const device = new FakeRadio();
    return {
      plugin: radio,
      config: { connect: `tcp://127.0.0.1:${device.port}` },
      service: "radio.test",
      clockStepMs: 1,
      hear: (_, packet) =>
        device.deliver(
          packet.port === null
            ? sealed(packet)
            : packetOf(packet.from, packet.to, packet.port, packet.payload, packet.id),
        ),
      async prepare(host, step) {
        while (host.health.at(-1)?.state !== "running") {
          step();
          await new Promise((resolve) => setImmediate(resolve));
        }
        return () => {};
      },
      dispose: () => device.close(),
    };
  },
});

const psk = Uint8Array.of(1);
const KEY = Buffer.from("d4f1bb3a20290759f0bcffabcf4e6901", "hex");

radioConformance({
  name: "what is multicast in the LAN",
  async setup() {
    const socket = createSocket("udp4");
    await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
    socket.setMulticastInterface("127.0.0.1");
    const { port } = socket.address();
    const network = new FakeHostNetwork();
    network.set([
      {
        address: "127.0.0.1",
        family: 4,
        prefixLength: 8,
        interface: "lo",
        scope: "host",
        isAdvertisable: false,
      },
    ]);
    return {
      plugin: radio,
      config: { connect: `udp://224.0.0.69:${port}`, interfaces: ["lo"], channels: [{ name: "LongFast" }] },
      service: "radio.test",
      clockStepMs: 1,
      listensOnly: true,
      hostOptions: () => ({ network }),
      async hear(_, packet) {
        const { from, id, payload } = packet;
        const it = sealed(packet);
        if (packet.port !== null) {
          const data = Object.assign(create(Mesh.DataSchema, { payload }), { portnum: packet.port });
          it.channel = channelHash("LongFast", psk);
          it.payloadVariant = {
            case: "encrypted",
            value: readChannel(KEY, from, id, toBinary(Mesh.DataSchema, data)),
          };
        }
        await new Promise<void>((resolve) =>
          socket.send(toBinary(Mesh.MeshPacketSchema, it), port, "224.0.0.69", () => resolve()),
        );
      },
      async prepare(host, step) {
        while (host.health.at(-1)?.state !== "running") {
          step();
          await new Promise((resolve) => setImmediate(resolve));
        }
        return () => {};
      },
      dispose: () => void socket.close(),
    };
  },
});
