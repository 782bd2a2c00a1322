/** What `godwit radio setup` asks and changes, against the emulated firmware, in virtual time: nothing unasked, and what was not taken is seen. */
import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Admin, Channel, Config, Mesh, Portnums } from "@meshtastic/protobufs";
import type { Clock } from "@godwit/sdk";
import { listSerialPorts } from "@godwit/sdk/serial";
import { encodeFrame, FrameReader } from "../../plugins/service-radio/frames.ts";
import { askRadio, type RadioAnswer, type RadioDoor } from "../../plugins/service-radio/setup/ask.ts";
import { changeRadio } from "../../plugins/service-radio/setup/change.ts";
import { findPorts, holdersOf } from "../../plugins/service-radio/setup/find.ts";
import { planRadio, type RadioWish } from "../../plugins/service-radio/setup/plan.ts";
import type { OpenWire } from "../../plugins/service-radio/wire.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { mkdirSync, mkdtempSync, openSync, closeSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EmulatedRadio } from "./radio.ts";
import { addVarint } from "./packet.ts";
import { TestEther } from "./testing.ts";

const KEY = new Uint8Array(32).fill(9);
const EU_868 = 3;
const US = 1;
const MEDIUM_FAST = 4;

interface Bench {
  readonly ether: TestEther;
  readonly radio: EmulatedRadio;
  readonly door: RadioDoor;
  /** What the client said, by case; of administration by its case. */
  readonly said: string[];
  /** Of the ways: how often each was opened. */
  readonly opened: number[];
  run<T>(promise: Promise<T>): T;
}

function newBench(options: Parameters<TestEther["radio"]>[0] = {}): Bench {
  const ether = new TestEther({ preset: "longFast" });
  const radio = ether.radio({ beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 }, ...options });
  const said: string[] = [];
  const opened = [0, 0];
  const way =
    (index: number): OpenWire =>
    (handlers) => {
      opened[index]!++;
      const listener = new FrameReader({ frame: (body) => (said.push(wordOf(body)), true), noise: () => {} });
      const wire = radio.attach(handlers);
      return Promise.resolve({
        write: (bytes) => {
          listener.push(bytes, ether.sim.nowMs);
          wire.write(bytes);
        },
        close: () => wire.close(),
      });
    };
  const clock: Clock = {
    monotonicMs: () => ether.sim.nowMs,
    wallMs: () => ether.sim.nowMs,
    after: (ms, fn) => ether.sim.after(ms, fn),
  };
  const door: RadioDoor = {
    clock,
    random: seededRandom(5),
    signal: new AbortController().signal,
    name: "the radio",
    ways: [way(0), way(1)],
    wake: new Uint8Array(32).fill(0xc3),
  };
  return { ether, radio, door, said, opened, run: (promise) => settled(ether, promise) };
}

function wordOf(body: Uint8Array): string {
  const { payloadVariant: it } = fromBinary(Mesh.ToRadioSchema, body);
  if (it.case !== "packet" || it.value.payloadVariant.case !== "decoded") return it.case ?? "nothing";
  const { portnum, payload } = it.value.payloadVariant.value;
  return portnum === Portnums.PortNum.ADMIN_APP
    ? (fromBinary(Admin.AdminMessageSchema, payload).payloadVariant.case ?? "?")
    : `port ${portnum}`;
}

/** What it becomes within ten minutes of virtual time. */
function settled<T>(ether: TestEther, promise: Promise<T>): T {
  let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
  promise.then(
    (value) => (outcome = { value }),
    (error: unknown) => (outcome = { error }),
  );
  ether.sim.run(ether.sim.nowMs + 600_000, () => outcome !== undefined);
  if (outcome === undefined) throw new Error("it does not end");
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
}

const settingsOf = ({ settings }: EmulatedRadio) => ({
  channels: settings.channels.map((it) => toBinary(Channel.ChannelSchema, it)),
  configs: settings.configs.map((it) => toBinary(Config.ConfigSchema, it)),
});

const failure = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return error instanceof Error ? `${(error as { code?: string }).code}: ${error.message}` : String(error);
  }
  return "it did not fail";
};

function wished(bench: Bench, wish: RadioWish) {
  const before = bench.run(askRadio(bench.door));
  const plan = planRadio(before, wish);
  return { before, plan, change: () => bench.run(changeRadio(bench.door, before, plan, wish)) };
}

