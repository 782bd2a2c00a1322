/** What plugins of a running node say when an operator asks them, for tests of whoever asks. */

/** In the place of those of serf, radio and wireguard. */
export function pluginAnswer(
  type: string,
  instance: string | undefined,
  request: string,
  input: unknown,
): unknown {
  if (type === "serf") return serfAnswer(request, input);
  if (type === "radio") return radioAnswer(instance);
  if (request === "show")
    return {
      interface: "gwg0",
      address: "fd00::1",
      ipv4: null,
      public_key: `${"A".repeat(43)}=`,
      peers: [
        {
          name: "LON-B",
          address: "fd00::2",
          endpoint: "192.0.2.7:51820",
          handshake_seconds: 3,
          preshared: true,
          received_bytes: 1,
          sent_bytes: 2,
        },
      ],
    };
  if (request === "add-device")
    return {
      address: "fd00::3",
      public_key: `${"A".repeat(43)}=`,
      networks: ["fd00::/48"],
      hosts: ["192.0.2.1:51820"],
      mtu: 1_420,
    };
  if (request === "rotate") return { public_key: `${"A".repeat(43)}=` };
  return { type, instance: instance ?? null, request, input };
}

function radioAnswer(name: string | undefined): unknown {
  return {
    name,
    where: "/dev/ttyUSB0",
    phase: "ready",
    trouble: null,
    restarts: 1,
    nodes: 2,
    users: { "transport.lora": 12_345 },
    airtime: { utilisation: 0.125, hourMs: 20_000, hourMaxMs: 180_000, totalMs: 30_000, waiting: 3 },
    radio: {
      id: "!0a1b2c3d",
      longName: "a radio\u001b[2J",
      firmware: "2.8.0",
      region: "EU_868",
      preset: "LongFast",
      signs: true,
      isLicensed: false,
      channels: [{ index: 0, name: "godwit", isPublic: false, tag: "5f21" }],
      costs: { one: Array.from({ length: 234 }, (_, bytes) => 500 + 7 * bytes), all: [] },
    },
  };
}

function serfAnswer(request: string, input: unknown): unknown {
  switch (request) {
    case "members":
      return {
        members: [
          {
            name: "LON-B",
            address: "fd00::2",
            port: 7_946,
            status: "alive",
            tags: { godwit: "1 ...", role: "relay" },
            node: "b".repeat(52),
            endpoints: ["tcp://[fd00::2]:4860"],
            why: null,
          },
          {
            name: "agent",
            address: "192.0.2.1",
            port: 7_946,
            status: "failed",
            tags: {},
            node: null,
            endpoints: [],
            why: null,
          },
        ],
      };
    case "events":
      return [{ at_ms: 0, name: "deploy", payload: "NDI=", text: "42", ltime: 1 }];
    case "query":
      return { acks: ["LON-B"], answers: [{ from: "LON-B", payload: "MQ==", text: "1" }] };
    case "keys":
      return { members: 2, done: 2, faults: {}, keys: { a2V5: 2 }, primaryKeys: { a2V5: 2 } };
    case "remove":
      return { name: (input as { name: string }).name, status: "left" };
    default:
      return { name: (input as { name: string }).name };
  }
}
