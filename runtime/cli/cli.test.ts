import { afterAll, beforeAll, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig, messageId1, nodeA, nodeB, nodeC, type Rig, sampleMessage } from "../api/testing.ts";
import { ManualClock, systemClock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { METRIC_INFINITE } from "../wire/route-messages.ts";
import { cost } from "./render.ts";
import { Scope } from "../kernel/scope.ts";
import { ANSWER_TIMEOUT_MS } from "./client.ts";
import { commands } from "./table.ts";
import { type CliResult, type CliSetup, runForTest, serveAt } from "./testing.ts";

let folder: string;
let scope: Scope;
let rig: Rig;
let socketPath: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "godwit-cli-"));
});
let sequence = 0;
beforeEach(async () => {
  await scope?.close();
  scope = new Scope("api");
  rig = createRig({ clock: systemClock });
  socketPath = join(folder, `${sequence++}.sock`);
  await serveAt(socketPath, rig, scope);
});
afterAll(async () => {
  await scope.close();
  rmSync(folder, { recursive: true });
});

const godwit = (line: string | string[], setup: CliSetup = {}) =>
  runForTest([...(typeof line === "string" ? line.split(" ") : line), "--socket", socketPath], setup);

test("where nothing was heard, discovery says who was asked, and who is linked all the same", async () => {
  const { node } = rig;
  const discovery = spyOn(node, "discovery").mockReturnValue({ hints: [] });
  const rows = spyOn(rig.plugins, "list");
  try {
    rows.mockReturnValue([]);
    const none = await godwit("discovery");
    expect(none.out).toContain("configure discovery, or godwit join");
    rows.mockReturnValue([
      {
        namespace: "discovery",
        name: "lan",
        type: "mdns",
        state: "running",
        reason: null,
        guarantee: null,
        actions: [],
      },
    ]);
    const asked = await godwit("discovery");
    expect(asked.out).toContain("discovery.lan (mdns): running");
    expect(asked.out).not.toContain("configure");
    expect(asked.out).toContain("godwit peers");
  } finally {
    discovery.mockRestore();
    rows.mockRestore();
  }
});

