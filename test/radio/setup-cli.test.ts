/** `godwit radio setup` as it is typed, with emulated radios by TCP and pseudo-terminal: what it says, what it asks, and what it leaves alone. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { Channel } from "@meshtastic/protobufs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CliSetup, runForTest } from "../../runtime/cli/testing.ts";
import { Ether } from "./ether.ts";
import type { EmulatedRadio } from "./radio.ts";
import { defaultChannel } from "./settings.ts";

let folder: string;
let ether: Ether;
const servers: Server[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "godwit-radio-setup-"));
  ether = new Ether({ preset: "longFast" });
  writeFileSync(config(), `${BEFORE}\n\n\n`);
});
afterEach(async () => {
  await ether.close();
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true });
});

const config = () => join(folder, "godwit.toml");
const BEFORE = `# mine\n[node]\ncallsign = "PI-A" # keep\nstate_dir = "/nonexistent/state"\n\n[transports.lan]\ntype = "tcp"`;
const TABLES = (connect: string) =>
  `[services.radio]\ntype = "radio"\nconnect = "${connect}"\n\n[transports.lora]\ntype = "meshtastic"\nradio = "radio"\nchannel = "godwit"\n`;

const newRadio = (options: Parameters<Ether["radio"]>[0] = {}): EmulatedRadio =>
  ether.radio({ bootMs: 20, beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 }, ...options });

const idOf = ({ number }: EmulatedRadio) => `!${number.toString(16).padStart(8, "0")}`;

/** A pipe on standard input unless it is told otherwise. */
const setup = (words: readonly string[], more: CliSetup = {}) =>
  runForTest(["radio", "setup", "--config", config(), ...words], { stdin: "", ...more });

const typed = (stdin: string): CliSetup => ({ stdin, isStdinTty: true, isStdoutTty: true });

/** How often it was changed and restarted. */
const changesOf = ({ settings }: EmulatedRadio) =>
  settings.channels.filter(({ role }) => role !== Channel.Channel_Role.DISABLED).length;

test.each(["2.7", "2.8"] as const)(
  "by either cable a radio of %s is told, its tables proposed, and nothing is written",
  async (firmware) => {
    const radio = newRadio({ firmware });
    const { port } = await radio.listenTcp();
    const { path } = radio.openPty();
    for (const [words, connect] of [
      [["--host", `127.0.0.1:${port}`], `tcp://127.0.0.1:${port}`],
      [["--port", path], `serial:${path}`],
    ] as const) {
      const { code, out, err } = await setup(words);
      expect([code, err.replace(/^the radio has no channel.*\n/, "")]).toEqual([0, ""]);
      for (const line of [
        `number      ${idOf(radio)}  radio 1`,
        "board       HELTEC_V3",
        `firmware    ${radio.behaviour.version}${firmware === "2.8" ? ", signs what goes to all" : ""}`,
        "role        CLIENT",
        "on the air  EU_868, LongFast",
        "channel 0   LongFast  everybody has its key",
        "channel 1     key       none      32 bytes of your own",
        `  connect = "${connect}"`,
        "nothing was changed in the radio: --write-device does it, and asks first",
        `nothing was written to ${config()}: --yes does it`,
      ])
        expect(out).toContain(`${line}\n`);
    }
    expect(readFileSync(config(), "utf8")).toBe(`${BEFORE}\n\n\n`);
    expect(readdirSync(folder)).toEqual(["godwit.toml"]);
    expect([changesOf(radio), radio.airtime.ownMs]).toEqual([1, 0]);
  },
);

test("--yes writes the file and nothing else: what stood there stays, and its mode; again it has nothing to do", async () => {
  const radio = newRadio();
  const { path } = radio.openPty();
  chmodSync(config(), 0o640);
  const { code, out, err } = await setup(["--port", path, "--yes"]);
  expect([code, err]).toEqual([0, expect.stringContaining('has no channel "godwit" yet')]);
  expect(out).toContain(`written to ${config()}\nnext: godwit run --config ${config()}`);
  expect(readFileSync(config(), "utf8")).toBe(`${BEFORE}\n\n${TABLES(`serial:${path}`)}`);
  expect(statSync(config()).mode & 0o777).toBe(0o640);
  expect([changesOf(radio), readdirSync(folder)]).toEqual([1, ["godwit.toml"]]);
  const again = await setup(["--port", path, "--yes"]);
  expect(again.out).toContain(`${config()} has it already, as [services.radio] and [transports.lora]`);
  expect(readFileSync(config(), "utf8")).toBe(`${BEFORE}\n\n${TABLES(`serial:${path}`)}`);
});

