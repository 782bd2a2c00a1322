/** Who sends what to whom while a simulated mesh runs. Draws everything from one generator. */
import type { Random } from "@godwit/sdk";
import type { Priority } from "../../runtime/wire/constants.ts";
import { makeBody, type Ledger, type SentMessage } from "./ledger.ts";
import type { SimNode } from "./node.ts";
import type { SimTime } from "./time.ts";

const SHORT_LIFETIME_MS = [5_000, 20_000, 60_000] as const;
const LONG_LIFETIME_MS = 72 * 3_600_000;
/** Of what would go over a slow medium so much is sent, each short enough to be no bulk. */
const SLOW_SHARE = 1 / 8;
const SLOW_BYTES_MAX = 3_500;
/** Larger ones only where a world asks for them. */
export const LARGE_BYTES_MAX = 200_000;

export interface WorkloadOptions {
  readonly nodes: readonly SimNode[];
  readonly random: Random;
  readonly time: SimTime;
  readonly ledger: Ledger;
  readonly fault: (text: string) => void;
  /** Only between these: a mesh of a thousand is not asked for every pair. */
  readonly talkers: readonly SimNode[];
  readonly bodyBytesMax: number;
  /** Only slow media lead from one to the other; without it never. */
  readonly isSlowBetween?: (a: SimNode, b: SimNode) => boolean;
}

export class Workload {
  readonly #options: WorkloadOptions;
  #nonce = 0;
  /** Sends that threw, by code: a full outbox and a full disk are answers, anything else is a bug. */
  readonly refusals = new Map<string, number>();

  constructor(options: WorkloadOptions) {
    this.#options = options;
  }

  /** One message from a random node that is up, to a random other. */
  sendOne(): void {
    const { random, talkers } = this.#options;
    const source = talkers[random.below(talkers.length)]!;
    const target = talkers[random.below(talkers.length)]!;
    const kind = random.float();
    const isShort = random.float() < 0.1;
    const bytes = this.#drawBytes();
    const priority = random.below(4) as Priority;
    const lifetimeMs = isShort ? SHORT_LIFETIME_MS[random.below(3)]! : LONG_LIFETIME_MS;
    const isRepeated = random.float() < 0.02;
    const isWithdrawn = random.float() < 0.01;
    if (source.mesh === undefined || source.life!.isFrozen) return;
    if (this.#options.isSlowBetween?.(source, target) === true) {
      if (random.float() >= SLOW_SHARE) return;
      // A location is more machines than whoever asks for it is told of.
      const address = kind < 0.5 ? target.id : target.callsign;
      const order = { source, address, bytes: Math.min(bytes, SLOW_BYTES_MAX) };
      return void this.send({ ...order, priority, lifetimeMs, isRepeated, isWithdrawn }, [target]);
    }
    if (kind < 0.1) return this.#sendTransient(source, target, Math.min(bytes, 900));
    const address = kind < 0.6 ? target.id : kind < 0.9 ? target.callsign : target.location;
    const order = { source, address, bytes, priority, lifetimeMs, isRepeated, isWithdrawn };
    void this.send(order, kind >= 0.9 ? this.#machinesAt(target.location) : [target]);
  }

  #machinesAt(location: string): SimNode[] {
    return this.#options.nodes.filter((node) => node.location === location);
  }

  #drawBytes(): number {
    const { random, bodyBytesMax } = this.#options;
    const pick = random.float();
    // Where bodies of many blocks are wanted there are many of them.
    const isLarge = pick >= (bodyBytesMax > LARGE_BYTES_MAX ? 0.8 : 0.95);
    const bytes = isLarge
      ? 17_000 + random.below(Math.max(LARGE_BYTES_MAX, bodyBytesMax) - 20_000)
      : pick < 0.8
        ? 10 + random.below(500)
        : 1_000 + random.below(15_000);
    return Math.min(bytes, bodyBytesMax);
  }

  #message(
    source: SimNode,
    to: string,
    targets: readonly SimNode[],
    lifetimeMs: number,
    isTransient: boolean,
  ) {
    const message: SentMessage = {
      nonce: this.#nonce++,
      source,
      to,
      targets,
      lifetimeMs,
      isTransient,
      sentAtMs: this.#options.time.nowMs,
      id: undefined,
      acceptedAtMs: undefined,
      mark: undefined,
      isWithdrawn: false,
      bundles: new Set(),
      openedWith: new Map(),
      unopenable: new Set(),
      handed: "no",
      lastState: undefined,
      lastLife: undefined,
      deliveries: [],
    };
    this.#options.ledger.sent(message);
    return message;
  }

  /** One message to an address. */
  async send(
    order: {
      source: SimNode;
      address: string;
      bytes: number;
      priority: Priority;
      lifetimeMs: number;
      isRepeated: boolean;
      isWithdrawn: boolean;
    },
    targets: readonly SimNode[],
  ): Promise<void> {
    const { ledger, time, fault } = this.#options;
    const { source, address, bytes, priority, lifetimeMs } = order;
    const message = this.#message(source, address, targets, lifetimeMs, false);
    const { custody } = source.mesh!;
    const request = {
      to: address,
      body: makeBody(message.nonce, bytes),
      priority,
      ttlSeconds: lifetimeMs / 1_000,
      ...(order.isRepeated ? { idempotencyKey: `k${message.nonce}` } : {}),
    };
    try {
      const id = await custody.send(request);
      ledger.accepted(message, id);
      time.note(`${time.nowMs} accepted ${message.nonce} ${id}`);
      if (order.isRepeated && (await custody.send(request)) !== id)
        fault(`idempotency key of message ${message.nonce} got a second id`);
      if (order.isWithdrawn) {
        message.isWithdrawn = true;
        await custody.outbox.withdraw(id);
      }
    } catch (error) {
      const code = (error as { code?: string }).code ?? String(error);
      this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
      if (!expectedCodes.includes(code)) fault(`send of message ${message.nonce} threw ${String(error)}`);
    }
  }

  #sendTransient(source: SimNode, target: SimNode, bytes: number): void {
    const mesh = source.mesh!;
    if (source === target || mesh.records.get(target.id) === undefined) return;
    const message = this.#message(source, target.id, [target], 0, true);
    const request = { to: target.id, body: makeBody(message.nonce, bytes), transient: true };
    mesh.custody.send(request).then(
      (id) => this.#options.ledger.accepted(message, id),
      () => {}, // now or never
    );
  }
}

const expectedCodes = [
  "GODWIT_QUEUE_FULL",
  "GODWIT_QUOTA",
  "GODWIT_STORE_FAILED",
  "GODWIT_MESSAGE_FINAL",
  "GODWIT_STOPPED",
];