describe("every command that asks the node", () => {
  const lines: [string, string, number][] = [
    ["status", '"network":"telex"', 0],
    ["health", '{"status":"ok"', 0],
    ["peers", '{"peers":[', 0],
    ["profile --seconds 1", '{"seconds":1,"cpu":{"nodes":[', 0],
    ["members", '{"members":[', 0],
    ["members --state failed", '"reason":"link closed"', 0],
    ["members --tag storage --tag arch-x64", '"tags":["arch-x64","storage"]', 0],
    ["members --tag storage --tag gpu", '{"members":[]}', 0],
    ["routes", '{"routes":[', 0],
    ["why NYC-C", '"explanation"', 0],
    ["trace NYC-C", '"reached":true', 0],
    ["send DUN-A hello", `{"id":"${messageId1}"}`, 0],
    ["inbox", '{"messages":[', 0],
    ["outbox list", '{"messages":[', 0],
    [`inbox read ${messageId1}`, '"body":"hello"', 0],
    [`inbox rm ${messageId1}`, "{}", 0],
    [`message ${messageId1}`, '"receipt":{', 0],
    ["names", '{"names":[', 0],
    ["logs --level warn --since 10m", '"lines":[', 0],
    ["discovery", '{"hints":[', 0],
    ["invite", '"token":"godwit1test"', 0],
    [`names resolve NYC-C ${nodeC}`, '{"name":"NYC-C"', 0],
    ["names forget NYC-C", '{"name":"NYC-C"', 0],
    ["names adopt godwit-name:DUN-A", '{"name":"DUN-A"', 0],
    ["secret", '"rotate":"members"', 0],
    ["secret retire", '{"retired":[', 0],
    ["revoke --publish godwit-revocation:aa", '"by_authority":true', 0],
    ["revocations", '{"revocations":[', 0],
    ["trust LON-B trusted --reason known", '{"peer":"LON-B"', 0],
    ["reload", '{"changed":[', 0],
    ["trust LON-B blocked --reason noisy --for 2h", '{"peer":"LON-B"', 0],
    ["token new --scope send", '{"id":"t1"', 0],
    ["token list", '{"tokens":[', 0],
    ["forward --list", '{"forwards":[', 0],
    ["forward --remove f0", "{}", 0],
    ["plugin list --running", '"namespace":"heal-action"', 0],
    ["heal", '"actions":[', 0],
    ["heal run restart-radio --dry-run", '"dry_run":true', 0],
    ["engine get e k", '"revision":"1"', 0],
    ["engine put e k hi --absent", '"revision":"1"', 0],
    ["token revoke t1", "{}", 0],
    ["wg show", '"interface":"gwg0"', 0],
    [`wg peer-config phone --public-key ${"A".repeat(43)}=`, "Address = fd00::3/128", 0],
    ["wg remove phone", '{"name":"phone"}', 0],
    ["wg rotate", '{"public_key":"', 0],
    ["serf members", '"name":"LON-B"', 0],
    ["serf event", '"name":"deploy"', 0],
    ["serf event deploy 42 --no-coalesce", '{"name":"deploy"}', 0],
    ["serf query load abc --node LON-B --tag role=web.* --relay 2 --timeout 2s", '"acks":["LON-B"]', 0],
    ["serf keys list", '"done":2', 0],
    [`serf keys install ${"A".repeat(43)}=`, '"done":2', 0],
    ["radio list", '{"radios":[', 0],
    ["radio show pi", '"firmware":"2.8.0"', 0],
    ["radio airtime pi", '"hourMaxMs":180000', 0],
    ["serf remove agent --prune", '{"name":"agent","status":"left"}', 0],
  ];
  test("a radio is shown to people, and nothing that it says moves a terminal", async () => {
    const shown = (await godwit("radio show pi")).out;
    expect(shown).toContain("radio pi at /dev/ttyUSB0: ready");
    expect(shown).toContain("channel 0  godwit  5f21");
    expect(shown).not.toContain("\u001b");
    expect((await godwit("radio airtime pi")).out).toMatch(
      /pi +12\.5 % +20\.0 s +180\.0 s +1\.9 s +3 +transport\.lora 12\.3 s/,
    );
  });

  test("reload says what is in force, and what waits for the next start and why", async () => {
    expect((await godwit("reload")).out).toBe(
      "services.telex added\nnode.log_level in force\nnode.network counts from the next start, because links are made for one mesh\n",
    );
  });

  test.each(lines)("%s", async (line, part, code) => {
    const json = await godwit(`${line} --json`);
    expect(json).toMatchObject({ code, err: "" });
    expect(json.out).toContain(part);
    expect(json.out.trimEnd().split("\n")).toHaveLength(1);
    JSON.parse(json.out);
    const before = await godwit(["--json", ...line.split(" ")]);
    expect(before.out).toBe(json.out);
    const human = await godwit(line);
    expect(human.code).toBe(code);
    expect(human.out).not.toContain("\x1b");
    expect(human.out).not.toContain("undefined");
    expect(human.out).toEndWith("\n");
  });

  test("every row of the table is tried here or needs no node", () => {
    const tried = lines.map(([line]) => line);
    const alone =
      /^(init|install|id|run|join|list sign|ping|version|complet.*|man|config .*|plugin .*|events|radio setup|authority .*|revoke self|secret (new|rotate)|store .*)$/;
    for (const { name } of commands)
      if (!alone.test(name)) {
        const isTried = tried.some(
          (line) => line.startsWith(name) || name.replace(/ (list|rm)$/, "") === line,
        );
        expect(`${name}: ${isTried || name === "outbox rm"}`).toBe(`${name}: true`);
      }
  });
});

