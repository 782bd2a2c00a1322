/** Two instances of a transport, the pipes between them, and an observer for each end. */
import type { Pipe, Plugin } from "../../src/index.ts";
import { ManualClock } from "../clock.ts";
import { TestHost } from "../context.ts";
import { WatchedAbort } from "../leak.ts";
import { seededRandom } from "../random.ts";
import type { HostNeeds } from "./lifecycle.ts";
import { type ClockStep, demand, quiet, settled, stepBy, stopHost, until } from "./check.ts";

export interface TransportSetup {
  readonly plugin: Plugin;
  readonly kind: Pipe["kind"];
  /** A table with which an instance is reachable. Port 0, a fresh name: never a fixed place. */
  readonly listenConfig: Readonly<Record<string, unknown>>;
  /** A table with which an instance only dials. */
  readonly dialConfig: Readonly<Record<string, unknown>>;
  /** What of its scheme is no endpoint. */
  readonly badEndpoints: readonly string[];
  readonly badConfigs?: readonly unknown[];
  /** Where nobody answers. Default: where an instance was that has stopped. */
  readonly nobody?: string;
  /** A pipe whose far end can be made to go without a word; where there is none, that check does not apply. */
  openVanishing?(dialler: TestHost): Promise<{ readonly pipe: Pipe; vanish(): void }>;
  /**
   * Datagrams: what a fresh outbound pipe writes so that the listener hears of it, where nothing but a datagram tells it.
   */
  readonly opening?: Uint8Array;
  /**
   * Milliseconds by which the manual clock goes on at each turn while a check waits, default 0; `"real time"` where daemons answer. A
   * turn takes a microsecond or many: a number says nothing about how fast the clock goes.
   */
  readonly clockStepMs?: ClockStep;
  /** The same while a dial to nobody is waited for, where only the clock ends it. Default `clockStepMs`. */
  readonly nobodyStepMs?: number;
  /** Its pipes share a channel: a driver without a medium is at fault. Default: it may have one. */
  readonly hasMedium?: boolean;
  /** Bytes a check sends each way; default 256 KiB. A slow medium says less. */
  readonly trafficBytes?: number;
  /** Bytes a writer may get rid of while nobody reads, the system's own buffers included; default 32 MiB. */
  readonly unreadBytesMax?: number;
  /** Milliseconds after which an unanswered close must have let go of everything; default 1,000. */
  readonly flushMs?: number;
  /** What the instance of that number, from 0, needs of its host beyond clock, randomness and name. */
  hostOptions?(number: number): HostNeeds;
  dispose?(): void | Promise<void>;
}

/** What one end saw. Bytes are copied, and the borrowed ones are left alone. */
export class Observer {
  readonly pieces: Uint8Array[] = [];
  bytes = 0;
  drains = 0;
  lefts = 0;
  /** Each by its place among those not told of. */
  readonly leftAt: number[] = [];
  closes = 0;
  error: Error | undefined;
  /** Calls that came after `closed`. */
  late = 0;
  keepsBytes = true;
  onData: (bytes: Uint8Array) => void = () => {};

  /** `unseen`: so many first pieces are not counted. */
  constructor(pipe: Pipe, unseen = 0) {
    let skips = unseen;
    pipe.open({
      data: (bytes) => {
        if (skips > 0) return void skips--;
        if (this.closes > 0) this.late++;
        this.bytes += bytes.length;
        if (this.keepsBytes) this.pieces.push(bytes.slice());
        this.onData(bytes);
      },
      drain: () => {
        if (this.closes > 0) this.late++;
        this.drains++;
      },
      left: (at = 0) => {
        if (this.closes > 0) this.late++;
        this.lefts++;
        this.leftAt.push(at);
      },
      closed: (error) => {
        this.closes++;
        this.error = error;
      },
    });
  }

  get joined(): Buffer {
    return Buffer.concat(this.pieces);
  }
}

export class Bench {
  readonly clock = new ManualClock();
  readonly random = seededRandom(7);
  readonly hosts: TestHost[] = [];
  readonly setup: TransportSetup;
  readonly step: () => void;
  #made = 0;

  constructor(setup: TransportSetup) {
    this.setup = setup;
    this.step = stepBy(this.clock, setup.clockStepMs);
  }

  async start(config: unknown): Promise<TestHost> {
    const host = new TestHost(this.setup.plugin, {
      ...this.setup.hostOptions?.(this.#made),
      clock: this.clock,
      random: this.random,
      instance: `i${this.#made++}`,
    });
    this.hosts.push(host);
    const end = await settled(host.start(config), "start comes to an end", this.step);
    demand(end.isFulfilled, `start failed: ${end.isFulfilled ? "" : String(end.error)}`);
    return host;
  }

  async pair(): Promise<{ listener: TestHost; dialler: TestHost; endpoint: string }> {
    const listener = await this.start(this.setup.listenConfig);
    const dialler = await this.start(this.setup.dialConfig);
    // Not at once where others must hear of it first, as of an onion address.
    await this.until(() => listener.endpoints.length > 0, "the listening instance publishes an endpoint");
    return { listener, dialler, endpoint: listener.endpoints[0]! };
  }

  async dial(host: TestHost, endpoint: string, abort = new WatchedAbort()): Promise<Pipe> {
    demand(host.driver !== undefined, "the instance registers no driver");
    const end = await settled(host.driver.dial(endpoint, abort.signal), `a dial of ${endpoint}`, this.step);
    demand(end.isFulfilled, `a dial of ${endpoint} failed: ${end.isFulfilled ? "" : String(end.error)}`);
    demand(abort.listenerCount === 0, "a dial that is over still listens to its signal");
    if (this.setup.opening !== undefined) end.value.write(this.setup.opening);
    return end.value;
  }

  async connect() {
    const { listener, dialler, endpoint } = await this.pair();
    const near = await this.dial(dialler, endpoint);
    await until(() => listener.accepted.length > 0, "the listener accepts a pipe", this.step);
    return { listener, dialler, endpoint, near, far: listener.accepted[0]! };
  }

  /** Of an inbound pipe: without what opened it. */
  observe(far: Pipe): Observer {
    return new Observer(far, this.setup.opening === undefined ? 0 : 1);
  }

  async observed() {
    const ends = await this.connect();
    return { ...ends, atNear: new Observer(ends.near), atFar: this.observe(ends.far) };
  }

  until(isTrue: () => boolean, what: string): Promise<void> {
    return until(isTrue, what, this.step);
  }

  quiet(): Promise<void> {
    return quiet(this.step);
  }

  async stopAll(): Promise<void> {
    for (const host of this.hosts) await stopHost(host, this.step);
  }

  leaks(): string[] {
    return [...new Set(this.hosts.flatMap((host) => host.leaks()))];
  }
}

/** Runs `body` on a fresh bench, and leaves nothing open when it fails. */
export const onBench = (body: (bench: Bench) => Promise<void>) => async (setup: TransportSetup) => {
  const bench = new Bench(setup);
  try {
    await body(bench);
  } finally {
    for (const host of bench.hosts) {
      for (const pipe of host.accepted) pipe.close();
      await host.stop().catch(() => {});
    }
    bench.clock.advance(setup.flushMs ?? 1_000);
  }
};
