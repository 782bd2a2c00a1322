/** A dialer and the far ends that it reaches. For tests only. */
import type { Pipe } from "@godwit/sdk";
import { ManualClock, sleep } from "../kernel/clock.ts";
import { Scope } from "../kernel/scope.ts";
import { godwitError, type ErrorCode } from "../kernel/errors.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import type { Session } from "../link/types.ts";
import { Dialer } from "./dialer.ts";

export const node = formatNodeId(new Uint8Array(32).fill(2));

export interface Far {
  /** undefined: nobody listens. */
  id: NodeId | undefined;
  code: ErrorCode;
  /** The dial waits for this long. */
  takesMs: number;
}

export function setup() {
  const clock = new ManualClock();
  const scope = new Scope("test");
  const far: Far = { id: undefined, code: "GODWIT_DIAL_FAILED", takesMs: 0 };
  const dials: { endpoint: string; atMs: number; expected: NodeId | undefined }[] = [];
  const open: { id: NodeId; isClosed: boolean; close(): void }[] = [];
  /** All that were handed over. */
  const sessions: Session[] = [];
  const connected = new Set<NodeId>();
  let underway = 0;
  let most = 0;
  const dialer = new Dialer({
    scope,
    clock: scope.clock(clock),
    random: seededRandom(1),
    log: silentLog,
    metrics: new Metrics(),
    self: formatNodeId(new Uint8Array(32).fill(1)),
    async dial(endpoint, signal) {
      dials.push({ endpoint, atMs: clock.monotonicMs(), expected: undefined });
      most = Math.max(most, ++underway);
      try {
        await sleep(clock, far.takesMs, signal);
      } finally {
        underway--;
      }
      if (far.id === undefined) throw godwitError(far.code, `nobody at ${endpoint}`);
      return {} as Pipe;
    },
    async handshake(_pipe, remote) {
      dials.at(-1)!.expected = remote;
      return { remote: far.id!, close() {} } as Session;
    },
    adopt(session, onClosed) {
      const held = {
        id: session.remote,
        isClosed: false,
        close() {
          held.isClosed = true;
          onClosed();
        },
      };
      sessions.push(session);
      connected.add(session.remote);
      open.push(held);
    },
    isConnected: (id) => connected.has(id),
  });
  /** The far end goes after `livedMs`. */
  const lose = (livedMs: number) => {
    connected.clear();
    for (const session of open.splice(0)) session.close();
    dialer.onPeerDown(node, livedMs);
  };
  return { clock, scope, far, dials, open, sessions, connected, dialer, lose, most: () => most };
}