describe("output for people", () => {
  test("an invitation says how many addresses it holds", async () => {
    const made = rig.node.invite({});
    const invite = spyOn(rig.node, "invite");
    const [one, other] = ["tcp://192.0.2.1:4860", "tcp://192.0.2.2:4860"];
    try {
      invite.mockReturnValue({ ...made, addresses: [one] });
      expect((await godwit("invite")).err).toContain("network telex, 1 address; for 1 node");
      invite.mockReturnValue({ ...made, addresses: [one, other] });
      expect((await godwit("invite")).err).toContain("network telex, 2 addresses; for 1 node");
    } finally {
      invite.mockRestore();
    }
  });

  test("status says what the store still converts", async () => {
    rig.node.conversions = [{ name: "sums", rows: 1_024 }];
    expect((await godwit("status")).out).toContain(
      "converting  sums: 1024 rows of the store looked at, in the background\n",
    );
  });

  test("status says what is not well", async () => {
    rig.node.healthNow = {
      status: "degraded",
      checks: [
        { name: "clock", status: "ok", reason: "confirmed" },
        { name: "links", status: "degraded", reason: "no neighbour is linked for 70 s" },
      ],
    };
    const { out } = await godwit("status");
    expect(out).toContain("degraded  links: no neighbour is linked for 70 s\n");
    expect(out).not.toContain("clock: confirmed");
  });

  test("status, peers and message are laid out", async () => {
    expect((await godwit("status")).out).toMatchInlineSnapshot(`
      "node      DUN-A (aeaqcaibae)
      id        aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq
      location  DUN
      network   telex (open: whoever knows its name is a member)
      address   fd00::1  fd00::/64
      version   0.1.0, up 1 min 33 s
      clock     confirmed: its time source vouches for it
      peers     1 connected, 2 known, 1 trusted
      routes    2
      queue     3 messages, 4.0 KiB

      TRANSPORT  TYPE  STATE    LISTENS
      lan        tcp   running  tcp://0.0.0.0:4860
      "
    `);
    expect((await godwit("peers")).out).toMatchInlineSnapshot(`
      "ID          CALLSIGN  TRUST   STATE      LINK                     RTT      SEEN
      aibaeaqcai  LON-B     member  connected  -> tcp://192.0.2.1:4860  1.25 ms  now

      yggdrasil (transports.overlay) 200:1::2
      PEER      STATE  REACHED                  RTT
      200:3::4  up     -> tls://192.0.2.7:9001  1.50 ms

      channel (transports.lora) 3.4 % busy, 3 nodes
      control may take 0.2 %, 3.5 s saved
      CONTROL     TOOK   REFUSED
      handshakes  4.2 s  1
      beacons     1.5 s  0

      HEARD  CALLSIGN  ADDRESS                ROLE
      -      -         meshtastic://0a1b2c3d  gateway
      -      -         meshtastic://0a1b2c3e  -
      "
    `);
    expect((await godwit("peers --all")).out).toMatchInlineSnapshot(`
      "ID          CALLSIGN  TRUST    STATE         LINK                     RTT      SEEN
      aibaeaqcai  LON-B     member   connected     -> tcp://192.0.2.1:4860  1.25 ms  now
      ambqgaydam  -         unknown  disconnected  -                        -        never

      yggdrasil (transports.overlay) 200:1::2
      PEER      STATE  REACHED                  RTT
      200:3::4  up     -> tls://192.0.2.7:9001  1.50 ms

      channel (transports.lora) 3.4 % busy, 3 nodes
      control may take 0.2 %, 3.5 s saved
      CONTROL     TOOK   REFUSED
      handshakes  4.2 s  1
      beacons     1.5 s  0

      HEARD  CALLSIGN  ADDRESS                ROLE
      -      -         meshtastic://0a1b2c3d  gateway
      -      -         meshtastic://0a1b2c3e  -
      "
    `);
    const clock = new ManualClock(Date.parse("2026-01-01T00:05:00.000Z"));
    expect((await godwit(`message ${messageId1.slice(0, 8)}`, { clock })).out).toMatchInlineSnapshot(`
      "id         0123456789abcdef0123456789abcdef
      from       NYC-C (ambqgaydam)
      to         DUN-A
      subject    greetings
      state      delivered
      priority   2
      body       5 B, text/plain; charset=utf-8
      created    5 min ago
      delivered  5 min ago
      receipt    signed by DUN-A (aeaqcaibae) 5 min ago
      sealed     forward secret

      HOP                 AT
      NYC-C (ambqgaydam)  +0 ms
      aibaeaqcai          +500 ms
      DUN-A (aeaqcaibae)  +1000 ms
      "
    `);
  });

  test("a receipt without a signature is not told as a signed one", async () => {
    const { view, body } = rig.node.boxed.get(messageId1)!;
    const clock = new ManualClock(Date.parse("2026-01-01T00:05:00.000Z"));
    for (const [proof, words] of [
      ["session", "proven by the session with DUN-A (aeaqcaibae)"],
      ["lost", "by DUN-A (aeaqcaibae) (this disk damaged its proof)"],
    ] as const) {
      const receipt = { ...view.receipt!, proof, signature: null };
      rig.node.boxed.set(messageId1, { view: { ...view, receipt }, body });
      expect((await godwit(`message ${messageId1}`, { clock })).out).toContain(
        `\nreceipt    ${words} 5 min ago\n`,
      );
      expect((await godwit("send NYC-C x --wait")).out).toContain(`delivered with a receipt ${words}\n`);
    }
    rig.node.boxed.set(messageId1, { view, body });
  });

  test("colour on a terminal only, and never with NO_COLOR or --json", async () => {
    expect((await godwit("health", { isStdoutTty: true })).out).toContain("\x1b[32mok");
    expect((await godwit("health", { isStdoutTty: true, env: { NO_COLOR: "1" } })).out).not.toContain("\x1b");
    expect((await godwit("health --json", { isStdoutTty: true })).out).not.toContain("\x1b");
  });

  test("a page behind an id that was cut short is not told as an empty box", async () => {
    rig.node.boxed.clear();
    const short = messageId1.slice(0, 10);
    expect((await godwit(`outbox --after ${short}`)).out).toBe(
      `the outbox has nothing after ${short} (give the whole id)\n`,
    );
    expect((await godwit("outbox")).out).toBe("the outbox is empty\n");
  });

  test("what others wrote cannot drive the terminal", async () => {
    const evil = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202eevil\r\nid  forged";
    const view = { ...sampleMessage, subject: evil, reason: evil, to: evil };
    rig.node.boxed.set(messageId1, { view, body: new TextEncoder().encode(`${evil}\nsecond\tline`) });
    const lines = ["inbox", "outbox", `inbox read ${messageId1}`, `message ${messageId1}`];
    for (const line of lines) {
      const { out } = await godwit(line);
      expect(out).toContain("evil");
      // oxlint-disable-next-line no-control-regex
      expect(out).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]/);
    }
    expect((await godwit("inbox")).out.trimEnd().split("\n")).toHaveLength(2);
    expect((await godwit(`inbox read ${messageId1}`)).out).toContain("\nsecond\tline\n");
    rig.node.failure = godwitError("GODWIT_STORE_FAILED", evil);
    // oxlint-disable-next-line no-control-regex
    expect((await godwit("status")).err).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]/);
  });

  test("what others wrote cannot drive the terminal with --json either, and is the same document", async () => {
    const evil = "\x1b[2J\u009b31m\u202eevil\u2066\u200f\u061c\u2028\x7f";
    rig.node.boxed.set(messageId1, {
      view: { ...sampleMessage, subject: evil, reason: evil, to: evil },
      body: new TextEncoder().encode(evil),
    });
    // oxlint-disable-next-line no-control-regex
    const acted = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
    for (const line of ["inbox", "outbox", `inbox read ${messageId1}`, `message ${messageId1}`]) {
      const { out } = await godwit(`${line} --json`);
      expect(out).not.toMatch(acted);
      expect(JSON.stringify(JSON.parse(out))).toContain(JSON.stringify(evil).slice(1, -1));
    }
    rig.node.failure = godwitError("GODWIT_STORE_FAILED", evil);
    const { err } = await godwit("status --json");
    expect(err).not.toMatch(acted);
    expect(JSON.parse(err)).toMatchObject({ detail: evil });
  });

  test("--raw gives the exact bytes, but not to a terminal", async () => {
    const body = new Uint8Array([0x1b, 0, 255, 10]);
    rig.node.boxed.set(messageId1, { view: { ...sampleMessage, content_type: "image/png" }, body });
    expect(Buffer.compare((await godwit(`inbox read ${messageId1} --raw`)).bytes, body)).toBe(0);
    expect((await godwit(`inbox read ${messageId1} --raw`, { isStdoutTty: true })).code).toBe(2);
    expect((await godwit(`inbox read ${messageId1}`)).out).toContain("image/png");
  });
});

