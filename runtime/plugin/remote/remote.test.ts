/** What a plugin outside of the node's thread may say, how fast, and how it ends. */
import { describe, expect, test } from "bun:test";
import { systemClock } from "../../kernel/clock.ts";
import {
  DATA_BYTES_MAX,
  decodeParts,
  encodeFrame,
  encodeU32,
  PLUGIN_JSON_BYTES_MAX,
  PLUGIN_PROTOCOL_VERSION,
  PluginFrame,
} from "../frames/frames.ts";
import { netPolicyOf } from "../permissions.ts";
import { frameOf, rigRemote, turns, until } from "./testing.ts";

const many = (count: number, frame: Uint8Array): Uint8Array[] => Array.from({ length: count }, () => frame);
const pipe = {
  ...{ kind: "stream", remote: "far://there", local: "far://here", linkClass: "fast" },
  ...{ rateBitsPerSecond: 1, mtu: 0 },
};

describe("before it runs", () => {
  test("a plugin that says no hello is ended after ten seconds", async () => {
    const rig = rigRemote();
    await rig.launch();
    await rig.clock.advance(9_999);
    expect(rig.seen.kills).toBe(0);
    await rig.clock.advance(1);
    await turns();
    expect([rig.seen.kills > 0, rig.health]).toEqual([true, expect.stringContaining("did not say hello")]);
  });

  test("nothing is asked before the versions are known to agree", async () => {
    const rig = rigRemote({ netPolicy: () => netPolicyOf(["broker.listen:*"], ["broker.listen:*"]) });
    await rig.launch();
    rig.send(PluginFrame.call, { method: "net.listen", host: "127.0.0.1", port: 0 }, 1);
    await turns();
    expect(rig.got(PluginFrame.answer)).toEqual([]);
    expect(rig.health).toContain("before hello");
  });

  test("a plugin of another version of the protocol is refused, and gets neither table nor code", async () => {
    for (const protocol of [PLUGIN_PROTOCOL_VERSION - 1, PLUGIN_PROTOCOL_VERSION + 1]) {
      const rig = rigRemote();
      await rig.launch();
      rig.send(PluginFrame.hello, { protocol });
      await turns();
      expect(rig.health).toContain(`it speaks version ${protocol}`);
      expect(rig.got(PluginFrame.configure)).toEqual([]);
    }
  });

  test("hello is said once", async () => {
    const rig = rigRemote();
    await rig.start();
    rig.send(PluginFrame.hello, { protocol: PLUGIN_PROTOCOL_VERSION });
    await turns();
    expect(rig.health).toContain("a second hello");
  });
});