test.each(["2.7", "2.8"] as const)(
  "a radio of %s says what it is, and nothing in it or on the air changes",
  (firmware) => {
    const bench = newBench({ firmware, name: "Dundee roof", region: "EU_868", role: "router" });
    const { radio, said } = bench;
    const before = settingsOf(radio);
    radio.faults.logNoise = true;
    radio.faults.rubbish = true;
    radio.faults.split = "anywhere";
    const { number, facts, isManaged, restarts } = bench.run(askRadio(bench.door));
    expect(number).toBe(radio.number);
    expect(facts).toMatchObject({
      longName: "Dundee roof",
      board: "HELTEC_V3",
      role: "ROUTER",
      firmware: radio.behaviour.version,
      region: { name: "EU_868" },
      modem: { name: "LongFast" },
      isLicensed: false,
      additions: { hasSignatures: firmware === "2.8" },
      channels: [{ index: 0, name: "LongFast", isPublic: true }],
    });
    expect([isManaged, restarts]).toEqual([false, 0]);
    bench.ether.run(60_000);
    expect(settingsOf(radio)).toEqual(before);
    expect(radio.airtime.ownMs).toBe(0);
    expect(said).toEqual(["wantConfigId", "disconnect"]);
  },
);

test("a locked radio is told from one without channels", () => {
  const bench = newBench({ passphrase: "open sesame" });
  const answer = bench.run(askRadio(bench.door));
  expect([answer.number, answer.facts]).toEqual([bench.radio.number, undefined]);
  expect(planRadio(answer, { channel: { name: "godwit", key: KEY } }).refusal).toContain("is locked");
});

test("one that is silent is asked with its lines on, then off, and then called silent", () => {
  const bench = newBench();
  bench.radio.faults.isHung = true;
  expect(failure(() => bench.run(askRadio(bench.door)))).toMatch(
    /^GODWIT_RADIO_UNUSABLE: the radio is silent/,
  );
  expect(bench.opened).toEqual([1, 1]);
});

test("one that answers with its lines off alone is found", () => {
  const bench = newBench();
  const mute: OpenWire = () => Promise.resolve({ write: () => {}, close: () => {} });
  const answer = bench.run(askRadio({ ...bench.door, ways: [mute, bench.door.ways[1]!] }));
  expect(answer.number).toBe(bench.radio.number);
});

test("another firmware is quoted, without what would move a terminal", () => {
  const bench = newBench();
  const chatter: OpenWire = (handlers) => {
    bench.door.clock.after(100, () =>
      handlers.data(new TextEncoder().encode("boot\r\n\u001b[2J\u001b[31mMeshCore v1.9 ready\u0007\r\n")),
    );
    return Promise.resolve({ write: () => {}, close: () => {} });
  };
  const words = failure(() => bench.run(askRadio({ ...bench.door, ways: [chatter] })));
  expect(words).toContain("speaks, but not as Meshtastic does");
  expect(words).toContain("MeshCore v1.9 ready");
  expect(words).not.toMatch(/\p{Cc}/u);
});

test("one that restarts while it is asked is asked again", () => {
  const bench = newBench();
  const asked = askRadio(bench.door);
  bench.radio.reboot();
  expect(bench.run(asked)).toMatchObject({ number: bench.radio.number, restarts: 1 });
});

test("one that restarts for ever is given up, with what may be the reason", () => {
  const { run, door, said } = newBench();
  const rebooted = encodeFrame(
    toBinary(
      Mesh.FromRadioSchema,
      create(Mesh.FromRadioSchema, { payloadVariant: { case: "rebooted", value: true } }),
    ),
  );
  const restarting: OpenWire = (handlers) => {
    door.clock.after(3_000, () => handlers.data(rebooted));
    const listener = new FrameReader({ frame: (body) => (said.push(wordOf(body)), true), noise: () => {} });
    return Promise.resolve({
      write: (bytes) => {
        listener.push(bytes, 0);
        door.clock.after(3_000, () => handlers.data(rebooted));
      },
      close: () => {},
    });
  };
  expect(failure(() => run(askRadio({ ...door, ways: [restarting] })))).toContain("restarts again and again");
  expect(said.length).toBeLessThan(10);
});

test("the end of what another client asked for is not taken for the answer", () => {
  const { run, door, radio } = newBench();
  const foreign = create(Mesh.FromRadioSchema, {
    payloadVariant: { case: "configCompleteId", value: 69_420 },
  });
  let frames = 0;
  // Behind the metadata: what comes after it would be missing.
  const stale: OpenWire = (handlers, signal) =>
    door.ways[0]!(
      {
        ...handlers,
        data: (bytes) => {
          handlers.data(bytes);
          if (++frames === 4) handlers.data(encodeFrame(toBinary(Mesh.FromRadioSchema, foreign)));
        },
      },
      signal,
    );
  expect(run(askRadio({ ...door, ways: [stale] })).number).toBe(radio.number);
});

