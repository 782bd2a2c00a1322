/** Two transports with one scheme: the first that can dial does. */
import { describe, expect, test } from "bun:test";
import { definePlugin, type DialTerms, type Pipe, type TransportDriver } from "@godwit/sdk";
import { z } from "zod/mini";
import { ManualClock } from "../../kernel/clock.ts";
import { GodwitError, godwitError } from "../../kernel/errors.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { PluginHost } from "./host.ts";

type Dial = TransportDriver["dial"];
const never = new AbortController().signal;
const failing: Dial = () => Promise.reject(godwitError("GODWIT_DIAL_FAILED", "nobody there"));
/** Until it is given up. */
const hanging: Dial = (_to, signal) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });

class TestPipe {
  readonly remote: string;
  isClosed = false;
  constructor(remote: string) {
    this.remote = remote;
  }
  close(): void {
    this.isClosed = true;
  }
}
const reaching =
  (by: string): Dial =>
  async () =>
    new TestPipe(by) as unknown as Pipe;

async function setup(...dials: readonly (readonly [name: string, dial: Dial, timeoutMs?: number])[]) {
  const clock = new ManualClock();
  const asked: string[] = [];
  const host = new PluginHost({
    plugins: dials.map(([id, dial, dialTimeoutMs]) =>
      definePlugin({
        id,
        namespace: "transport",
        sdk: "^0.1.0",
        permissions: [],
        config: z.strictObject({}),
        start: (ctx) =>
          ctx.transport.register({
            schemes: ["x"],
            ...(dialTimeoutMs === undefined ? {} : { dialTimeoutMs }),
            dial: (...args) => (asked.push(id), dial(...args)),
          }),
      }),
    ),
    clock,
    random: seededRandom(1),
    log: silentLog,
    metrics: new Metrics(),
    network: { addresses: () => [], watch: () => () => {}, refusal: () => undefined },
    events: {
      screen: () => "open" as const,
      pipe() {},
      listening() {},
      hint: () => true,
      withdraw() {},
      withdrawAll() {},
      health() {},
    },
  });
  await host.start(dials.map(([type]) => ({ namespace: "transport", name: type, type, options: {} })));
  return { host, clock, asked };
}

const remoteOf = async (dialling: Promise<Pipe>) => (await dialling).remote;