describe("exit codes and errors", () => {
  test("health follows the node; a node that is not there is a failure", async () => {
    rig.node.healthNow = {
      status: "degraded",
      checks: [{ name: "store", status: "degraded", reason: "slow" }],
    };
    const codes = async () =>
      [await godwit("health"), await godwit("health --live"), await godwit("health --ready")].map(
        ({ code }) => code,
      );
    expect(await codes()).toEqual([3, 0, 1]);
    expect((await godwit("health --live --ready")).code).toBe(2);
    rig.node.healthNow = { status: "down", checks: [] };
    const down = await godwit("health --json");
    expect(down).toMatchObject({ code: 1, out: '{"status":"down","checks":[]}\n', err: "" });
    expect(await codes()).toEqual([1, 1, 1]);
    rig.node.healthNow = { status: "ok", checks: [] };
    expect(await codes()).toEqual([0, 0, 0]);
    const gone = await runForTest(["health", "--socket", join(folder, "none")]);
    expect(gone).toMatchObject({ code: 1, out: "" });
    expect(gone.err).toContain("godwit run");
  });

  test("a node that accepts and never answers fails the health check", async () => {
    const path = join(folder, "hung.sock");
    const hung = Bun.listen({ unix: path, socket: { data() {} } });
    const clock = new ManualClock();
    const answered: CliResult[] = [];
    const asked = runForTest(["health", "--socket", path], { clock }).then((value) => answered.push(value));
    while (answered.length === 0) await clock.advance(ANSWER_TIMEOUT_MS);
    await asked;
    expect(answered[0]).toMatchObject({ code: 1, out: "" });
    expect(answered[0]?.err).toContain("does not answer within 10 s");
    hung.stop(true);
  });

  test("a refusal is a line for people and a problem document with --json", async () => {
    const human = await godwit("why NOBODY");
    expect(human).toEqual({
      code: 1,
      out: "",
      bytes: Buffer.alloc(0),
      err: 'godwit: no node is known as "NOBODY"\n',
    });
    const json = await godwit("why NOBODY --json");
    expect(JSON.parse(json.err)).toMatchObject({ status: 404, code: "GODWIT_NAME_UNKNOWN" });
    expect((await godwit("trust LON-B adored --reason x")).err).toContain("level");
    expect((await godwit("inbox --limit 0")).code).toBe(1);
  });

  test.each([
    [["statsu"], "did you mean godwit status?"],
    [["token", "mew"], "did you mean godwit token new?"],
    [["frobnicate"], "see godwit --help"],
    [["status", "extra"], "usage: godwit status"],
    [["why"], "usage: godwit why NODE"],
    [["status", "--colour"], "unknown option '--colour'"],
    [["send", "DUN"], "nothing to send"],
    [["send", "DUN", "x", "--ttl", "soon"], "--ttl takes a duration"],
    [["send", "DUN", "x", "--file", "y"], "either a text or --file"],
    [["send", "DUN", "--file", "/nonexistent"], "cannot read"],
    [["send", "DUN", "--file", "/tmp"], "is a directory"],
    [["trust", "LON-B", "trusted"], "--reason"],
    [["token", "new"], "--scope"],
    [["inbox", "read", "xyz"], "no message id"],
    [["token"], "token revoke ID"],
    [[], "usage: godwit COMMAND"],
  ])("%p is wrong use", async (argv, words) => {
    const result = await runForTest(argv);
    expect(result.code).toBe(2);
    expect(result.err).toContain(words);
    if (argv.length === 0 || argv.join() === "token") return;
    const json = await runForTest([...argv, "--json"]);
    expect(JSON.parse(json.err)).toMatchObject({ code: "GODWIT_USAGE" });
  });

  test("a bad configuration is 78, with its problems", async () => {
    const path = join(folder, "bad.toml");
    writeFileSync(path, '[node]\ncallsing = "DUN-A"\n');
    const human = await runForTest(["config", "check", "--config", path]);
    expect(human.code).toBe(78);
    expect(human.err).toContain("callsign");
    const json = await runForTest(["config", "check", "--config", path, "--json"]);
    expect(JSON.parse(json.err)).toMatchObject({
      code: "GODWIT_CONFIG_INVALID",
      errors: [{ path: "node.callsing" }],
    });
    writeFileSync(path, "[node\n");
    expect((await runForTest(["status", "--config", path])).code).toBe(78);
  });

  test("help is there for everything, on stdout, with exit 0, and lists only what exists", async () => {
    const overview = await runForTest(["--help"]);
    expect(overview.code).toBe(0);
    for (const { name, isHidden } of commands) {
      if (isHidden !== true) expect(overview.out).toContain(`  ${name} `);
      const help = await runForTest([...name.split(" "), "--help"]);
      expect(help.code).toBe(0);
      expect(help.out).toContain(`usage: godwit ${name.replace(/^(inbox|outbox|names) list$/, "$1")}`);
      expect(help.out).toContain("--json");
    }
    expect((await runForTest(["token", "--help"])).out).toContain("token revoke ID");
    expect((await runForTest(["help", "send"])).out).toContain("--wait");
    await runForTest(["--socket", socketPath, "send", "DUN", "--", "--help"]);
    expect(new TextDecoder().decode(rig.node.sent[0]?.body)).toBe("--help");
  });
});