describe("a flood of", () => {
  /** Of those that the burst lets through, and one more; all in one turn. */
  const BURST = 20_000;

  test.each([
    ["frames that mean nothing", encodeFrame(0x7f, 0)],
    ["data of flows that are not there", encodeFrame(PluginFrame.data, 7, new Uint8Array(1))],
    ["credit of flows that are not there", encodeFrame(PluginFrame.credit, 7, encodeU32(1))],
    ["pings that nobody asked for", encodeFrame(PluginFrame.pong, 0)],
    ["cancelled calls", encodeFrame(PluginFrame.cancel, 3)],
  ])("%s ends the plugin, and what a burst may have does not", async (_name, frame) => {
    const rig = rigRemote();
    await rig.start();
    rig.raw(...many(BURST - 10, frame));
    await rig.handled();
    expect(rig.health).toBe("running");
    rig.raw(...many(20, frame));
    await until(() => rig.seen.kills > 0);
    expect([rig.health, rig.seen.kills > 0]).toEqual([expect.stringContaining("floods the node"), true]);
  });

  test("frames is handled a few at a time: timers of others come between", async () => {
    const rig = rigRemote({ realClock: systemClock });
    await rig.start();
    const ask = { method: "network.refusal", address: "192.0.2.1", text: "x".repeat(20_000) };
    rig.raw(...Array.from({ length: 1_500 }, (_, n) => frameOf(PluginFrame.call, n + 1, ask)));
    const timer = Promise.withResolvers<number>();
    // Behind the turn in which it comes.
    setImmediate(() => setTimeout(() => timer.resolve(rig.got(PluginFrame.answer).length), 1));
    expect(await timer.promise).toBeLessThan(1_000);
    await rig.handled();
    expect(rig.got(PluginFrame.answer).length).toBe(1_501);
    const stopping = rig.host.stop();
    await until(() => rig.got(PluginFrame.stop).length > 0);
    rig.port.send(PluginFrame.stopped);
    await stopping;
  });

  test("changes of what a pipe is ends the plugin, and data on it does not", async () => {
    const rig = rigRemote();
    await rig.start();
    rig.send(PluginFrame.event, { event: "register", schemes: ["far"] });
    rig.send(PluginFrame.open, { what: "pipe", pipe }, 1);
    await turns();
    // Empty ones: their room is bounded by what each costs beside its bytes.
    rig.raw(...many(2_000, encodeFrame(PluginFrame.data, 1, new Uint8Array(1))));
    await rig.handled();
    expect(rig.health).toBe("running");
    rig.raw(...many(BURST, frameOf(PluginFrame.change, 1, { remote: "far://elsewhere" })));
    await until(() => rig.seen.kills > 0);
    expect(rig.health).toContain("floods the node");
  });

  test("changes of its health ends the plugin", async () => {
    const rig = rigRemote();
    await rig.start();
    const health = frameOf(PluginFrame.health, 0, { state: "running" });
    rig.raw(...many(50, health));
    await rig.handled();
    expect(rig.health).toBe("running");
    rig.raw(health);
    await until(() => rig.seen.kills > 0);
    expect(rig.health).toContain("changes of its state");
  });

  test.each([
    ["endpoints", { event: "listening", endpoints: [] }],
    ["registrations", { event: "register", schemes: ["far"] }],
  ])("%s ends the plugin", async (_name, event) => {
    const rig = rigRemote();
    await rig.start();
    rig.raw(...many(51, frameOf(PluginFrame.event, 0, event)));
    await until(() => rig.seen.kills > 0);
    expect(rig.health).toContain("changes of its state");
  });

  test("lines of its log is cut, counted, and told once", async () => {
    const rig = rigRemote();
    await rig.start();
    const before = rig.logged.length;
    rig.raw(...many(1_000, frameOf(PluginFrame.log, 0, { level: "info", event: "noise" })));
    await rig.handled();
    const noise = rig.logged.filter((line) => line.includes('"noise"'));
    expect(noise.length).toBe(200);
    await rig.clock.advance(1_000);
    const told = rig.logged.slice(before).filter((line) => line.includes("plugin logs too much"));
    expect(told.map((line) => (JSON.parse(line) as { dropped: number }).dropped)).toEqual([800]);
    expect(rig.health).toBe("running");
  });
});

