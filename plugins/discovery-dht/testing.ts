/** Nodes of one mesh that run this plugin for tests: each a host of its own on an address of loopback, over the kernel's UDP, by one clock that goes faster than real time. */
import { FakePeers, FakeSelf, ManualClock, TestHost, type TestHostOptions } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { PLUGIN } from "./keys.ts";

const STEP_MS = 5;
/**
 * The clock of a mesh goes so many times as fast as that of the wall. By a step at a time, however late: on a busy machine it goes slower,
 * so that what waits for an answer sees as many rounds of the sockets as anywhere.
 */
const SPEED = 8;

let addresses = 0;
/** One that no other node of this process has. */
export function loopbackAddress(): string {
  const n = ++addresses;
  return `127.${100 + (process.pid % 100)}.${100 + (n >> 8)}.${n & 255}`;
}

export interface NodeOptions extends Pick<TestHostOptions, "storage" | "clock"> {
  /** Network secrets, the preferred first. */
  readonly secrets?: readonly string[];
  readonly endpoints?: readonly string[];
  readonly callsign?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly self?: FakeSelf;
}

export interface MeshNode {
  readonly host: TestHost;
  /** `address:port` of its socket. */
  readonly place: string;
}

export class TestMesh implements AsyncDisposable {
  readonly nodes: MeshNode[] = [];
  readonly clock: ManualClock;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #port: number;

  /** `epochMs`: what the wall shows. */
  constructor(epochMs = Date.now()) {
    this.clock = new ManualClock(epochMs);
    this.#timer = setInterval(() => this.clock.advance(SPEED * STEP_MS), STEP_MS);
    const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    this.#port = probe.port;
    probe.stop(true);
  }

  /** One more, told of the first. */
  async add({
    secrets = ["ours"],
    endpoints,
    callsign,
    config,
    self,
    ...options
  }: NodeOptions = {}): Promise<MeshNode> {
    const own = self ?? new FakeSelf({ plugin: PLUGIN, ...(callsign === undefined ? {} : { callsign }) });
    own.secrets = secrets;
    own.set(endpoints ?? [`tcp://10.0.0.${this.nodes.length + 1}:4860`]);
    const place = `${loopbackAddress()}:${this.#port}`;
    const host = new TestHost(plugin, {
      ...{ clock: this.clock, self: own, identity: own.id, instance: "dht" },
      peers: new FakePeers({ id: own.id }),
      ...options,
    });
    const first = this.nodes[0]?.place;
    const node = { host, place };
    this.nodes.push(node);
    await host.start({ listen: [place], bootstrap: first === undefined ? [] : [first], ...config });
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map(({ host }) => host.stop()));
    clearInterval(this.#timer);
  }
}

/** Two hosts see each other as linked neighbours, whose messages arrive. */
export function link(a: TestHost, b: TestHost): void {
  FakePeers.join(a.peers, b.peers);
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const)
    one.peers.set([
      ...one.peers.list(),
      {
        ...{ id: other.self.id, callsign: other.self.callsign, endpoints: other.self.endpoints() },
        ...{ isLinked: true, via: other.self.id },
      },
    ]);
}

export async function until(what: string, isSo: () => boolean, timeoutMs = 40_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!isSo()) {
    if (performance.now() > endMs) throw new Error(`waited for: ${what}`);
    await Bun.sleep(STEP_MS);
  }
}

export const hinted = ({ host }: MeshNode, endpoint: string): boolean => host.hints.has(endpoint);