describe("send", () => {
  const sent = () =>
    rig.node.sent.map(({ body, ...rest }) => ({ ...rest, body: new TextDecoder().decode(body) }));

  test("text, standard input and files arrive as they are", async () => {
    await runForTest(["--socket", socketPath, "send", "DUN-A", "two", "words", "--", "--json"]);
    await godwit("send DUN-A -", { stdin: "from stdin\n" });
    await godwit("send DUN-A", { stdin: new Uint8Array([0xff]) });
    const path = join(folder, "x.json");
    writeFileSync(path, "{}");
    await godwit(["send", "DUN-A", "--file", path]);
    const text = "text/plain; charset=utf-8";
    expect(sent()).toEqual([
      { to: "DUN-A", contentType: text, body: "two words --json" },
      { to: "DUN-A", contentType: text, body: "from stdin\n" },
      { to: "DUN-A", contentType: "application/octet-stream", body: "\ufffd" },
      { to: "DUN-A", contentType: expect.stringMatching(/^application\/json/) as string, body: "{}" },
    ]);
  });

  test("options reach the node", async () => {
    await godwit([
      ...["send", "DUN", "x", "--subject", "a & b=c", "--priority", "0", "--ttl", "2h", "--no-failover"],
      ...["--transient", "--key", "k", "--content-type", "text/markdown"],
    ]);
    expect(sent()[0]).toEqual({
      to: "DUN",
      body: "x",
      subject: "a & b=c",
      priority: 0,
      ttlSeconds: 7200,
      failover: false,
      transient: true,
      idempotencyKey: "k",
      contentType: "text/markdown",
    });
    expect((await godwit("send DUN x --priority 7")).err).toContain("priority");
  });

  test("--wait follows until the receipt, and fails when there will be none", async () => {
    const put = (state: "queued" | "delivered" | "refused", reason: string | null) =>
      rig.node.boxed.set(messageId1, { view: { ...sampleMessage, state, reason }, body: new Uint8Array(0) });
    put("queued", "no route yet");
    const read = rig.node.message.bind(rig.node);
    let looks = 0;
    rig.node.message = async (id) => {
      if (++looks === 2) put("delivered", null);
      return await read(id);
    };
    const fine = await godwit("send NYC-C x --wait");
    expect(fine.code).toBe(0);
    expect(fine.err).toContain("queued: no route yet");
    expect(fine.out).toContain(`signed by DUN-A (${nodeA.slice(0, 10)})`);
    expect(fine.out).toContain(`NYC-C -> ${nodeB.slice(0, 10)} -> DUN-A`);
    put("refused", "disk full");
    expect(await godwit("send NYC-C x --wait --json")).toMatchObject({ code: 1, err: "" });
    put("queued", "no route yet");
    looks = 10;
    const late = await godwit("send NYC-C x --wait --timeout 0");
    expect(late.code).toBe(1);
    expect(late.err).toContain("stays queued");
  });
});

