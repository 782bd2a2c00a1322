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

/** A connection that this node serves, and why it was reset. */
async function served(): Promise<{ readonly resets: string[] }> {
  const resets: string[] = [];
  await new Promise<void>((resolve) => {
    const stream = {
      remote: REMOTE,
      metadata: Buffer.from(`127.0.0.1:${target.port}`),
      isClosed: false,
      accept: resolve,
      open() {},
      pause() {},
      write: () => true,
      end() {},
      reset: (_code?: number, why?: string) => void resets.push(why ?? ""),
    };
    serve(stream as unknown as ByteStream);
  });
  return { resets };
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
