/** `ctx.peers` and `ctx.onRequest` over frames. */
import type { PeerFacts, Peers } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { PluginFrame } from "../frames/frames.ts";
import type { ContextParts } from "./parts.ts";

type RequestHandler = (request: string, input: unknown) => Promise<unknown>;

export interface GuestPeers {
  readonly peers: Peers;
  onRequest(handler: RequestHandler): void;
  onEvent(event: object, bytes: Uint8Array): void;
}

export function createPeers({ calls, port, scope }: ContextParts): GuestPeers {
  const changes = new Set<() => void>();
  const messages = new Set<(from: string, message: Uint8Array) => void>();
  let self: Peers["self"] | undefined;
  let onRequest: RequestHandler | undefined;
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  /** The node has one subscription of each kind; who listens is known here. */
  const subscribe = <T>(handlers: Set<T>, handler: T, method: string) => {
    check();
    if (handlers.size === 0) calls.askNow(method, {});
    handlers.add(handler);
  };
  const guarded = (what: string, run: () => void) => {
    try {
      run();
    } catch (error) {
      const { message } = asGodwitError(error);
      port.sendParts(PluginFrame.log, 0, {
        level: "error",
        event: `${what} handler failed`,
        fields: { error: message },
      });
    }
  };
  calls.add("request", async (args) => {
    const { request, input } = args as { readonly request: string; readonly input?: unknown };
    return { json: (await onRequest?.(request, input)) ?? null };
  });
  return {
    peers: {
      get self() {
        if (self === undefined) {
          const { callsign, ...rest } = calls.askNow("peers.self", {}) as Peers["self"];
          self = { ...rest, callsign };
        }
        return self;
      },
      list: () => (check(), calls.askNow("peers.list", {}) as PeerFacts[]),
      onChange: (fn) => subscribe(changes, fn, "peers.onChange"),
      send: (to, message) => !scope.isClosed && calls.askNow("peers.send", { to }, message) === true,
      onMessage: (fn) => subscribe(messages, fn, "peers.onMessage"),
    },
    onRequest(handler) {
      check();
      if (onRequest === undefined) calls.askNow("onRequest", {});
      onRequest = handler;
    },
    onEvent(event, bytes) {
      const { event: name, from } = event as { readonly event: string; readonly from: string };
      if (name === "peers") for (const fn of [...changes]) guarded("onChange", fn);
      else for (const fn of [...messages]) guarded("onMessage", () => fn(from, bytes.slice()));
    },
  };
}