test("events are followed until the user has had enough", async () => {
  for (const json of [[], ["--json"]]) {
    const enough = new AbortController();
    const following = godwit(["events", "--family", "link", ...json], {
      signal: enough.signal,
      onOut: (text) => {
        if (text.includes("last")) enough.abort();
      },
    });
    while (rig.node.subscribers === 0) await new Promise((resolve) => setImmediate(resolve));
    const at = "2026-01-01T00:00:00.000Z";
    rig.node.emit({ family: "peer", type: "peer.seen", at, data: {} });
    rig.node.emit({ family: "link", type: "link.up", at, data: { peer: "LON-B\x1b[2J" } });
    rig.node.emit({ family: "link", type: "link.down", at, data: { why: "last" } });
    const { code, out } = await following;
    expect(code).toBe(0);
    expect(out).not.toContain("\x1b");
    expect(out).not.toContain("peer.seen");
    if (json.length === 0)
      expect(out).toBe(
        "2026-01-01T00:00:00.000Z  link.up            peer=LON-B\ufffd[2J\n2026-01-01T00:00:00.000Z  link.down          why=last\n",
      );
    else
      expect(
        out
          .trimEnd()
          .split("\n")
          .map((line) => (JSON.parse(line) as { type: string }).type),
      ).toEqual(["link.up", "link.down"]);
    while (rig.node.subscribers > 0) await new Promise((resolve) => setImmediate(resolve));
  }
});

