/** The radio of one life: its port, and the real handshake and sessions of the link over it. */
import type { Pipe, Random } from "@godwit/sdk";
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
import type { AirtimeLedger, LifeWatcher } from "./airtime.ts";
import { RadioPort } from "./port.ts";
import type { Radio } from "./radio.ts";

/** What budgets allow in a dial and its handshake: minutes go by between two frames. */
const DIAL_TIMEOUT_MS = 1_800_000;

export interface RadioLifeOptions {
  readonly life: Life;
  readonly radio: Radio;
  readonly time: SimTime;
  readonly mtu: number;
  readonly airtime: AirtimeLedger;
  readonly seed: number;
  /** The newest protocol version that it speaks over the radio; by default that of this build. */
  readonly versionMax?: number | undefined;
}

export class RadioLife implements LifeTransport {
  readonly dialTimeoutMs = DIAL_TIMEOUT_MS;
  readonly port: RadioPort;
  readonly guard: HandshakeGuard;
  readonly airtime: Airtime;
  readonly #options: RadioLifeOptions;
  readonly #clock: ReturnType<typeof nodeClock>;
  readonly #random: Random;
  readonly #watcher: LifeWatcher;
  readonly #abort = new AbortController();
  #mesh: Mesh | undefined;

  constructor(options: RadioLifeOptions) {
    this.#options = options;
    const { life, radio, time, mtu, airtime, seed } = options;
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
    radio.power(true);
    this.port = new RadioPort({
      radio,
      time,
      random: this.#random,
      mtu,
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
    return endpoint.startsWith("radio://");
  }

  dial(endpoint: string): Pipe {
    return this.port.dial(endpoint);
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
    mesh.channels.open(this.port.medium, ["radio"]);
  }

  end(): void {
    this.#abort.abort();
    this.port.end();
  }

  #screen(datagram: Uint8Array, remote: string): "open" | Uint8Array | undefined {
    const budget = this.airtime.of(this.port.medium);
    if (this.#mesh === undefined || !budget.hasAnswer(ANSWER_BYTES, true)) return undefined;
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
