/**
 * Asks the node how it is, over its own control socket: an answer proves event loop, API and what they stand on. A node that
 * is cut off from everybody still answers, and a cut cable is no reason to reset a machine, so any answer is a sign of life.
 */
import type { Clock, Timer } from "../kernel/clock.ts";

/** Until the first answer, which is what people wait for. */
const FIRST_LOOK_MS = 150;
const LOOK_MS = 2_000;
const ANSWER_MAX_MS = 5_000;
/** Between looks at what the screen shows. */
const STATUS_MS = 10_000;

export interface NodeFacts {
  readonly id: string;
  readonly callsign: string | undefined;
  readonly version: string;
  readonly network: string;
  readonly address: string;
  readonly peers: number;
  /** What listens, as the node says it. */
  readonly endpoints: readonly string[];
}

export interface Fault {
  readonly name: string;
  readonly reason: string;
}

export interface HeartbeatDeps {
  readonly clock: Clock;
  /** The body of an answer; rejects where there is none. */
  ask(path: string, signal: AbortSignal): Promise<unknown>;
  /** At every answer. `status` in the node's word, and what is not well, as a name and its reason. */
  onAlive(status: string, faults: readonly Fault[]): void;
  onFacts(facts: NodeFacts): void;
}

export class Heartbeat {
  readonly #deps: HeartbeatDeps;
  readonly #stop = new AbortController();
  #timer: Timer | undefined;
  #facts: NodeFacts | undefined;
  #factsAtMs = Number.NEGATIVE_INFINITY;
  #isFresh = true;

  constructor(deps: HeartbeatDeps) {
    this.#deps = deps;
  }

  start(): void {
    void this.#look();
  }

  /** The node was started anew: it is looked at closely again. */
  expectNew(): void {
    this.#isFresh = true;
    this.#factsAtMs = Number.NEGATIVE_INFINITY;
  }

  stop(): void {
    this.#timer?.cancel();
    this.#stop.abort();
  }

  async #look(): Promise<void> {
    const { clock } = this.#deps;
    try {
      const health = await this.#ask("/health");
      const status = typeof health["status"] === "string" ? health["status"] : undefined;
      if (status !== undefined) {
        this.#isFresh = false;
        this.#deps.onAlive(status, parseFaults(health["checks"]));
        await this.#lookAtFacts();
      }
    } catch {
      // No answer: whoever waits for one notices.
    }
    if (this.#stop.signal.aborted) return;
    const isQuick = this.#isFresh || this.#facts === undefined || this.#facts.peers === 0;
    this.#timer = clock.after(
      this.#isFresh ? FIRST_LOOK_MS : isQuick ? LOOK_MS / 4 : LOOK_MS,
      () => void this.#look(),
    );
  }

  /** Often until the first peer is there, then now and then. */
  async #lookAtFacts(): Promise<void> {
    const nowMs = this.#deps.clock.monotonicMs();
    const isDue = nowMs - this.#factsAtMs >= STATUS_MS || (this.#facts?.peers ?? 0) === 0;
    if (!isDue) return;
    this.#factsAtMs = nowMs;
    const facts = parseFacts(await this.#ask("/mesh/status"));
    if (facts === undefined) return;
    this.#facts = facts;
    this.#deps.onFacts(facts);
  }

  async #ask(path: string): Promise<Record<string, unknown>> {
    const late = new AbortController();
    const timer = this.#deps.clock.after(ANSWER_MAX_MS, () => late.abort());
    try {
      const value = await this.#deps.ask(path, AbortSignal.any([late.signal, this.#stop.signal]));
      return record(value);
    } finally {
      timer.cancel();
    }
  }
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** Of the checks of `GET /health` those that are not well. */
export function parseFaults(checks: unknown): Fault[] {
  return (Array.isArray(checks) ? (checks as unknown[]) : []).flatMap((one) => {
    const { status, name, reason } = record(one);
    return status === "ok" || typeof name !== "string" ? [] : [{ name, reason: text(reason) }];
  });
}

/** Of `GET /mesh/status` what a screen shows; undefined for something else. */
export function parseFacts(value: unknown): NodeFacts | undefined {
  const status = record(value);
  const node = record(status["node"]);
  if (typeof node["id"] !== "string") return undefined;
  const peers = record(status["peers"])["connected"];
  const transports = Array.isArray(status["transports"]) ? (status["transports"] as unknown[]) : [];
  return {
    id: node["id"],
    callsign: typeof node["callsign"] === "string" ? node["callsign"] : undefined,
    version: text(node["version"]),
    network: text(status["network"]),
    address: text(status["address"]),
    peers: typeof peers === "number" ? peers : 0,
    endpoints: transports.flatMap((one) => {
      const listen = record(one)["listen"];
      return Array.isArray(listen) ? listen.map(text) : [];
    }),
  };
}

/** The real way to ask: HTTP over the control socket. */
export async function askNode(socket: string, path: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(`http://localhost${path}`, { unix: socket, signal });
  return await response.json();
}

/** A token with all rights. Rejects with why there is none. */
export async function makeToken(socket: string, label: string): Promise<{ id: string; secret: string }> {
  const response = await fetch("http://localhost/tokens", {
    unix: socket,
    signal: AbortSignal.timeout(ANSWER_MAX_MS),
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ scopes: ["admin"], label }),
  });
  const { id, secret, detail } = record(await response.json());
  if (typeof id === "string" && typeof secret === "string") return { id, secret };
  throw new Error(text(detail) || `the node answered ${response.status}`);
}

/** Rejects where the node does not answer, or not so. */
export async function revokeToken(socket: string, id: string): Promise<void> {
  const signal = AbortSignal.timeout(ANSWER_MAX_MS);
  const response = await fetch(`http://localhost/tokens/${id}`, { unix: socket, signal, method: "DELETE" });
  if (!response.ok) throw new Error(`the node answered ${response.status}`);
}

/** How many there are. */
export async function countTokens(socket: string): Promise<number> {
  const { tokens } = record(await askNode(socket, "/tokens", AbortSignal.timeout(ANSWER_MAX_MS)));
  if (!Array.isArray(tokens)) throw new Error("the node does not list its tokens");
  return tokens.length;
}