test("a new token's secret stands alone on stdout", async () => {
  const { out, err } = await godwit("token new --scope send --scope read");
  expect(out).toBe("gwt_secret\n");
  expect(err).toContain("send, read");
});

test("version and config need no node", async () => {
  for (const word of ["version", "--version"])
    expect(await runForTest([word])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^godwit \d+\.\d+\.\d+\n$/),
    });
  expect(JSON.parse((await runForTest(["version", "--json"])).out)).toHaveProperty("version");
  expect((await runForTest(["config", "check"])).code).toBe(0);
  expect(JSON.parse((await runForTest(["config", "schema"])).out)).toHaveProperty("properties");
  expect((await runForTest(["config", "explain", "node.callsign"])).out).toContain("node.callsign");
  expect((await runForTest(["config", "explain", "node.callsing"])).err).toContain("node.callsign");
  const explained = async (key: string) => (await runForTest(["config", "explain", key])).out;
  expect(await explained("node.log_level")).toContain("takes effect on reload\n");
  expect(await explained("node.network")).toContain("takes effect at the next start, because links");
});

test("what finds no room on standard output fails the command, whichever it is, and says so in the form asked for", async () => {
  const outFails = new Error("ENOSPC: no space left on device, write");
  for (const argv of [["version"], ["--help"], ["config", "schema"]]) {
    const { code, err } = await runForTest(argv, { outFails });
    expect([argv.join(" "), code, err]).toEqual([
      argv.join(" "),
      1,
      expect.stringContaining("godwit: standard output did not take all of it: ENOSPC"),
    ]);
  }
  const { code, err } = await runForTest(["version", "--json"], { outFails });
  expect([code, JSON.parse(err)]).toEqual([1, expect.objectContaining({ code: "GODWIT_OUTPUT_FAILED" })]);
  // The command's own failure is the one that counts.
  expect((await runForTest(["nonsense"], { outFails })).code).toBe(2);
});

test("a route that its next hop has retracted is not shown with the highest number as its cost", () => {
  expect([cost(6), cost(METRIC_INFINITE)]).toEqual(["0.6 ms", "none"]);
});