describe("while it runs", () => {
  test.each([
    ["contained", 20],
    ["untrusted", 6],
  ] as const)(
    "a %s plugin that hangs is ended, and one that answers is asked %i times in 20 s",
    async (level, asked) => {
      const rig = rigRemote({ level });
      await rig.start();
      for (let second = 0; second < 20; second++) {
        await rig.clock.advance(1_000);
        await turns(2);
        const last = rig.got(PluginFrame.ping).at(-1);
        if (last !== undefined) rig.port.send(PluginFrame.pong, last.id, new Uint8Array(8));
        await turns(2);
      }
      expect([rig.got(PluginFrame.ping).length, rig.seen.kills]).toEqual([asked, 0]);
      for (let second = 0; second < 7; second++) await rig.clock.advance(1_000);
      await turns();
      expect([rig.seen.kills > 0, rig.health]).toEqual([
        true,
        expect.stringContaining("did not answer for 5 s"),
      ]);
    },
  );

  test("a contained plugin whose heap is too large is ended, an untrusted one is the kernel's to bound", async () => {
    const heap = (bytes: number) => {
      const body = new Uint8Array(8);
      new DataView(body.buffer).setFloat64(0, bytes);
      return body;
    };
    for (const [level, bytes, isEnded] of [
      ["contained", 2 ** 28, false],
      ["contained", 2 ** 28 + 1, true],
      ["untrusted", 2 ** 32, false],
    ] as const) {
      const rig = rigRemote({ level });
      await rig.start();
      rig.port.send(PluginFrame.pong, 1, heap(bytes));
      await turns();
      expect([rig.seen.kills > 0, rig.health.includes("its heap has")]).toEqual([isEnded, isEnded]);
    }
  });

  test("a plugin that uses more than it may is ended at the next heartbeat", async () => {
    let why: string | undefined;
    const rig = rigRemote({ overuse: () => why });
    await rig.start();
    await rig.clock.advance(1_000);
    expect(rig.seen.kills).toBe(0);
    why = "its folder holds too much";
    await rig.clock.advance(1_000);
    await turns();
    expect([rig.seen.kills > 0, rig.health]).toEqual([true, expect.stringContaining(why)]);
  });

  test("the JSON of a call is bounded, and its bytes may be more", async () => {
    const ask = (text: string) => ({ method: "network.refusal", address: "192.0.2.1", text });
    const rig = rigRemote();
    await rig.start();
    rig.raw(frameOf(PluginFrame.call, 1, ask("x".repeat(PLUGIN_JSON_BYTES_MAX - 100))));
    await turns();
    expect(rig.got(PluginFrame.answer).length).toBe(1);
    rig.raw(frameOf(PluginFrame.call, 2, ask("x".repeat(PLUGIN_JSON_BYTES_MAX))));
    await turns();
    expect(rig.health).toContain(`at most ${PLUGIN_JSON_BYTES_MAX} are read`);
    expect(rig.got(PluginFrame.answer).length).toBe(1);
  });

  test("what it asked for without a grant is refused, and stands among what it lacks", async () => {
    const rig = rigRemote({ netPolicy: () => netPolicyOf(["broker.listen:80"], []) });
    await rig.start();
    rig.send(PluginFrame.call, { method: "net.listen", host: "127.0.0.1", port: 80 }, 1);
    await turns();
    const [answer] = rig.got(PluginFrame.answer);
    expect(decodeParts(answer!.body).json).toMatchObject({ error: { code: "GODWIT_FORBIDDEN" } });
    expect(rig.host.running[0]!.refusals).toEqual([
      expect.stringContaining("was not granted broker.listen:80"),
    ]);
  });

  test("a transport has no calls of a service or an engine", async () => {
    const rig = rigRemote();
    await rig.start();
    for (const [index, method] of [
      "mesh.send",
      "mesh.inbox.list",
      "streams.openStream",
      "members.list",
    ].entries())
      rig.send(PluginFrame.call, { method }, index + 1);
    await turns();
    const codes = rig
      .got(PluginFrame.answer)
      .map(({ body }) => (decodeParts(body).json as { error: { code: string } }).error.code);
    expect(codes).toEqual(Array.from({ length: 4 }, () => "GODWIT_NOT_FOUND"));
  });

  test("data beyond what one frame may hold ends it", async () => {
    const rig = rigRemote();
    await rig.start();
    rig.send(PluginFrame.event, { event: "register", schemes: ["far"] });
    rig.send(PluginFrame.open, { what: "pipe", pipe }, 1);
    rig.port.send(PluginFrame.data, 1, new Uint8Array(DATA_BYTES_MAX + 1));
    await turns();
    expect(rig.health).toContain("more data than there was room for");
  });
});

describe("its end", () => {
  test("a plugin that does not stop is ended after two seconds", async () => {
    const rig = rigRemote();
    await rig.start();
    const stopping = rig.host.stop();
    await turns();
    expect([rig.got(PluginFrame.stop).length, rig.seen.kills]).toEqual([1, 0]);
    await rig.clock.advance(1_999);
    expect(rig.seen.kills).toBe(0);
    await rig.clock.advance(1);
    await stopping;
    expect(rig.seen.kills).toBeGreaterThan(0);
  });

  test("a plugin that says that it has stopped is waited for no longer, and its process ends all the same", async () => {
    const rig = rigRemote();
    await rig.start();
    const stopping = rig.host.stop();
    await turns();
    rig.port.send(PluginFrame.stopped);
    await stopping;
    expect(rig.seen.kills).toBeGreaterThan(0);
  });

  test("whatever breaks the protocol ends its process and its channel", async () => {
    const rig = rigRemote();
    await rig.start();
    rig.send(PluginFrame.answer, {}, 77);
    await turns();
    expect([rig.seen.kills > 0, rig.seen.isClosed, rig.health]).toEqual([
      true,
      true,
      expect.stringContaining("an answer to nothing"),
    ]);
  });

  test("a plugin that closes its channel and lives on is ended a moment later", async () => {
    const rig = rigRemote();
    await rig.start();
    rig.port.close();
    await turns();
    expect(rig.seen.kills).toBe(0);
    await rig.clock.advance(1_000);
    await turns();
    expect([rig.seen.kills > 0, rig.health]).toEqual([true, expect.stringContaining("closed its channel")]);
  });
});
