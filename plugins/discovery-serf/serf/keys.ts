/**
 * The gossip keys as the cluster changes them: requests of others that this node answers, and requests of its operator to all. A change is durable
 * before it is answered; without that a restart would bring back the old key and lock the node out.
 */
import type { Asked } from "./queries.ts";
import { wireError } from "../wire/msgpack.ts";
import { formatKey, type Keyring } from "../wire/keyring.ts";
import {
  decodeKeyRequest,
  decodeKeyResponse,
  encodeKeyResponse,
  type KeyResponse,
} from "../wire/serf-messages.ts";

export type KeyAction = "install" | "use" | "remove" | "list";
const ACTIONS: Readonly<Record<string, KeyAction>> = {
  "install-key": "install",
  "use-key": "use",
  "remove-key": "remove",
  "list-keys": "list",
};
export const QUERY_NAMES: Readonly<Record<KeyAction, string>> = {
  install: "_serf_install-key",
  use: "_serf_use-key",
  remove: "_serf_remove-key",
  list: "_serf_list-keys",
};

export class Keys {
  readonly #keyring: Keyring | undefined;
  /** Told of each change; keeps it. */
  readonly #changed: (keyring: Keyring) => void;

  constructor(keyring: Keyring | undefined, changed: (keyring: Keyring) => void) {
    this.#keyring = keyring;
    this.#changed = changed;
  }

  /** The payload of the answer; undefined for a query that is none of keys. Throws GODWIT_DECODE for a request that is none. */
  answer(query: string, payload: Uint8Array): Uint8Array | undefined {
    const action = ACTIONS[query];
    if (action === undefined) return undefined;
    return encodeKeyResponse(
      this.#perform(action, action === "list" ? undefined : decodeKeyRequest(payload)),
    );
  }

  #perform(action: KeyAction, key: Uint8Array | undefined): KeyResponse {
    const keyring = this.#keyring;
    const none = { keys: [], primaryKey: "" };
    if (keyring === undefined)
      return { isDone: false, message: "No keyring to modify (encryption not enabled)", ...none };
    if (action === "list" || key === undefined) {
      const keys = keyring.keys.map(formatKey);
      return { isDone: true, message: "", keys, primaryKey: keys[0]! };
    }
    try {
      keyring[action](key);
    } catch (error) {
      return { isDone: false, message: error instanceof Error ? error.message : String(error), ...none };
    }
    this.#changed(keyring);
    return { isDone: true, message: "", ...none };
  }
}

export interface KeyOutcome {
  /** Members that did it, or of which the keys are known. */
  readonly done: number;
  /** What went wrong, by member. */
  readonly faults: Readonly<Record<string, string>>;
  /** Members that have each key, by its base64. */
  readonly keys: Readonly<Record<string, number>>;
  readonly primaryKeys: Readonly<Record<string, number>>;
}

/** What the members answered to a request about keys. */
export function keyOutcome({ answers }: Asked): KeyOutcome {
  const faults: Record<string, string> = {};
  const keys: Record<string, number> = {};
  const primaryKeys: Record<string, number> = {};
  let done = 0;
  for (const { from, payload } of answers) {
    let response: KeyResponse;
    try {
      response = decodeKeyResponse(payload);
    } catch {
      faults[from] = wireError("an answer that is none").message;
      continue;
    }
    if (response.isDone) done++;
    else faults[from] = response.message;
    for (const key of response.keys) keys[key] = (keys[key] ?? 0) + 1;
    if (response.primaryKey !== "")
      primaryKeys[response.primaryKey] = (primaryKeys[response.primaryKey] ?? 0) + 1;
  }
  return { done, faults, keys, primaryKeys };
}
