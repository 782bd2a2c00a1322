/** `ctx.self`: this node as handed to one plugin. Owns under which name it signs, and what ends with it. */
import { type Log, SELF_MESSAGE_BYTES_MAX, type Self, type SelfItem } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { Scope } from "../../kernel/scope.ts";
import { checkPurpose } from "./storage.ts";

/** The node as plugins see it; `view/self-for-plugins.ts` implements it over the living mesh. */
export interface SelfBackend extends Pick<
  Self,
  "id" | "callsign" | "network" | "tags" | "protocols" | "endpoints" | "listening"
> {
  /** Calls synchronously for each change. Answers how to stop. */
  watch(fn: () => void): () => void;
  /** `plugin`: `namespace.id`, of which the prefix is made. */
  sign(plugin: string, message: Uint8Array): Uint8Array;
  verify(plugin: string, id: string, message: Uint8Array, signature: Uint8Array): boolean;
  signItem(plugin: string, item: SelfItem): Uint8Array;
  meshSeeds(plugin: string, purpose: string): readonly Uint8Array[];
}

export interface SelfDoorDeps {
  readonly backend: SelfBackend;
  /** `namespace.plugin`. */
  readonly plugin: string;
  readonly scope: Scope;
  readonly log: Log;
}

export function openSelfDoor({ backend, plugin, scope, log }: SelfDoorDeps): Self {
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  const { id, callsign, network, tags, protocols } = backend;
  return {
    id,
    callsign,
    network,
    tags,
    protocols,
    listening: () => (check(), backend.listening()),
    endpoints: () => (check(), backend.endpoints()),
    onChange(fn) {
      check();
      scope.own(
        backend.watch(() => {
          try {
            fn();
          } catch (error) {
            log.error("onChange handler failed", { error: asGodwitError(error) });
          }
        }),
      );
    },
    async sign(message) {
      check();
      if (message.length > SELF_MESSAGE_BYTES_MAX)
        throw godwitError(
          "GODWIT_TOO_BIG",
          `a plugin signs at most ${SELF_MESSAGE_BYTES_MAX} bytes, got ${message.length}`,
        );
      return backend.sign(plugin, message);
    },
    async verify(of, message, signature) {
      check();
      return message.length <= SELF_MESSAGE_BYTES_MAX && backend.verify(plugin, of, message, signature);
    },
    async signItem(item) {
      check();
      return backend.signItem(plugin, item);
    },
    async meshSeeds(purpose) {
      check();
      checkPurpose(purpose);
      return backend.meshSeeds(plugin, purpose);
    },
  };
}
