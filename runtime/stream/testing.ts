/** Two or more ends of streams over a network that loses, repeats and reorders from a seed, in virtual time. */
import { generateIdentity } from "../identity/keys.ts";
import { ManualClock } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { decodePacketHeader, packetPayload } from "../wire/packet.ts";
import type { ByteStream } from "./byte-stream.ts";
import type { Path } from "./session-types.ts";
import { Streams } from "./streams.ts";

export interface Weather {
  loss: number;
  duplicate: number;
  /** Extra delay of each packet, up to so much, ms. */
  jitterMs: number;
  delayMs: number;
  frameBytes: number;
  path?: Path;
}

export interface End {
  readonly id: NodeId;
  readonly streams: Streams;
  readonly metrics: Metrics;
  readonly blocked: Set<NodeId>;
  readonly known: Set<NodeId>;
}

export class StreamNet {
  readonly clock = new ManualClock();
  readonly ends: End[] = [];
  readonly random;
  weather: Weather;
  /** Every packet sent, before its fate is decided; may answer other bytes, or none to lose it. */
  onPacket: (from: NodeId, frame: Uint8Array) => Uint8Array | undefined = (_from, frame) => frame;
  packets = 0;

  constructor(seed: number, weather: Partial<Weather> = {}) {
    this.random = seededRandom(seed);
    this.weather = { loss: 0, duplicate: 0, jitterMs: 0, delayMs: 1, frameBytes: 61_440, ...weather };
    this.add();
    this.add();
  }

  add(identity = generateIdentity(this.random)): End {
    const metrics = new Metrics();
    const blocked = new Set<NodeId>();
    const known = new Set<NodeId>();
    const streams = new Streams({
      self: identity.id,
      network: "test",
      dh: identity.dh,
      goneKey: identity.sign(new Uint8Array(1)).slice(0, 32),
      clock: this.clock,
      random: this.random,
      log: silentLog,
      metrics,
      signal: new AbortController().signal,
      isBlocked: (id) => blocked.has(id),
      isKnown: (id) => known.has(id),
      path: () => this.weather.path ?? { kind: "ready", frameBytes: this.weather.frameBytes },
      sendPacket: (_remote, frame) => (this.#send(identity.id, frame), true),
    });
    const end = { id: identity.id, streams, metrics, blocked, known };
    const at = this.ends.findIndex(({ id }) => id === end.id);
    if (at >= 0) this.ends[at] = end;
    else this.ends.push(end);
    return end;
  }

  get a(): End {
    return this.ends[0]!;
  }

  get b(): End {
    return this.ends[1]!;
  }

  #send(from: NodeId, borrowed: Uint8Array): void {
    const frame = this.onPacket(from, borrowed.slice());
    this.packets++;
    if (frame === undefined || frame.length > this.weather.frameBytes) return;
    const chance = (share: number) => this.random.below(1_000_000) < share * 1_000_000;
    for (let copies = chance(this.weather.duplicate) ? 2 : 1; copies > 0; copies--) {
      if (chance(this.weather.loss)) continue;
      const delayMs = this.weather.delayMs + (this.random.below(1_000) / 1_000) * this.weather.jitterMs;
      this.clock.after(delayMs, () => this.deliver(frame));
    }
  }

  deliver(frame: Uint8Array): void {
    const header = decodePacketHeader(frame);
    this.ends.find(({ id }) => id === header.destination)?.streams.onPacket(header, packetPayload(frame));
  }

  /** Lets time pass until `done`, at most `limitMs`. */
  async until(done: () => boolean, limitMs: number): Promise<void> {
    const endMs = this.clock.monotonicMs() + limitMs;
    while (!done() && this.clock.monotonicMs() < endMs) await this.clock.advance(5);
    if (!done()) throw new Error(`not within ${limitMs} ms of virtual time`);
  }

  /** Waits in virtual time for what happens in it. */
  async settle<T>(promise: Promise<T>, limitMs = 20_000): Promise<T> {
    let isDone = false;
    const mark = () => void (isDone = true);
    promise.then(mark, mark);
    await this.until(() => isDone, limitMs);
    return await promise;
  }
}

/** What came out of one end of a stream. */
export class Collector {
  readonly stream: ByteStream;
  readonly parts: Uint8Array[] = [];
  bytes = 0;
  isEnded = false;
  drains = 0;
  /** Null: still open. */
  error: Error | undefined | null = null;

  constructor(stream: ByteStream) {
    this.stream = stream;
    stream.open({
      data: (bytes) => {
        this.parts.push(bytes);
        this.bytes += bytes.length;
      },
      end: () => void (this.isEnded = true),
      drain: () => void this.drains++,
      closed: (error) => void (this.error = error),
    });
  }

  get all(): Buffer {
    return Buffer.concat(this.parts);
  }
}

/** A stream from a to b, with both ends in hand. */
export async function pair(net: StreamNet, service = "test"): Promise<{ near: Collector; far: Collector }> {
  let far: Collector | undefined;
  const stop = net.b.streams.handle(service, (stream) => {
    stream.accept();
    far = new Collector(stream);
  });
  const near = new Collector(await net.settle(net.a.streams.open(net.b.id, service)));
  stop();
  return { near, far: far! };
}
