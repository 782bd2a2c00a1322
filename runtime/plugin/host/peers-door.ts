/** `ctx.peers`: the other nodes as handed to one plugin. Owns what ends with it: its handlers, its right to call at all. */
import type { Clock, Log, PeerFacts, Peers, Timer } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";

/** Changes come in bursts. */
const CHANGE_PAUSE_MS = 200;

/** The node as plugins see it; `view/peers-for-plugins.ts` implements it over the living mesh. */
export interface PeersBackend {
  readonly self: Peers["self"];
  list(): readonly PeerFacts[];
  /** Calls synchronously for each change. Answers how to stop. */
  watch(fn: () => void): () => void;
  send(plugin: string, to: string, message: Uint8Array): boolean;
  /** Answers how to stop. */
  subscribe(plugin: string, fn: (from: string, message: Uint8Array) => void): () => void;
}

export interface PeersDoorDeps {
  readonly backend: PeersBackend;
  /** `namespace.plugin`. */
  readonly plugin: string;
  readonly scope: Scope;
  readonly clock: Clock;
  readonly log: Log;
}

export function openPeersDoor({ backend, plugin, scope, clock, log }: PeersDoorDeps): Peers {
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  const guarded = (what: string, run: () => void) => {
    try {
      run();
    } catch (error) {
      log.error(`${what} handler failed`, { error: asGodwitError(error) });
    }
  };
  return {
    self: backend.self,
    list: () => (check(), backend.list()),
    send: (to, message) => !scope.isClosed && backend.send(plugin, to, message),
    onMessage(fn) {
      check();
      scope.own(backend.subscribe(plugin, (from, message) => guarded("onMessage", () => fn(from, message))));
    },
    onChange(fn) {
      check();
      let timer: Timer | undefined;
      const stop = backend.watch(() => {
        timer ??= clock.after(CHANGE_PAUSE_MS, () => {
          timer = undefined;
          guarded("onChange", fn);
        });
      });
      scope.own(() => {
        stop();
        timer?.cancel();
      });
    },
  };
}