test("one that hangs up again and again is given up, and one that comes back is not", () => {
  const bench = newBench();
  let hangs = 0;
  const hangingUp =
    (times: number): OpenWire =>
    async (handlers, signal) => {
      if (hangs++ >= times) return await bench.door.ways[0]!(handlers, signal);
      bench.door.clock.after(50, () => handlers.closed("the radio closed the connection"));
      return { write: () => {}, close: () => {} };
    };
  expect(bench.run(askRadio({ ...bench.door, ways: [hangingUp(2)] })).number).toBe(bench.radio.number);
  hangs = 0;
  expect(failure(() => bench.run(askRadio({ ...bench.door, ways: [hangingUp(99)] })))).toContain(
    "went away 4 times",
  );
  expect(hangs).toBe(4);
});

test.each(["2.7", "2.8"] as const)(
  "a channel and a region are put into a radio of %s by one edit, and it says so",
  (firmware) => {
    const bench = newBench({ firmware, hopLimit: 5 });
    const { radio, said } = bench;
    // Of a newer firmware: it stays where it is.
    addVarint(radio.settings.lora, 190, 77);
    const wish: RadioWish = { channel: { name: "godwit", key: KEY }, region: US, preset: MEDIUM_FAST };
    const { plan, before, change } = wished(bench, wish);
    expect(plan.fields.map(({ at, field, from, to }) => [at, field, from, to])).toEqual([
      ["lora", "region", "EU_868", "US"],
      ["lora", "preset", "LongFast", "MediumFast"],
      ["channel 1", "role", "DISABLED", "SECONDARY"],
      ["channel 1", "name", "none", "godwit"],
      ["channel 1", "key", "none", "32 bytes of your own"],
      ["channel 1", "position", "none", "not told there"],
    ]);
    expect(plan.refusal).toBeUndefined();
    const other = settingsOf(radio);
    const after: RadioAnswer = change();
    expect(after.facts).toMatchObject({ region: { name: "US" }, modem: { name: "MediumFast" } });
    expect(after.facts!.channels.map(({ name, isPublic }) => [name, isPublic])).toEqual([
      ["MediumFast", true],
      ["godwit", false],
    ]);
    expect(radio.settings.channels[1]!.settings).toMatchObject({
      name: "godwit",
      psk: KEY,
      uplinkEnabled: false,
    });
    expect(radio.settings.channels[1]!.settings!.moduleSettings!.positionPrecision).toBe(0);
    const { hopLimit, txPower, usePreset, $unknown } = radio.settings.lora;
    expect([hopLimit, txPower, usePreset, $unknown?.map(({ no }) => no)]).toEqual([5, 20, true, [190]]);
    // All else is as it was, byte for byte.
    const now = settingsOf(radio);
    expect(now.channels.toSpliced(1, 1)).toEqual(other.channels.toSpliced(1, 1));
    expect(now.configs.toSpliced(5, 1)).toEqual(other.configs.toSpliced(5, 1));
    expect(said.filter((word) => !["wantConfigId", "disconnect"].includes(word))).toEqual([
      "beginEditSettings",
      "setConfig",
      "setChannel",
      "commitEditSettings",
    ]);
    expect(planRadio(after, wish).fields).toEqual([]);
    expect(before.facts!.channels).toHaveLength(1);
  },
);

test("a key of that channel is replaced by the one that is asked for, and its other settings stay", () => {
  const bench = newBench({
    channels: [
      { name: "", psk: Uint8Array.of(1) },
      { name: "godwit", psk: new Uint8Array(32).fill(1) },
    ],
  });
  bench.radio.settings.channels[1]!.settings!.uplinkEnabled = true;
  const { plan, change } = wished(bench, { channel: { name: "godwit", key: KEY } });
  expect(plan.fields.map(({ field, from, to }) => [field, from, to])).toEqual([
    ["key", "32 other bytes", "32 bytes of your own"],
  ]);
  change();
  expect(bench.radio.settings.channels[1]).toMatchObject({ settings: { psk: KEY, uplinkEnabled: true } });
});

test("a channel that is there keeps its key where none is given, and a change of nothing restarts nothing", () => {
  const bench = newBench({ channels: [{ name: "godwit", psk: KEY }] });
  const { plan } = wished(bench, { channel: { name: "godwit" }, region: EU_868 });
  expect(plan).toEqual({ fields: [], messages: [], refusal: undefined });
});

test("what the radio did not take is said, field by field", () => {
  const bench = newBench();
  const { change } = wished(bench, { channel: { name: "godwit", key: KEY }, region: US });
  bench.radio.settings.setConfig = () => {};
  const words = failure(change);
  expect(words).toContain("the radio did not take it: region of lora is still EU_868; try it in the app");
});

test("another radio at the same place is not changed", () => {
  const bench = newBench();
  const { change } = wished(bench, { channel: { name: "godwit", key: KEY } });
  const before = settingsOf(bench.radio);
  bench.radio.reboot({ behaviour: { numbersByKey: false } });
  expect(failure(change)).toContain("another radio answers at the radio now: nothing was changed");
  expect(settingsOf(bench.radio)).toEqual(before);
});

