/** Real meshes with real links over one channel in memory, on a manual clock. For tests only. */
import type { Pipe } from "@godwit/sdk";
import { TestChannel, type Station } from "../channel/testing.ts";
import type { Identity } from "../identity/keys.ts";
import { Airtime } from "../kernel/airtime.ts";
import { ManualClock } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { HandshakeGuard } from "../link/guard.ts";
import { openSession, VERSIONS } from "../link/handshake.ts";
import { networkKeys } from "../link/hello.ts";
import { screenFirst } from "../link/responder.ts";
import { sessionPair } from "../peer/testing.ts";
import { Mesh } from "./mesh.ts";
import { depsFor, settled } from "./testing.ts";

export interface ChannelNode {
  readonly mesh: Mesh;
  readonly identity: Identity;
  readonly station: Station;
  readonly airtime: Airtime;
  readonly metrics: Metrics;
  /** Sessions that came up, dialled or taken. */
  links: number;
  /** Its transport registers its channel anew, as where the radio was away. */
  replug(): void;
  /** What the node around it heard of. */
  readonly heard: readonly string[];
}

export class ChannelWorld {
  readonly clock = new ManualClock();
  readonly channel: TestChannel;
  readonly nodes: ChannelNode[] = [];
  #seed: number;

  constructor(seed = 1) {
    this.#seed = seed * 1_000;
    this.channel = new TestChannel(this.clock, seededRandom(seed));
  }

  /** A node with a radio. */
  async node(network = "test"): Promise<ChannelNode> {
    const { clock } = this;
    const station = this.channel.station();
    const airtime = new Airtime(clock);
    const guard = new HandshakeGuard(clock, seededRandom(this.#seed + 7));
    const open = async (pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal) => {
      const session = await openSession(
        pipe,
        {
          role: pipe.direction === "outbound" ? "initiator" : "responder",
          identity,
          network,
          secrets: [],
          clock,
          random,
          guard,
          airtime,
          ...(remote === undefined ? {} : { remote }),
        },
        signal,
      );
      node.links++;
      return session;
    };
    const { deps, identity, metrics, random, heard } = await depsFor(clock, ++this.#seed, {
      network,
      airtime,
      linksWanted: 0,
      dialTimeoutMs: () => 180_000,
      dial: (endpoint) => Promise.resolve(station.dial(endpoint)),
      handshake: open,
    });
    const mesh = await settled(clock, Mesh.open(deps));
    station.screen = (datagram, remote) =>
      airtime.of(station.medium).hasAnswer(98, true)
        ? screenFirst(datagram, {
            identity,
            network,
            keys: [networkKeys(network, undefined)],
            versions: VERSIONS,
            guard,
            source: remote,
            invites: undefined,
          })
        : undefined;
    station.accept = (pipe) =>
      void open(pipe, undefined, new AbortController().signal).then(
        (session) => mesh.adopt(session),
        () => {},
      );
    let close = mesh.channels.open(station.medium, ["radio"]);
    const replug = () => {
      close();
      station.medium = station.newMedium();
      close = mesh.channels.open(station.medium, ["radio"]);
    };
    mesh.setEndpoints([station.address]);
    mesh.start();
    const node: ChannelNode = { mesh, identity, station, airtime, metrics, links: 0, replug, heard };
    this.nodes.push(node);
    return node;
  }

  /** A node without a radio. */
  async core(): Promise<{ readonly mesh: Mesh; readonly identity: Identity }> {
    const { deps, identity } = await depsFor(this.clock, ++this.#seed, { linksWanted: 0 });
    const mesh = await settled(this.clock, Mesh.open(deps));
    mesh.start();
    return { mesh, identity };
  }

  /** A fast link; answers what cuts it. */
  wire(a: { mesh: Mesh; identity: Identity }, b: { mesh: Mesh; identity: Identity }): () => void {
    const [near, far] = sessionPair(this.clock, a.identity.id, b.identity.id);
    a.mesh.adopt(near);
    b.mesh.adopt(far);
    return () => {
      near.end(undefined);
      far.end(undefined);
    };
  }

  /** Resolves when it is durable at its source. */
  async send(from: ChannelNode, to: ChannelNode): Promise<void> {
    await settled(this.clock, from.mesh.custody.send({ to: to.identity.id, body: new Uint8Array(60) }));
  }

  async hours(count: number): Promise<void> {
    for (let minute = 0; minute < count * 60; minute++) await this.clock.advance(60_000);
  }

  /** Of the channel, since `from`, 0 to 1. */
  shareSince(from: { readonly atMs: number; readonly airtimeMs: number }): number {
    return (this.channel.airtimeMs - from.airtimeMs) / (this.clock.monotonicMs() - from.atMs);
  }

  mark(): { readonly atMs: number; readonly airtimeMs: number } {
    return { atMs: this.clock.monotonicMs(), airtimeMs: this.channel.airtimeMs };
  }

  async stop(): Promise<void> {
    for (const { mesh } of this.nodes) await settled(this.clock, mesh.stop());
  }
}
