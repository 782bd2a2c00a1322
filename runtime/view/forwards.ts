/** Forwards of a node: those of its configuration, those of the API, and who may use it as the far side. */
import type { Clock, Log, Random } from "@godwit/sdk";
import type { ForwardTable, ForwardView } from "./contract/node.ts";
import type { Config } from "../config/load.ts";
import { Forwards, type ForwardRow } from "../forward/forwards.ts";
import type { Heard } from "../kernel/hub.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { HubEvents } from "./node-events.ts";

export interface ForwardParts {
  readonly mesh: Mesh;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: Config;
  readonly hub: Heard<HubEvents>;
  resolve(node: string): NodeId;
}

export function startForwards({ mesh, clock, random, log, config, hub, resolve }: ForwardParts): {
  readonly table: ForwardTable;
  /** Why a forward does not listen, for each that does not. */
  readonly waiting: readonly string[];
  start(): void;
  /** A configuration read anew: ends what it does not list or allow any more, and begins what is new in it. */
  configure(config: Config): void;
  stop(): void;
} {
  const forwards = new Forwards({
    streams: mesh.streams,
    clock,
    random,
    log,
    allow: config.forwardAllow,
    resolve,
    isFrom(who, id) {
      if (who === "trusted") return mesh.book.hasRights(id);
      if (who === id) return true;
      // The first to claim a name holds it for mail; a right takes the word of somebody who can give one.
      const named = mesh.names.resolve(who);
      return named.kind === "node" && named.id === id && named.isVouched;
    },
  });
  const deaf = [
    hub.on("trustChanged", () => forwards.rightsChanged()),
    hub.on("namesChanged", () => forwards.rightsChanged()),
  ];
  return {
    table: {
      list: () => forwards.list().map(viewOf),
      add: (request) => viewOf(forwards.add(request, "api")),
      remove: (id) => forwards.remove(id),
    },
    /** A port of the configuration that cannot be opened yet is tried until it can. */
    start: () => forwards.configure(config.forwards),
    configure(next) {
      forwards.configure(next.forwards);
      forwards.allow(next.forwardAllow);
    },
    get waiting() {
      return forwards.waiting;
    },
    stop() {
      for (const off of deaf) off();
      forwards.stop();
    },
  };
}

const viewOf = ({
  connectionsTotal,
  bytesSent,
  bytesReceived,
  isListening,
  lastError,
  ...row
}: ForwardRow): ForwardView => ({
  ...row,
  connections_total: connectionsTotal,
  bytes_sent: bytesSent,
  bytes_received: bytesReceived,
  listening: isListening,
  last_error: lastError ?? null,
});