test("a second radio gets tables of its own, and a taken name is refused", async () => {
  const [one, other] = [newRadio(), newRadio()];
  await setup(["--port", one.openPty().path, "--yes"]);
  const { path } = other.openPty();
  const { out } = await setup(["--port", path]);
  expect(out).toContain("[services.radio_2]");
  expect(out).toContain('[transports.lora_2]\n  type = "meshtastic"\n  radio = "radio_2"');
  expect((await setup(["--port", path, "--name", "lora"])).err).toContain("a table of the name lora already");
});

test("a typed yes changes the radio and is asked again for the file; the key is kept for the next radio", async () => {
  const [one, other] = [newRadio(), newRadio({ firmware: "2.7" })];
  const { path } = one.openPty();
  const { code, out, err } = await setup(["--port", path, "--write-device"], typed("yes\nyes\n"));
  expect([code, err]).toEqual([
    0,
    `Change ${idOf(one)} as shown? Type yes: changing the radio; it restarts, and is asked again\nAdd this to ${config()}? Type yes: `,
  ]);
  expect(out).toContain(
    `the radio has taken it, and says so\nthe channel's key is in ${join(folder, "radio-godwit.key")}\n`,
  );
  expect(readFileSync(config(), "utf8")).toContain(TABLES(`serial:${path}`));
  const file = join(folder, "radio-godwit.key");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const key = new Uint8Array(Buffer.from(readFileSync(file, "utf8"), "base64"));
  expect(one.settings.channels[1]!.settings).toMatchObject({ name: "godwit", psk: key });
  expect(out + err).not.toContain(readFileSync(file, "utf8").trim());

  const moved = join(folder, "from-the-other.key");
  writeFileSync(moved, readFileSync(file), { mode: 0o600 });
  rmSync(file);
  const words = [
    "--port",
    other.openPty().path,
    "--key",
    `file:${moved}`,
    "--write-device",
    "--confirm",
    idOf(other),
  ];
  const second = await setup([...words, "--json"]);
  expect(JSON.parse(second.out)).toMatchObject({
    radio: { channels: [{ is_public: true }, { index: 1, name: "godwit", is_public: false }] },
    key_file: moved,
    device_written: true,
    config_written: false,
  });
  expect(other.settings.channels[1]!.settings!.psk).toEqual(key);
});

test.each(["", "no\n", "y\n", "yes please\n"])(
  "typed %p is no yes: the radio and the file stay as they are",
  async (words) => {
    const radio = newRadio();
    const { code, err } = await setup(["--port", radio.openPty().path, "--write-device"], typed(words));
    expect([code, err]).toEqual([0, expect.stringContaining("the radio stays as it is")]);
    expect([changesOf(radio), readdirSync(folder)]).toEqual([1, ["godwit.toml"]]);
    expect(readFileSync(config(), "utf8")).toBe(`${BEFORE}\n\n\n`);
  },
);

test("without a terminal a change needs the radio's number, and --yes is none", async () => {
  const radio = newRadio();
  const { path } = radio.openPty();
  const words = ["--port", path, "--write-device", "--yes"];
  const nobody = await setup(words, { stdin: "yes\n" });
  expect([nobody.code, nobody.err]).toEqual([
    2,
    expect.stringContaining(`then add --confirm '${idOf(radio)}'`),
  ]);
  const wrong = await setup([...words, "--confirm", "!00000001"]);
  expect([wrong.code, wrong.err]).toEqual([
    2,
    expect.stringContaining(`this one is ${idOf(radio)}, and nothing was changed`),
  ]);
  expect([changesOf(radio), readFileSync(config(), "utf8")]).toEqual([1, `${BEFORE}\n\n\n`]);
});

test("a key that is carried here goes into a free place: a channel of somebody's own keeps its key", async () => {
  const radio = newRadio({ channels: [defaultChannel, { name: "Family", psk: new Uint8Array(32).fill(5) }] });
  const moved = join(folder, "from-the-other.key");
  writeFileSync(moved, `${Buffer.alloc(32, 9).toString("base64")}\n`, { mode: 0o600 });
  const words = ["--port", radio.openPty().path, "--key", `file:${moved}`, "--write-device", "--yes"];
  const { code } = await setup([...words, "--confirm", idOf(radio)]);
  expect(code).toBe(0);
  expect(radio.settings.channels.slice(1, 3).map((it) => [it.settings?.name, it.settings?.psk[0]])).toEqual([
    ["Family", 5],
    ["godwit", 9],
  ]);
  expect(readFileSync(config(), "utf8")).toContain('channel = "godwit"');
});

