import { expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../kernel/clock.ts";
import {
  BODY_BYTES_PER_SECOND_MIN,
  BODY_GRACE_MS,
  BODY_IDLE_MS,
  BodyReader,
  JSON_BYTES_MAX,
  JSON_MARKS_MAX,
  parseJson,
  READING_BYTES_MAX,
} from "./body.ts";

const post = (
  body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>,
  headers?: Record<string, string>,
) => ({
  request: new Request("http://x/", { method: "POST", body, ...(headers === undefined ? {} : { headers }) }),
  connection: {},
});
const stream = (pull: (c: ReadableStreamDefaultController<Uint8Array>) => void | Promise<void>) =>
  new ReadableStream<Uint8Array>({ pull }, { highWaterMark: 0 });
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "fine",
    (error: { code?: string }) => error.code,
  );

test("bodies up to the bound arrive whole, whatever the chunks", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 90_000 }), { maxLength: 6 }), async (chunks) => {
      const reader = new BodyReader(new ManualClock());
      const left = [...chunks];
      const body = stream((c) => {
        const chunk = left.shift();
        if (chunk === undefined) c.close();
        else c.enqueue(chunk);
      });
      const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      expect(Buffer.compare(await reader.read(post(body), total), Buffer.concat(chunks))).toBe(0);
      if (total > 0)
        expect(await codeOf(reader.read(post(Buffer.concat(chunks)), total - 1))).toBe("GODWIT_TOO_BIG");
      expect(reader.readingBytes).toBe(0);
    }),
    { numRuns: 30 },
  );
});

test("an endless body is cut at the bound, a lying Content-Length is not believed", async () => {
  const reader = new BodyReader(new ManualClock());
  let cancelled = false;
  const endless = new ReadableStream<Uint8Array>({
    pull: (c) => c.enqueue(new Uint8Array(1000)),
    cancel: () => void (cancelled = true),
  });
  expect(await codeOf(reader.read(post(endless), 10_000))).toBe("GODWIT_TOO_BIG");
  expect(cancelled).toBe(true);
  expect(await codeOf(reader.read(post("x", { "content-length": "99999999999" }), 10))).toBe(
    "GODWIT_TOO_BIG",
  );
});

test("a body with Content-Encoding is refused, not kept as bytes that its reader cannot read", async () => {
  const reader = new BodyReader(new ManualClock());
  for (const encoding of ["gzip", "br", "GZIP, identity", "x"])
    expect(await codeOf(reader.read(post("x", { "content-encoding": encoding }), 10))).toBe(
      "GODWIT_CONTENT_ENCODING",
    );
  expect(await reader.read(post("x", { "content-encoding": " Identity " }), 10)).toHaveLength(1);
});

test("silence and dripping both end in GODWIT_REQUEST_TIMEOUT", async () => {
  const clock = new ManualClock();
  const reader = new BodyReader(clock);
  const silent = codeOf(reader.read(post(stream(() => new Promise(() => {}))), 100));
  await clock.advance(BODY_IDLE_MS);
  expect(await silent).toBe("GODWIT_REQUEST_TIMEOUT");
  const drip = stream(
    (c) =>
      new Promise((resolve) =>
        clock.after(BODY_IDLE_MS / 2, () => {
          c.enqueue(new Uint8Array(1));
          resolve();
        }),
      ),
  );
  const dripping = codeOf(reader.read(post(drip), 1e9));
  await clock.advance(BODY_GRACE_MS + BODY_IDLE_MS);
  expect(await dripping).toBe("GODWIT_REQUEST_TIMEOUT");
  expect(reader.readingBytes).toBe(0);
  expect(BODY_BYTES_PER_SECOND_MIN).toBeGreaterThan(0);
});

test("all bodies together are bounded, and the room comes back", async () => {
  const reader = new BodyReader(new ManualClock());
  let release = () => {};
  const hold = (bytes: number) => {
    let sent = false;
    return stream((c) => {
      if (!sent) {
        sent = true;
        c.enqueue(new Uint8Array(bytes));
        return undefined;
      }
      return new Promise((resolve) => {
        release = () => {
          c.close();
          resolve();
        };
      });
    });
  };
  const first = reader.read(post(hold(READING_BYTES_MAX - 10)), READING_BYTES_MAX);
  while (reader.readingBytes === 0) await Promise.resolve();
  expect(await codeOf(reader.read(post(new Uint8Array(11)), 100))).toBe("GODWIT_QUEUE_FULL");
  expect(await codeOf(reader.read(post(new Uint8Array(10)), 100))).toBe("fine");
  release();
  await first;
  expect(reader.readingBytes).toBe(0);
});

test("a body that came with its head is taken at once, as a copy, and within the same bounds", async () => {
  const reader = new BodyReader(new ManualClock());
  const cameWith = (body: Uint8Array, headers: Record<string, string> = {}) => ({
    request: new Request("http://x/", { method: "POST", headers }),
    connection: { takeBody: () => body },
  });
  const pool = new Uint8Array([9, 1, 2, 3, 9]);
  const read = await reader.read(cameWith(pool.subarray(1, 4)), 3);
  pool.fill(0);
  expect(read).toEqual(new Uint8Array([1, 2, 3]));
  expect(read.buffer.byteLength).toBe(3);
  expect(await codeOf(reader.read(cameWith(pool), 4))).toBe("GODWIT_TOO_BIG");
  expect(await codeOf(reader.read(cameWith(pool, { "content-encoding": "br" }), 9))).toBe(
    "GODWIT_CONTENT_ENCODING",
  );
  const held = new Uint8Array(READING_BYTES_MAX - 4);
  let release = () => {};
  const slow = stream((c) => {
    if (reader.readingBytes === 0) return c.enqueue(held);
    return new Promise((resolve) => (release = () => (c.close(), resolve())));
  });
  const first = reader.read(post(slow), READING_BYTES_MAX);
  while (reader.readingBytes === 0) await Promise.resolve();
  expect(await codeOf(reader.read(cameWith(pool), 9))).toBe("GODWIT_QUEUE_FULL");
  expect(await codeOf(reader.read(cameWith(pool.subarray(1)), 9))).toBe("fine");
  release();
  await first;
  expect(reader.readingBytes).toBe(0);
});

test("JSON bombs are refused before they are parsed, long strings are not bombs", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  for (const bomb of ["[".repeat(1e6), "[" + "[],".repeat(1e5), '{"a":'.repeat(1e5)])
    expect(() => parseJson(bytes(bomb))).toThrow("nested or larger");
  for (const broken of ["", "{", '{"a": "', '"\\', "{'a':1}"])
    expect(() => parseJson(bytes(broken))).toThrow("not JSON");
  expect(() => parseJson(new Uint8Array([0x22, 0xff, 0x22]))).toThrow("not UTF-8");
  const full = { body: '[{,:\\"'.repeat(JSON_MARKS_MAX * 2), end: "\\" };
  expect(parseJson(bytes(JSON.stringify(full)))).toEqual(full);
  expect(JSON_BYTES_MAX).toBeGreaterThan(Math.ceil((16 * 1024 * 1024) / 3) * 4);
});

test("whatever JSON.stringify makes of strings is parsed back", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ maxLength: 40 }), fc.string({ unit: "grapheme" }), { maxKeys: 9 }),
      (value) => {
        expect(parseJson(new TextEncoder().encode(JSON.stringify(value)))).toEqual(
          JSON.parse(JSON.stringify(value)),
        );
      },
    ),
  );
});
