/** The radio of one life: its port, whatever radio that is, and the real handshake and sessions of the link over it. */
import type { Clock, Medium, Pipe, Random } from "@godwit/sdk";
import { Airtime } from "../../../runtime/kernel/airtime.ts";
import { seededRandom } from "../../../runtime/kernel/random.ts";
import type { NodeId } from "../../../runtime/kernel/ids.ts";
import { HandshakeGuard } from "../../../runtime/link/guard.ts";
import { ANSWER_BYTES, openSession, VERSIONS } from "../../../runtime/link/handshake.ts";
import { networkKeys } from "../../../runtime/link/hello.ts";
import { screenFirst } from "../../../runtime/link/responder.ts";
import type { Session } from "../../../runtime/link/types.ts";
import type { Mesh } from "../../../runtime/mesh/mesh.ts";
import { NETWORK, type Life, type LifeTransport } from "../node.ts";
import { nodeClock, type SimTime } from "../time.ts";
import type { AirtimeLedger, LifeWatcher, Watcher } from "./airtime.ts";

/** What budgets allow in a dial and its handshake: minutes go by between two frames. */
const DIAL_TIMEOUT_MS = 1_800_000;

/** What a transport over a radio gives its node. */
export interface LifePort {
  readonly endpoint: string;
  readonly scheme: string;
  dial(endpoint: string, signal: AbortSignal): Pipe | Promise<Pipe>;
  /** Hands over the channel, now and whenever it becomes another one. */
  listen(open: (medium: Medium) => void): void;
  /** The process is gone, and what its radio had to send with it. */
  end(): void;
}

/** What it is made of. */
export interface PortParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly watcher: Watcher;
  /** Runs node code. */
  readonly dispatch: (fn: () => void) => void;
  /** As `screen` of the SDK's transports. */
  readonly screen: (datagram: Uint8Array, remote: string) => "open" | Uint8Array | undefined;
  readonly accept: (pipe: Pipe) => void;
}

export interface RadioLifeOptions {
  readonly life: Life;
  readonly newPort: (parts: PortParts) => LifePort;
  readonly time: SimTime;
  readonly airtime: AirtimeLedger;
  readonly seed: number;
  /** The newest protocol version that it speaks over the radio; by default that of this build. */
  readonly versionMax?: number | undefined;
}

export class RadioLife implements LifeTransport {
  readonly dialTimeoutMs = DIAL_TIMEOUT_MS;
  readonly port: LifePort;
  readonly guard: HandshakeGuard;
  readonly airtime: Airtime;
  readonly #options: RadioLifeOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #watcher: LifeWatcher;
  readonly #abort = new AbortController();
  #mesh: Mesh | undefined;
  #medium: Medium | undefined;

  constructor(options: RadioLifeOptions) {
    this.#options = options;
    const { life, newPort, time, airtime, seed } = options;
    this.#random = seededRandom(seed);
    this.#clock = nodeClock({
      time,
      node: life.index,
      dispatch: (kind, fn) => life.dispatch(kind, fn),
      wallOffsetMs: () => life.node.wallOffsetMs,
    });
    this.guard = new HandshakeGuard(this.#clock, this.#random);
    this.airtime = new Airtime(this.#clock);
    this.#watcher = airtime.newWatcher(life.index);
    this.port = newPort({
      clock: this.#clock,
      random: this.#random,
      watcher: this.#watcher,
      dispatch: (fn) => life.dispatch("radio", fn),
      screen: (datagram, remote) => this.#screen(datagram, remote),
      accept: (pipe) => this.#accept(pipe),
    });
  }

  get endpoint(): string {
    return this.port.endpoint;
  }

  dials(endpoint: string): boolean {
    return endpoint.startsWith(`${this.port.scheme}://`);
  }

  dial(endpoint: string, signal: AbortSignal): Pipe | Promise<Pipe> {
    return this.port.dial(endpoint, signal);
  }

  get #versions(): typeof VERSIONS {
    return { ...VERSIONS, max: this.#options.versionMax ?? VERSIONS.max };
  }

  async handshake(pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal): Promise<Session> {
    const { life } = this.#options;
    const session = await openSession(
      pipe,
      {
        role: pipe.direction === "outbound" ? "initiator" : "responder",
        identity: life.node.identity.keys!,
        network: NETWORK,
        secrets: [],
        clock: this.#clock,
        random: this.#random,
        guard: this.guard,
        airtime: this.airtime,
        sourceKey: pipe.remote,
        versions: this.#versions,
        isBlocked: (id) => this.#mesh?.isRefused(id) === true,
        ...(remote === undefined ? {} : { remote }),
      },
      signal,
    );
    this.#watcher.watch(session);
    return session;
  }

  listen(mesh: Mesh): void {
    this.#mesh = mesh;
    this.port.listen((medium) => {
      this.#medium = medium;
      mesh.channels.open(medium, [this.port.scheme]);
    });
  }

  end(): void {
    this.#abort.abort();
    this.port.end();
  }

  #screen(datagram: Uint8Array, remote: string): "open" | Uint8Array | undefined {
    if (this.#mesh === undefined || this.#medium === undefined) return undefined;
    const budget = this.airtime.of(this.#medium);
    if (!budget.hasAnswer(ANSWER_BYTES, true)) return undefined;
    const judged = screenFirst(datagram, {
      identity: this.#options.life.node.identity.keys!,
      network: NETWORK,
      keys: [networkKeys(NETWORK, undefined)],
      versions: this.#versions,
      guard: this.guard,
      source: remote,
      invites: undefined,
    });
    return judged instanceof Uint8Array && !budget.takeAnswer(judged.length, false) ? undefined : judged;
  }

  #accept(pipe: Pipe): void {
    this.handshake(pipe, undefined, this.#abort.signal).then(
      (session) => {
        if (this.#options.life.isAlive) this.#mesh!.adopt(session);
      },
      () => {}, // the guard counts it
    );
  }
}
