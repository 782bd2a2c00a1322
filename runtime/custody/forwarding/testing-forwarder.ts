/** A forwarder on a bench: neighbours, ways and time as a test sets them. For tests only. */
import { ManualClock } from "../../kernel/clock.ts";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { BundleKind } from "../../wire/bundle.ts";
import { custodyLimitsDefault, type Carrier, type CustodyContext, type Holding } from "../context.ts";
import { testId } from "../testing.ts";
import { Forwarder } from "./forwarder.ts";

export const DAY_MS = 24 * 3_600_000;
export const self = testId("self");
export const [near, far, b, c] = [testId("near"), testId("far"), testId("b"), testId("c")] as const;

export class Bench {
  readonly clock = new ManualClock();
  /** Next hop by destination. */
  readonly routes = new Map<NodeId, NodeId>();
  readonly sent: { to: NodeId; bytes: number }[] = [];
  readonly expired: BundleId[] = [];
  /** Ids of the holdings that anybody looked at since it was cleared. */
  readonly looked = new Set<BundleId>();
  readonly forwarder: Forwarder;
  hasRoom = true;
  #made = 0;

  constructor() {
    const { clock, routes } = this;
    const carrier: Carrier = {
      nextHop({ destination }, avoid) {
        const to = routes.get(destination);
        const isOpen = to !== undefined && !avoid(to);
        return isOpen ? { kind: "forward", to } : { kind: "wait", reason: "no route yet" };
      },
      isConnected: () => true,
      send: (to, _lane, frame) => this.hasRoom && this.sent.push({ to, bytes: frame.length }) > 0,
      sendPacket: () => "no_route",
      frameBytesMax: () => 64 * 1024,
      rttMs: () => 10,
      isReliable: () => true,
      isSlow: () => false,
    };
    const seams: Partial<CustodyContext> = {
      self,
      clock,
      random: seededRandom(1),
      log: silentLog,
      metrics: new Metrics(),
      limits: custodyLimitsDefault,
      carrier,
    };
    this.forwarder = new Forwarder(seams as CustodyContext, {
      acknowledged() {},
      expired: ({ id }) => this.expired.push(id),
      offerEnded() {},
      gaveWay() {},
    });
  }

  /** A bundle in custody that notes who looks at it. */
  holding(destination: NodeId, more: Partial<Holding> = {}): Holding {
    const id = (this.#made++).toString(16).padStart(32, "0") as BundleId;
    const holding: Holding = {
      id,
      header: { kind: BundleKind.message, priority: 2, source: self, destination, lifetimeMs: DAY_MS },
      sealedBytes: 8,
      role: "source",
      trace: [],
      hops: 0,
      deadlineMs: this.clock.monotonicMs() + DAY_MS,
      state: "ready",
      wakeAtMs: Number.POSITIVE_INFINITY,
      load: () => new Uint8Array(8),
      waitReason: undefined,
      ...more,
    };
    const { looked } = this;
    return new Proxy(holding, {
      get(target, key) {
        looked.add(id);
        return target[key as keyof Holding];
      },
    });
  }

  add(destination: NodeId, more: Partial<Holding> = {}): Holding {
    const holding = this.holding(destination, more);
    this.forwarder.add(holding);
    return holding;
  }

  /** How many holdings `work` looked at. */
  async cost(work: () => unknown): Promise<number> {
    this.looked.clear();
    await work();
    return this.looked.size;
  }
}