test("where the file could not be written nothing is changed in the radio either", async () => {
  const radio = newRadio();
  rmSync(config());
  const words = ["--port", radio.openPty().path, "--write-device", "--confirm", idOf(radio), "--yes"];
  const { code, err } = await setup(words);
  expect([code, err]).toEqual([2, expect.stringContaining("godwit init makes one")]);
  expect(changesOf(radio)).toBe(1);
});

test("channels whose names differ never share a key file", async () => {
  for (const channel of ["Home", "home", "Мир", "Аня"])
    await setup(
      ["--port", newRadio().openPty().path, "--channel", channel, "--write-device"],
      typed("yes\nno\n"),
    );
  const keys = readdirSync(folder).filter((name) => name.endsWith(".key"));
  expect(keys.length).toBe(4);
  expect(new Set(keys.map((name) => readFileSync(join(folder, name), "utf8"))).size).toBe(4);
});

test("a region is asked for, and never guessed", async () => {
  const radio = newRadio({ region: "UNSET" });
  const { path } = radio.openPty();
  const words = ["--port", path, "--write-device"];
  const told = await setup(["--port", path]);
  expect(told.out).toContain("on the air  no region, LongFast\n");
  expect(told.out).toContain("Godwit sends nothing by it: the radio has no region yet");
  expect(told.out).toContain("the region is yours to say, with --region: none is guessed");
  const nobody = await setup([...words, "--confirm", idOf(radio)]);
  expect([nobody.code, nobody.err]).toEqual([
    2,
    expect.stringContaining("say where it is with --region, one of US, EU_433"),
  ]);
  const lost = await setup(words, typed("Scotland\n\n868\n"));
  expect([lost.code, lost.err]).toEqual([
    2,
    expect.stringContaining("no region was chosen: nothing was changed"),
  ]);
  expect([radio.settings.lora.region as number, changesOf(radio)]).toEqual([0, 1]);
  const { out } = await setup(words, typed("Scotland\neu868\nyes\n"));
  expect(out).toContain("lora          region    UNSET     EU_868\n");
  expect([radio.settings.lora.region as number, changesOf(radio)]).toEqual([3, 2]);
});

test("a licensed radio is told to be silent, and gets no key", async () => {
  const radio = newRadio({ isLicensed: true });
  const { out } = await setup(["--port", radio.openPty().path]);
  expect(out).toContain("LongFast, licensed (amateur) mode\n");
  expect(out).toContain("Godwit sends nothing by it: the radio is in licensed (amateur) mode");
  expect(out).not.toContain("IN THE RADIO");
});

test("a locked radio is told as locked, and is not changed", async () => {
  const radio = newRadio({ passphrase: "open sesame" });
  const words = ["--port", radio.openPty().path];
  const { code, out } = await setup(words);
  expect([code, out]).toEqual([
    0,
    expect.stringContaining("the radio is locked: unlock it with its passphrase"),
  ]);
  const refused = await setup([...words, "--write-device", "--confirm", idOf(radio)]);
  expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("the radio is locked")]);
});

test("mistakes are told in words that say what to do", async () => {
  const { port } = await newRadio().listenTcp();
  const closed = createServer().listen(0, "127.0.0.1");
  servers.push(closed);
  await new Promise((resolve) => closed.once("listening", resolve));
  const free = (closed.address() as { port: number }).port;
  await new Promise((resolve) => closed.close(resolve));
  for (const [words, code, told] of [
    [["--port", "/dev/nowhere"], 1, "/dev/nowhere: there is no such port: is it plugged in?"],
    [["--port", "ttyUSB0"], 2, "ttyUSB0 is no serial port: one below /dev"],
    [["--host", `127.0.0.1:${free}`], 1, `127.0.0.1:${free} cannot be reached`],
    [["--host", `127.0.0.1:${free}`], 1, "is the radio on, and in this network?"],
    [["--host", "a b"], 2, "a b is no address of a radio"],
    [["--host", "x", "--port", "/dev/x"], 2, "give either --port or --host"],
    [["--host", `127.0.0.1:${port}`, "--region", "Mars"], 2, 'there is no region "Mars": one of US, '],
    [["--host", `127.0.0.1:${port}`, "--preset", "Fast"], 2, 'there is no preset "Fast": one of LongFast, '],
    [["--host", `127.0.0.1:${port}`, "--channel", "twelve bytes"], 2, "--channel is a name of 1 to 11 bytes"],
    [["--host", `127.0.0.1:${port}`, "--confirm", "!1"], 2, "give both"],
    [
      ["--host", `127.0.0.1:${port}`, "--key", "file:/nowhere"],
      78,
      "the channel's key is named as file:/nowhere, which cannot be opened",
    ],
  ] as const) {
    const { code: ended, err } = await setup(words);
    expect([words, ended, err]).toEqual([words, code, expect.stringContaining(told)]);
  }
  expect(JSON.parse((await setup(["--port", "/dev/nowhere", "--json"])).err)).toMatchObject({
    code: "GODWIT_RADIO_UNUSABLE",
    detail: expect.stringContaining("there is no such port"),
  });
});