test("a radio that somebody changed since it was shown is not changed by what was shown", () => {
  const bench = newBench();
  const wish = { channel: { name: "godwit", key: KEY }, region: US };
  const { before, plan } = wished(bench, wish);
  bench.radio.settings.lora.hopLimit = 7;
  expect(failure(() => bench.run(changeRadio(bench.door, before, plan, wish)))).toContain(
    "is not what was shown any more: nothing was changed",
  );
  expect(bench.said).not.toContain("beginEditSettings");
});

test("a channel that the radio did not tell of is not taken for a free one", () => {
  const bench = newBench();
  const { before } = wished(bench, {});
  const told = new Map([...before.channels].filter(([index]) => index !== 1));
  const { messages, fields } = planRadio(
    { ...before, channels: told },
    { channel: { name: "godwit", key: KEY } },
  );
  expect([messages.length, fields[0]!.at]).toEqual([1, "channel 2"]);
});

test("one that answers with its lines off alone is changed that way", () => {
  const bench = newBench();
  const mute: OpenWire = () => Promise.resolve({ write: () => {}, close: () => {} });
  const door = { ...bench.door, ways: [mute, bench.door.ways[1]!] };
  const wish = { channel: { name: "godwit", key: KEY } };
  const before = bench.run(askRadio(door));
  const after = bench.run(changeRadio(door, before, planRadio(before, wish), wish));
  expect(after.facts!.channels.map(({ name }) => name)).toContain("godwit");
});

test("a radio that takes its time to start is waited for", () => {
  const bench = newBench({ bootMs: 40_000 });
  const { change } = wished(bench, { channel: { name: "godwit", key: KEY } });
  expect(change().facts!.channels.map(({ name }) => name)).toEqual(["LongFast", "godwit"]);
});

test("where there is no room, or it is managed from afar, nothing is planned that would be sent", () => {
  const full = newBench({
    channels: Array.from({ length: 8 }, (_, n) => ({ name: `c${n}`, psk: new Uint8Array(32).fill(n) })),
  });
  const wish: RadioWish = { channel: { name: "godwit", key: KEY } };
  expect(planRadio(full.run(askRadio(full.door)), wish)).toMatchObject({
    fields: [],
    messages: [],
    refusal: expect.stringContaining("all 8 channels of the radio are in use"),
  });
  const managed = newBench();
  const security = managed.radio.settings.configs.find((it) => it.payloadVariant.case === "security")!;
  (security.payloadVariant.value as Config.Config_SecurityConfig).isManaged = true;
  expect(planRadio(managed.run(askRadio(managed.door)), wish).refusal).toContain("managed from afar");
});

test("ports are found by what the system says of them, boards of known makers first, and who has one open", async () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-ports-"));
  try {
    const dev = join(folder, "dev");
    for (const [tty, vendor, product] of [
      ["ttyUSB0", "10c4", "CP2102 USB to UART Bridge"],
      ["ttyACM0", "1546", "u-blox GNSS receiver"],
    ] as const) {
      const usb = join(folder, "sys/devices", tty);
      mkdirSync(join(usb, "port"), { recursive: true });
      writeFileSync(join(usb, "idVendor"), `${vendor}\n`);
      writeFileSync(join(usb, "product"), `${product}\n`);
      mkdirSync(join(folder, "sys/class/tty", tty), { recursive: true });
      symlinkSync(join(usb, "port"), join(folder, "sys/class/tty", tty, "device"));
      mkdirSync(join(dev, "serial/by-id"), { recursive: true });
      writeFileSync(join(dev, tty), "");
      symlinkSync(join(dev, tty), join(dev, "serial/by-id", `usb-${tty}`));
    }
    const found = await findPorts({ list: () => listSerialPorts({ sys: join(folder, "sys"), dev }) });
    expect(found).toEqual([
      {
        path: join(dev, "serial/by-id/usb-ttyUSB0"),
        now: join(dev, "ttyUSB0"),
        product: "CP2102 USB to UART Bridge",
        isLikely: true,
      },
      {
        path: join(dev, "serial/by-id/usb-ttyACM0"),
        now: join(dev, "ttyACM0"),
        product: "u-blox GNSS receiver",
        isLikely: false,
      },
    ]);
    const path = join(dev, "ttyUSB0");
    expect(await holdersOf(path)).toEqual([]);
    const other = Bun.spawn(["sleep", "60"], { stdin: Bun.file(path) });
    const mine = openSync(path, "r");
    try {
      expect(await holdersOf(join(dev, "serial/by-id/usb-ttyUSB0"))).toEqual([
        `sleep (process ${other.pid})`,
      ]);
    } finally {
      closeSync(mine);
      other.kill();
      await other.exited;
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
