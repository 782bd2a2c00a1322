/**
 * Edge nodes that never had any link but one slow, lossy medium each, behind gateways that a fast mesh joins: the whole mesh of
 * runtime/mesh with real signatures and seals in virtual time, and a look at every question and answer that crosses a slow medium.
 */
import { custodyLimitsDefault } from "../../runtime/custody/context.ts";
import type { OutboxEntry } from "../../runtime/custody/source/entry.ts";
import type { MessageId, NodeId } from "../../runtime/kernel/ids.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { MeshDeps } from "../../runtime/mesh/deps.ts";
import type { Mesh } from "../../runtime/mesh/mesh.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import { realIdentity } from "./crypto.ts";
import { Edge, type EdgeParams } from "./links.ts";
import { SimNode } from "./node.ts";
import { SimTime } from "./time.ts";

/** LongFast, with the loss of a bad day. */
const RADIO: EdgeParams = {
  ...{ kind: "datagram", linkClass: "slow", rateBitsPerSecond: 1_074 },
  ...{ delayMs: 400, jitterMs: 200, loss: 0.2 },
};
const CABLE: EdgeParams = {
  ...{ kind: "stream", linkClass: "fast", rateBitsPerSecond: 1e8, delayMs: 2, jitterMs: 0, loss: 0 },
};

export interface EdgesWorldOptions {
  readonly seed: number;
  /** Callsigns, in the order of the nodes. */
  readonly callsigns: readonly string[];
  /** Pairs of nodes. */
  readonly cables: readonly (readonly [number, number])[];
  readonly radios: readonly (readonly [number, number])[];
  readonly settings?: (node: number) => Partial<MeshDeps>;
  /** A reply that a node is about to give, as it gives it. */
  readonly replies?: (node: number, frame: Uint8Array) => readonly Uint8Array[];
  readonly loss?: number;
}

export interface Delivered {
  readonly at: number;
  readonly from: NodeId;
  readonly to: string;
  readonly text: string;
  readonly atMs: number;
}

export class EdgesWorld {
  readonly time = new SimTime();
  readonly nodes: SimNode[] = [];
  readonly delivered: Delivered[] = [];
  /** Of questions and answers, with the type, in the order in which they left. */
  readonly asked: {
    readonly by: number;
    readonly type: number;
    readonly bytes: number;
    readonly atMs: number;
  }[] = [];
  readonly #options: EdgesWorldOptions;

  constructor(options: EdgesWorldOptions) {
    this.#options = options;
    const { seed } = options;
    for (const [index, callsign] of options.callsigns.entries()) this.#addNode(index, callsign);
    const random = seededRandom(seed * 31 + 5);
    const radio = { ...RADIO, loss: options.loss ?? RADIO.loss };
    const join = ([a, b]: readonly [number, number], params: EdgeParams, name: string) => {
      const edge = new Edge({
        a,
        b,
        name,
        params,
        time: this.time,
        random: seededRandom(random.below(2 ** 32)),
      });
      for (const index of [a, b]) this.nodes[index]!.edges.push(edge);
    };
    for (const pair of options.cables) join(pair, CABLE, "cable");
    for (const pair of options.radios) join(pair, radio, "radio");
  }

  start(...indices: readonly number[]): void {
    for (const index of indices) this.time.after(0, () => this.nodes[index]!.start());
  }

  rename(index: number, callsign: string): void {
    this.nodes[index]!.startsAs = callsign;
    this.nodes[index]!.crash("kill");
    this.start(index);
  }

  /** Minutes of virtual time, or until that is so. Answers whether it was. */
  run(minutes: number, isDone: () => boolean = () => false): boolean {
    const untilMs = this.time.nowMs + minutes * 60_000;
    while (this.time.nowMs < untilMs && !isDone()) this.time.run(Math.min(untilMs, this.time.nowMs + 1_000));
    return isDone();
  }

  send(from: number, to: string, text: string): () => OutboxEntry {
    const { custody } = this.mesh(from);
    const body = new TextEncoder().encode(text);
    let id: MessageId | undefined;
    this.time.after(0, () => void custody.send({ to, body }).then((made) => (id = made)));
    this.run(0.01);
    return () => this.nodes[from]!.sent(id!)!;
  }

  /** Sends it, and answers whether it was delivered, with its receipt, in time. */
  arrives(from: number, to: string, text: string, minutes = 20): boolean {
    const sent = this.send(from, to, text);
    return this.run(minutes, () => sent().state === "delivered");
  }

  at(index: number): string[] {
    return this.delivered.flatMap((one) => (one.at === index ? [one.text] : []));
  }

  mesh(index: number): Mesh {
    return this.nodes[index]!.mesh!;
  }

  #addNode(index: number, callsign: string): void {
    const { seed, settings } = this.#options;
    this.nodes.push(
      new SimNode(
        {
          ...{ index, callsign, location: callsign.split("-")[0]! },
          identity: realIdentity(seededRandom(seed * 7_919 + index)),
          seed: seed * 10_007 + index,
          time: this.time,
          limits: custodyLimitsDefault,
          commitDelayMs: 1,
          settings: () => settings?.(index) ?? {},
        },
        (other) => this.nodes[other]!,
        (node) => ({
          delivered: (entry, body) =>
            void this.delivered.push({
              ...{ at: index, from: entry.from, to: entry.to, atMs: this.time.nowMs },
              text: new TextDecoder().decode(body),
            }),
          ...{ changed() {}, routeChanged() {}, quarantined() {}, opened() {}, ended() {} },
          ...{ lost() {}, lostKeys() {} },
          broken(reason) {
            throw new Error(`node ${index} cannot start: ${reason}`);
          },
          mutate: (mesh) => this.#listen(node, mesh),
        }),
      ),
    );
  }

  #listen({ index }: SimNode, mesh: Mesh): void {
    const tell = mesh.peers.tell.bind(mesh.peers);
    mesh.peers.tell = (to, lane, frame, part) => {
      if (part !== "lookups") return tell(to, lane, frame, part);
      const isReply = frame[0] === FrameType.lookupReply;
      const frames = isReply ? (this.#options.replies?.(index, frame) ?? [frame]) : [frame];
      for (const { length, [0]: type } of frames)
        this.asked.push({ by: index, type: type!, bytes: length, atMs: this.time.nowMs });
      return frames.map((one) => tell(to, lane, one, part)).every(Boolean);
    };
  }
}