describe("two transports with one scheme", () => {
  test("the first that can dial does, the other is not asked", async () => {
    const { host, asked } = await setup(["one", reaching("one")], ["two", reaching("two")]);
    expect([await remoteOf(host.dial("x://1", never)), asked]).toEqual(["one", ["one"]]);
  });

  test("where the first cannot, the second does", async () => {
    const { host, asked } = await setup(["one", failing], ["two", reaching("two")]);
    expect([await remoteOf(host.dial("x://1", never)), asked]).toEqual(["two", ["one", "two"]]);
  });

  test("one that throws instead of rejecting is gone past as well", async () => {
    const rude: Dial = () => {
      throw new Error("at once");
    };
    const { host } = await setup(["one", rude], ["two", reaching("two")]);
    expect(await remoteOf(host.dial("x://1", never))).toBe("two");
  });

  test("an endpoint that is none for the first may be one for the second", async () => {
    const picky: Dial = () => Promise.reject(godwitError("GODWIT_ENDPOINT_INVALID", "no port"));
    const { host } = await setup(["one", picky], ["two", reaching("two")]);
    expect(await remoteOf(host.dial("x://1", never))).toBe("two");
  });

  test("when none would on these terms, that is what is said, and not that it cannot be reached", async () => {
    const refusing: Dial = () => Promise.reject(godwitError("GODWIT_ENDPOINT_REFUSED", "its path"));
    const { host, asked } = await setup(["one", refusing], ["two", refusing]);
    const error = await host.dial("x://1", never).catch((thrown: unknown) => thrown);
    expect([error, asked]).toMatchObject([{ code: "GODWIT_ENDPOINT_REFUSED" }, ["one", "two"]]);
    const mixed = await setup(["one", refusing], ["two", failing]);
    expect(await mixed.host.dial("x://1", never).catch((thrown: unknown) => thrown)).toMatchObject({
      code: "GODWIT_DIAL_FAILED",
    });
  });

  test("an address that another named and that is not to be dialled is given to none of them", async () => {
    const { host, asked } = await setup(["one", reaching("one")], ["two", reaching("two")]);
    const terms: DialTerms = {
      refusal: (address) => (address === "127.0.0.1" ? "not to be dialled" : undefined),
    };
    const refused = host.dial("x://127.0.0.1:22", never, undefined, terms).catch((thrown: unknown) => thrown);
    expect([await refused, asked]).toMatchObject([{ code: "GODWIT_ENDPOINT_REFUSED" }, []]);
    expect(await remoteOf(host.dial("x://192.0.2.1:22", never, undefined, terms))).toBe("one");
    // The operator's word.
    expect(await remoteOf(host.dial("x://127.0.0.1:22", never))).toBe("one");
  });

  test("when none can, all are named with their reasons", async () => {
    const { host } = await setup(
      ["one", failing],
      [
        "two",
        () => Promise.reject(new GodwitError("GODWIT_X", "no radio", { kind: "transport", retry: "later" })),
      ],
    );
    const error = await host.dial("x://1", never).catch((thrown: GodwitError) => thrown);
    expect(error).toMatchObject({
      code: "GODWIT_DIAL_FAILED",
      message: "no transport reaches x://1: one: nobody there; two: no radio",
    });
  });

  test("all are within the time of one dial, and a first that hangs leaves the second its part", async () => {
    const { host, clock } = await setup(["one", hanging, 5_000], ["two", reaching("two"), 3_000]);
    expect(host.dialTimeoutMs("x://1")).toBe(5_000);
    const dialling = remoteOf(host.dial("x://1", never));
    await clock.advance(2_501);
    expect(await dialling).toBe("two");
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("four that hang, and one that asked for little, take no longer than the most patient alone", async () => {
    const { host, clock, asked } = await setup(
      ["one", hanging, 1_000],
      ["two", hanging],
      ["three", hanging, 60_000],
      ["four", hanging],
      ["five", reaching("five")],
    );
    expect(host.dialTimeoutMs("x://1")).toBe(60_000);
    const dialling = remoteOf(host.dial("x://1", never));
    await clock.advance(1_001);
    expect(asked).toEqual(["one", "two"]);
    await clock.advance(58_000);
    expect([await dialling, asked.length]).toEqual(["five", 5]);
  });

  test("the last may take what is left, and rejects as it does", async () => {
    const { host, clock } = await setup(["one", failing], ["two", hanging, 3_000]);
    const abort = new AbortController();
    const dialling = host.dial("x://1", abort.signal).catch((thrown: unknown) => thrown);
    await clock.advance(60_000);
    const reason = new Error("given up");
    abort.abort(reason);
    expect(await dialling).toBe(reason);
  });

  test("a dial that is given up moves on to nobody", async () => {
    const { host, asked, clock } = await setup(["one", hanging], ["two", reaching("two")]);
    const abort = new AbortController();
    const dialling = host.dial("x://1", abort.signal).catch((thrown: unknown) => thrown);
    const reason = new Error("given up");
    abort.abort(reason);
    expect([await dialling, asked]).toEqual([reason, ["one"]]);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("a pipe that comes after its transport was given up is closed", async () => {
    const gate = Promise.withResolvers<Pipe>();
    const { host, clock } = await setup(["one", () => gate.promise, 1_000], ["two", reaching("two"), 2_000]);
    const dialling = remoteOf(host.dial("x://1", never));
    await clock.advance(1_001);
    expect(await dialling).toBe("two");
    const late = new TestPipe("one");
    gate.resolve(late as unknown as Pipe);
    await clock.advance(0);
    expect(late.isClosed).toBe(true);
  });
});
