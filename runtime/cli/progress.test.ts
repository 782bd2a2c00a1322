/** How far a message is on its way, on a terminal, in a file and for a program. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRig, messageId1, nodeB, type Rig, sampleMessage } from "../api/testing.ts";
import { ManualClock, systemClock } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import type { MessageView, ProgressView } from "../view/contract/node.ts";
import { Meter, progressWords } from "./progress.ts";
import { bitRate, size, sizeOf } from "./render.ts";
import { runForTest, type CliSetup, serveAt } from "./testing.ts";

const MIB = 1_048_576;
const progress: ProgressView = {
  next_hop: nodeB,
  next_hop_callsign: "LON-B",
  bytes: 3.1 * MIB,
  bytes_total: 16 * MIB,
  bits_per_second: 2_000_000,
  seconds_left: 52,
};
const WORDS = "3.1 of 16.0 MiB, 2.0 Mbit/s, 52 s left";

test("sizes and rates are said with one digit behind the point, in a unit that fits", () => {
  expect([0, 1_023, 1_024, 16 * MIB, 5 * 1024 ** 3].map(size)).toEqual([
    ...["0 B", "1023 B", "1.0 KiB", "16.0 MiB", "5.0 GiB"],
  ]);
  expect(sizeOf(0, 900)).toBe("0 of 900 B");
  expect([0.4, 999, 9_600, 2e6, 1.25e9].map(bitRate)).toEqual([
    ...["0 bit/s", "999 bit/s", "9.6 kbit/s", "2.0 Mbit/s", "1.3 Gbit/s"],
  ]);
  expect(progressWords(progress)).toBe(WORDS);
  const early = { ...progress, bytes: 0, bits_per_second: null, seconds_left: null };
  expect(progressWords(early)).toBe("0.0 of 16.0 MiB");
});

describe("a meter", () => {
  const meterFor = (setup: { columns?: number; isJson?: boolean; env?: Record<string, string> }) => {
    const clock = new ManualClock(0);
    const written: string[] = [];
    const io = { stderr: (text: string) => void written.push(text), stderrColumns: setup.columns, clock };
    const surroundings = { io, isJson: setup.isJson ?? false, env: setup.env ?? {} };
    return { clock, written, meter: new Meter(surroundings) };
  };

  test("says lines where the terminal says that it has no columns, and drives none by words of others", () => {
    const { meter, written } = meterFor({ columns: 0 });
    meter.show(progress);
    meter.line("queued: \u001b[2J\u202e\nforged");
    expect(written).toHaveLength(2);
    expect(written[0]).toStartWith("sending ");
    expect(written[1]).toBe("queued: \ufffd[2J\ufffd forged\n");
  });

  test("draws one line over and over that is never as wide as the terminal", () => {
    for (const columns of [10, 40, 60, 80, 200]) {
      const { meter, written } = meterFor({ columns });
      for (const share of [0, 0.37, 1]) meter.show({ ...progress, bytes: share * progress.bytes_total });
      meter.clear();
      expect(written.pop()).toBe("\r\x1b[K");
      for (const line of written) {
        expect(line).toStartWith("\r\x1b[K");
        expect(line).not.toContain("\n");
        expect(Bun.stringWidth(line.slice(4))).toBeLessThan(columns);
      }
    }
    const { meter, written } = meterFor({ columns: 80 });
    meter.show(progress);
    expect(written).toEqual([`\r\x1b[K[######-------------------------]  19 %, ${WORDS}`]);
  });

  test("writes a line every ten seconds where there is no terminal, or one that cannot erase", async () => {
    for (const setup of [{}, { columns: 80, env: { TERM: "dumb" } }]) {
      const { meter, written, clock } = meterFor(setup);
      for (let s = 0; s < 25; s++) {
        meter.show(progress);
        await clock.advance(1_000);
      }
      meter.clear();
      expect(written).toEqual(Array.from({ length: 3 }, () => `sending ${WORDS}\n`));
    }
  });

  test("says nothing to who wants JSON", () => {
    for (const columns of [undefined, 80]) {
      const { meter, written } = meterFor({ isJson: true, ...(columns === undefined ? {} : { columns }) });
      meter.show(progress);
      meter.line("relayed");
      meter.clear();
      expect(written).toEqual([]);
    }
  });
});

describe("a message that is being sent", () => {
  let folder: string;
  let scope: Scope;
  let rig: Rig;
  let socketPath: string;
  let sequence = 0;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "godwit-progress-"));
  });
  beforeEach(async () => {
    await scope?.close();
    scope = new Scope("api");
    rig = createRig({ clock: systemClock });
    socketPath = join(folder, `${sequence++}.sock`);
    await serveAt(socketPath, rig, scope);
    put({ state: "queued", progress });
  });
  afterAll(async () => {
    await scope.close();
    rmSync(folder, { recursive: true });
  });
  const put = (view: Partial<MessageView>) =>
    rig.node.boxed.set(messageId1, { view: { ...sampleMessage, ...view }, body: new Uint8Array(0) });
  const godwit = (line: string, setup: CliSetup = {}) =>
    runForTest([...line.split(" "), "--socket", socketPath], setup);
  /** Delivered when it is looked at for the third time. */
  const deliverSoon = () => {
    const read = rig.node.message.bind(rig.node);
    let looks = 0;
    rig.node.message = async (id) => {
      if (++looks === 3) put({ state: "delivered", progress: null });
      return await read(id);
    };
  };

  test("is shown with its bytes, rate and time left, and never as queued", async () => {
    for (const line of ["outbox", `message ${messageId1}`]) {
      const { out } = await godwit(line);
      expect(out).toContain(`sending ${WORDS}`);
      expect(out).not.toContain("queued");
    }
    const { out } = await godwit(`message ${messageId1} --json`);
    expect(JSON.parse(out)).toMatchObject({ progress });
  });

  test("is followed by a bar that is gone when the receipt comes", async () => {
    deliverSoon();
    const { code, out, err } = await godwit("send NYC-C x --wait", { stderrColumns: 80 });
    expect(code).toBe(0);
    expect(err).toContain(`\r\x1b[K[######---`);
    expect(err).toEndWith("\r\x1b[K");
    expect(out).toStartWith("delivered");
  });

  test("is followed by a line elsewhere, and by nothing with --json", async () => {
    deliverSoon();
    const { err } = await godwit("send NYC-C x --wait");
    expect(err).toBe(`${messageId1} is queued\nsending ${WORDS}\n`);
    put({ state: "queued", progress });
    deliverSoon();
    const { code, err: none } = await godwit("send NYC-C x --wait --json", { stderrColumns: 80 });
    expect([code, none]).toEqual([0, ""]);
  });

  test("is not called queued once more before it begins to be sent", async () => {
    put({ state: "queued", reason: null, progress: null });
    const read = rig.node.message.bind(rig.node);
    let looks = 0;
    rig.node.message = async (id) => {
      if (++looks === 2) put({ state: "delivered", progress: null });
      return await read(id);
    };
    expect((await godwit("send NYC-C x --wait")).err).toBe(`${messageId1} is queued\n`);
  });

  test("goes on when nobody waits for it any more", async () => {
    const { code, err } = await godwit("send NYC-C x --wait --timeout 0", { stderrColumns: 80 });
    expect(code).toBe(1);
    expect(err).toContain("\r\x1b[Kgodwit: ");
    expect(err).toContain(`(sending ${WORDS}); it goes on: godwit message ${messageId1}`);
  });

  test("of a node that tells no progress is shown as before", async () => {
    const { progress: _, ...earlier } = { ...sampleMessage, state: "queued" as const };
    rig.node.boxed.set(messageId1, { view: earlier as MessageView, body: new Uint8Array(0) });
    expect((await godwit("outbox")).out).toContain("queued");
  });
});
