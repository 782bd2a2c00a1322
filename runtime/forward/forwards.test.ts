import { afterEach, beforeEach, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import type { ByteStream } from "../stream/byte-stream.ts";
import type { StreamHandler } from "../stream/streams.ts";
import { Forwards, type ForwardsDeps } from "./forwards.ts";

const REMOTE = "r".repeat(52) as NodeId;
const TRUSTED = { from: ["trusted"], targets: ["127.0.0.1:*"] };

let clock: ManualClock;
let isTrusted: boolean;
let forwards: Forwards;
let serve: StreamHandler;
let target: ReturnType<typeof listen>;

const listen = () => Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });

beforeEach(() => {
  clock = new ManualClock();
  isTrusted = true;
  target = listen();
  forwards = new Forwards({
    streams: {
      handle(_: string, handler: StreamHandler) {
        serve = handler;
        return () => {};
      },
    },
    clock,
    random: seededRandom(1),
    log: silentLog,
    allow: [TRUSTED],
    resolve: () => REMOTE,
    isFrom: (who: string) => who === "trusted" && isTrusted,
  } as unknown as ForwardsDeps);
});
afterEach(() => {
  forwards.stop();
  target.stop(true);
});

/** Somebody asks for a connection: why it was reset, and whether it was accepted before. */
async function asked(
  meanwhile = () => {},
): Promise<{ readonly resets: string[]; readonly isAccepted: boolean }> {
  const resets: string[] = [];
  const isAccepted = await new Promise<boolean>((resolve) => {
    const stream = {
      remote: REMOTE,
      metadata: Buffer.from(`127.0.0.1:${target.port}`),
      isClosed: false,
      accept: () => resolve(true),
      open() {},
      pause() {},
      write: () => true,
      end() {},
      reset(_code?: number, why?: string) {
        resets.push(why ?? "");
        resolve(false);
      },
    };
    serve(stream as unknown as ByteStream);
    meanwhile();
  });
  return { resets, isAccepted };
}

async function served(): Promise<{ readonly resets: string[] }> {
  const one = await asked();
  expect(one.isAccepted).toBe(true);
  return one;
}

const refusal = () => `the far node does not allow 127.0.0.1:${target.port}`;

test("a connection ends with a right that ran out, of which nobody tells", async () => {
  const { resets } = await served();
  await clock.advance(60_000);
  expect(resets).toEqual([]);
  isTrusted = false;
  await clock.advance(21_000);
  expect(resets[0]).toBe(refusal());
});

test("a right that is away for a moment, as one by a rule is without a link, ends nothing", async () => {
  const { resets } = await served();
  for (let i = 0; i < 10; i++) {
    isTrusted = !isTrusted;
    await clock.advance(10_000);
  }
  expect(resets).toEqual([]);
});

test("a change ends what is refused by it at once, and one of somebody's rights a moment later", async () => {
  const one = await served();
  forwards.allow([]);
  expect(one.resets[0]).toBe(refusal());
  forwards.allow([TRUSTED]);
  const two = await served();
  isTrusted = false;
  forwards.rightsChanged();
  await clock.advance(1_001);
  expect(two.resets[0]).toBe(refusal());
});

test("nothing is looked at while nothing is served", async () => {
  const { resets } = await served();
  forwards.allow([]);
  expect(resets).not.toEqual([]);
  await clock.advance(10_001);
  expect(clock.nextAtMs()).toBeUndefined();
});

test("a right that is taken back while its target is connected opens nothing", async () => {
  const one = await asked(() => (isTrusted = false));
  expect(one).toEqual({ isAccepted: false, resets: [refusal()] });
});

test("of a configuration read anew, forwards that are as before stay the same ones, and those of a command too", () => {
  const wanted = (to: string) => ({ listen: "127.0.0.1:0", to, target: "localhost:80" });
  const ids = () => Object.fromEntries(forwards.list().map(({ id, to }) => [to, id]));
  forwards.configure([wanted("LON-A"), wanted("LON-B")]);
  forwards.add(wanted("LON-C"), "api");
  const before = ids();
  expect(Object.keys(before)).toEqual(["LON-A", "LON-B", "LON-C"]);
  forwards.configure([wanted("LON-D"), wanted("LON-B")]);
  const after = ids();
  expect(after).toEqual({
    "LON-B": before["LON-B"]!,
    "LON-C": before["LON-C"]!,
    "LON-D": expect.any(String),
  });
  expect(forwards.list()).toHaveLength(3);
  expect(forwards.list().every(({ isListening }) => isListening)).toBe(true);
});

test("why a forward of the configuration does not listen is told until it does", async () => {
  const taken = listen();
  const address = `127.0.0.1:${taken.port}`;
  forwards.configure([
    { listen: address, to: "LON-A", target: "localhost:80" },
    { listen: "127.0.0.1:0", to: "LON-B", target: "localhost:80" },
  ]);
  expect(forwards.waiting).toHaveLength(1);
  expect(forwards.waiting[0]).toContain(address);
  taken.stop(true);
  await clock.advance(60_000);
  expect(forwards.waiting).toEqual([]);
  expect(forwards.list().every(({ isListening }) => isListening)).toBe(true);
});
