/**
 * The daemon's peers as far as they are ours: those of the configuration, and what other nodes announce, for as long as it
 * is of use. Only what was added here is ever removed: the rest is the operator's. What was added is kept in a file, because
 * a node that is killed leaves its peers with a daemon that lives on; not in the store, which is closed when we stop.
 */
import type { Clock, Log } from "@godwit/sdk";
import { readPrivate, writePrivate } from "@godwit/sdk/process";
import { Refusal } from "./admin.ts";
import { hostOf, isPeer, shownPeer } from "./endpoint.ts";
import type { DaemonPeer } from "./facts.ts";

/** Announced by others, at once; more are not called. */
const DISCOVERED_MAX = 16;
/** A discovered one that was not up for so long since it was last asked for is dropped. */
const DISCOVERED_MS = 600_000;
/** One that is not up is called again: the daemon alone would wait for a minute (0.4), or up to an hour (0.5). */
const CALL = { firstMs: 10_000, capMs: 60_000 } as const;
const LINES_MAX = 1_024;

export type Request = (name: string, args?: Readonly<Record<string, string>>) => Promise<unknown>;

export interface PeeringDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Keeps what was added, a peer a line. */
  readonly file: string;
  readonly configured: readonly string[];
}

interface Call {
  readonly atMs: number;
  readonly pauseMs: number;
}

/** What the daemon lists under another name than it was told: it cannot be seen whether that is up. */
const isRecallable = (uri: string): boolean => !/^(?:unix|socks)/.test(uri);

/**
 * Whether a peer is connected. The daemon lists it as it was told; but of two that call one another only one connection
 * stays, and at one end that came from a port that nobody was told.
 */
function servedBy(peers: readonly DaemonPeer[]): (uri: string) => boolean {
  const up = peers.filter(({ isUp }) => isUp);
  const remotes = new Set(up.map(({ remote }) => remote));
  const hosts = new Set(up.map(({ remote }) => hostOf(remote)));
  return (uri) => {
    const host = hostOf(uri);
    return remotes.has(shownPeer(uri)) || (host !== undefined && hosts.has(host));
  };
}

export class Peerings {
  readonly #deps: PeeringDeps;
  /** Until when each is wanted, on the monotonic clock. */
  readonly #discovered = new Map<string, number>();
  /** What the daemon has from here. Undefined: not read from the file yet. */
  #added: Set<string> | undefined;
  /** When each was last told to the daemon that runs now. */
  readonly #calls = new Map<string, Call>();

  constructor(deps: PeeringDeps) {
    this.#deps = deps;
  }

  /** Announced by a node that is being dialled. Answers false when there are too many. */
  want(uris: readonly string[]): boolean {
    const untilMs = this.#deps.clock.monotonicMs() + DISCOVERED_MS;
    for (const uri of uris) {
      if (!this.#discovered.has(uri) && this.#discovered.size >= DISCOVERED_MAX) return false;
      this.#discovered.set(uri, untilMs);
    }
    return true;
  }

  /** Another daemon, or the same one started anew: it knows nothing of ours. */
  forgetCalls(): void {
    this.#calls.clear();
  }

  /** Brings the daemon's list in line; `peers` is what it has. Rejects when it cannot be asked. */
  async tend(request: Request, peers: readonly DaemonPeer[]): Promise<void> {
    const { clock, configured } = this.#deps;
    const added = await this.#load();
    const nowMs = clock.monotonicMs();
    const isUp = servedBy(peers);
    for (const [uri, untilMs] of this.#discovered)
      if (isUp(uri)) this.#discovered.set(uri, Math.max(untilMs, nowMs + DISCOVERED_MS));
      else if (untilMs <= nowMs) this.#discovered.delete(uri);
    const wanted = new Set([...configured, ...this.#discovered.keys()]);
    for (const uri of added) if (!wanted.has(uri)) await this.#remove(request, uri);
    for (const uri of wanted) {
      const call = this.#calls.get(uri);
      if (call === undefined) await this.#add(request, uri, CALL.firstMs);
      else if (isUp(uri)) this.#calls.set(uri, { atMs: nowMs, pauseMs: CALL.firstMs });
      else if (added.has(uri) && isRecallable(uri) && nowMs - call.atMs >= call.pauseMs) {
        await this.#remove(request, uri);
        await this.#add(request, uri, Math.min(CALL.capMs, call.pauseMs * 2));
      }
    }
  }

  /** The instance stops: the daemon loses what it has from here. Never rejects. */
  async removeAll(request: Request): Promise<void> {
    const added = [...(await this.#load().catch(() => []))];
    await Promise.allSettled(added.map((uri) => this.#remove(request, uri)));
  }

  async #add(request: Request, uri: string, pauseMs: number): Promise<void> {
    const { clock, log } = this.#deps;
    const added = await this.#load();
    const wasOurs = added.has(uri);
    this.#calls.set(uri, { atMs: clock.monotonicMs(), pauseMs });
    // Noted before it is done: what is noted and was not done costs nothing.
    if (!wasOurs) await this.#save(added.add(uri));
    try {
      await request("addpeer", { uri });
      log.debug("overlay peer added", { peer: shownPeer(uri) });
    } catch (error) {
      // It has that peer already: from an earlier life of ours, or from its operator, who keeps it.
      if (!(error instanceof Refusal)) throw error;
      if (wasOurs && /already/.test(error.message)) return;
      added.delete(uri);
      await this.#save(added);
      if (!/already/.test(error.message))
        log.warn("overlay peer refused", {
          peer: shownPeer(uri),
          reason: error.message.replaceAll(uri, shownPeer(uri)),
        });
    }
  }

  /** Rejects when the daemon cannot be asked; one that does not have that peer is fine. */
  async #remove(request: Request, uri: string): Promise<void> {
    const added = await this.#load();
    await request("removepeer", { uri }).catch((error: unknown) => {
      if (!(error instanceof Refusal)) throw error;
    });
    this.#calls.delete(uri);
    added.delete(uri);
    await this.#save(added);
  }

  async #load(): Promise<Set<string>> {
    if (this.#added !== undefined) return this.#added;
    const lines = ((await readPrivate(this.#deps.file)) ?? "").split("\n").filter(isPeer).slice(0, LINES_MAX);
    return (this.#added ??= new Set(lines));
  }

  async #save(added: ReadonlySet<string>): Promise<void> {
    await writePrivate(this.#deps.file, [...added].map((uri) => `${uri}\n`).join(""));
  }
}