test("a port that another program has is named with it, and a key that is none is not repeated", async () => {
  const radio = newRadio();
  const { path } = radio.openPty();
  const file = join(folder, "k");
  writeFileSync(file, "correct horse battery staple\n", { mode: 0o600 });
  const wrong = await setup(["--port", path, "--key", `file:${file}`]);
  expect([wrong.code, wrong.err]).toEqual([
    78,
    expect.stringContaining("no key of 16 or 32 bytes in base64"),
  ]);
  expect(wrong.err + wrong.out).not.toContain("horse");
  const other = Bun.spawn(["flock", "--no-fork", path, "sleep", "60"]);
  try {
    let busy = await setup(["--port", path]);
    while (busy.code === 0) busy = await setup(["--port", path]);
    expect([busy.code, busy.err]).toEqual([1, expect.stringContaining(`${path}: another program has it`)]);
  } finally {
    other.kill();
    await other.exited;
  }
});

test("a radio that the configuration has on another channel is asked for that one, and a second channel gets a table", async () => {
  const radio = newRadio();
  const { path } = radio.openPty();
  const tables = TABLES(`serial:${path}`).replace('"godwit"', '"Harbour"');
  writeFileSync(config(), `${BEFORE}\n\n${tables}`);
  const same = await setup(["--port", path]);
  expect(same.out).toContain("channel 1     name      none      Harbour\n");
  expect(same.out).toContain("has it already, as [services.radio] and [transports.lora]");
  expect(same.err).toContain('the radio has no channel "Harbour" yet');
  const other = await setup(["--port", path, "--channel", "Hill"]);
  expect(other.out).toContain(
    '  [transports.lora_2]\n  type = "meshtastic"\n  radio = "radio"\n  channel = "Hill"\n',
  );
  expect(other.out).not.toContain("[services.");
  writeFileSync(config(), `${BEFORE}\n\n${tables.replace(/channel = .*\n/, "")}`);
  const primary = await setup(["--port", path]);
  expect([primary.err, primary.out.includes("IN THE RADIO")]).toEqual(["", false]);
  expect((await setup(["--port", path, "--key", "file:/k"])).err).toContain(
    "say whose key it is with --channel",
  );
});

test("on a terminal its tables are dressed, and nothing that a radio says moves it", async () => {
  const radio = newRadio({
    name: "Roof\u001b[2J",
    channels: [{ name: "a\u001b[31mb", psk: new Uint8Array(32) }],
  });
  const { path } = radio.openPty();
  const { out } = await setup(["--port", path, "--region", "US"], {
    ...typed("no\n"),
    env: { TERM: "xterm" },
  });
  expect(out).toContain("\u001b[2mIN THE RADIO\u001b[0m");
  expect(out).not.toContain("\ufffd");
  const bare = out.replaceAll(/\p{Cc}\[(?:2|0)m/gu, "").replaceAll("\n", "");
  expect(bare).not.toMatch(/\p{Cc}/u);
});

test("a key that was typed instead of its place is not repeated", async () => {
  const { code, err } = await setup([
    "--port",
    newRadio().openPty().path,
    "--key",
    "c2VjcmV0c2VjcmV0c2VjcmV0",
  ]);
  expect([code, err]).toEqual([
    2,
    "godwit: --key says where the key is: file:/path, credential:NAME or env:NAME\n",
  ]);
});

test("where there is no configuration yet the tables are shown, and it is said what makes one", async () => {
  rmSync(config());
  const { out } = await setup(["--port", newRadio().openPty().path]);
  expect(out).toContain('  channel = "godwit"\n');
  expect(out).toContain(`there is no ${config()} yet: godwit init makes it, then again`);
});

test("a configuration of JSON is not written over, and one without transports keeps its default one", async () => {
  const { path } = newRadio().openPty();
  writeFileSync(config(), "[node]\n");
  expect((await setup(["--port", path])).out).toContain(
    '[transports.lan]\n  type = "tcp"\n  listen = ["[::]:4860"]',
  );
  const json = join(folder, "godwit.json");
  writeFileSync(json, '{"node":{}}');
  const { code, err } = await runForTest(["radio", "setup", "--config", json, "--port", path, "--yes"], {
    stdin: "",
  });
  expect([code, err]).toEqual([2, expect.stringContaining("is not in TOML: add the tables by hand")]);
  expect(readFileSync(json, "utf8")).toBe('{"node":{}}');
});
