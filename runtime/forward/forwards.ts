/**
 * Forwards: a TCP port here, a target at another node, a stream between them. Owns the listeners and the service
 * "forward" that serves others; must never connect anywhere that the configuration does not allow. docs/forward.md
 */
import { godwitError, asGodwitError, GodwitError } from "../kernel/errors.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import { sourceGroup, type Clock, type Log, type Random, type Timer } from "@godwit/sdk";
import { whyNotListening } from "@godwit/sdk/listening";
import { claimDescriptor, Places } from "@godwit/sdk/places";
import { type ListenAddress, parseListenAddress } from "../config/load.ts";
import { Late } from "../kernel/late.ts";
import type { ByteStream } from "../stream/byte-stream.ts";
import { StreamReset } from "../stream/constants.ts";
import type { Streams } from "../stream/streams.ts";
import { Joint, jointHandlers, type JointCounts, type JointState } from "./joint.ts";
import { formatTarget, parseTarget, type Target } from "../config/targets.ts";
import { type AllowRule, decideAllowed } from "./rules.ts";

export const FORWARD_SERVICE = "forward";
const FORWARDS_MAX = 64;
/** Connections through one forward: in all, and of one source. Who has sent nothing gives way to others. */
const CONNECTIONS_PER_FORWARD_MAX = 512;
const CONNECTIONS_PER_SOURCE_MAX = 256;
const SERVED_MAX = 2_048;
const OPEN_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 10_000;
const WARN_EVERY_MS = 60_000;
/** Rights are looked at again so long after the first of the changes that may take one. */
const REVIEW_MS = 1_000;
/** And so often while any is served, because trust also ends with its time or a rule, of which nobody tells. */
const LOOK_EVERY_MS = 10_000;

export interface ForwardRequest {
  readonly listen: string;
  readonly to: string;
  readonly target: string;
}

export interface ForwardRow extends ForwardRequest {
  readonly id: string;
  readonly source: "configuration" | "api";
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly failures: number;
  /** False while its address cannot be opened: `lastError` says why, and it is tried again. */
  readonly isListening: boolean;
  /** Why the last connection failed, or why it does not listen, in words; undefined: nothing has. */
  readonly lastError: string | undefined;
}

export interface ForwardsDeps {
  readonly streams: Streams;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly allow: readonly AllowRule[];
  /** An id or a callsign as this node knows it. Throws. */
  resolve(node: string): NodeId;
  isFrom(who: string, id: NodeId): boolean;
}

interface Forward extends JointCounts {
  readonly id: string;
  /** As it was asked for. */
  readonly asked: ForwardRequest;
  readonly request: { listen: string; readonly to: string; readonly target: string };
  readonly source: ForwardRow["source"];
  readonly joints: Set<Joint>;
  readonly places: Places;
  /** Until its address is there. */
  late: Late<void> | undefined;
  stop: () => void;
  connectionsTotal: number;
  failures: number;
  lastError: string | undefined;
  warnedAtMs: number;
}

/** What a connection that this node serves leads to. */
interface Served {
  readonly stream: ByteStream;
  readonly target: Target;
  /** The last look found no right to it: one by a rule comes back with the link. */
  isDoubted: boolean;
}

export class Forwards {
  readonly #deps: ForwardsDeps;
  #rules: readonly AllowRule[];
  #reviewTimer: Timer | undefined;
  #lookTimer: Timer | undefined;
  readonly #forwards = new Map<string, Forward>();
  readonly #served = new Map<Joint, Served>();
  readonly #stopServing: () => void;
  readonly #stopped = new AbortController();
  #connecting = 0;

  constructor(deps: ForwardsDeps) {
    this.#deps = deps;
    this.#rules = deps.allow;
    this.#stopServing = deps.streams.handle(FORWARD_SERVICE, (stream) => this.#serve(stream));
  }

  /**
   * Starts to listen; answers the forward, whose `listen` names the port that is really open. One of the configuration whose
   * address is not there waits for it. Throws GODWIT_REQUEST_INVALID, GODWIT_LISTEN_FAILED (of one that does not wait),
   * GODWIT_STREAM_LIMIT.
   */
  add(request: ForwardRequest, source: ForwardRow["source"]): ForwardRow {
    const address = parseListenAddress(request.listen);
    const target = parseTarget(request.target);
    if (address === undefined)
      throw godwitError("GODWIT_REQUEST_INVALID", `listen must be IP:PORT, not "${request.listen}"`);
    if (target === undefined)
      throw godwitError("GODWIT_REQUEST_INVALID", `target must be HOST:PORT, not "${request.target}"`);
    // Those of the configuration have a bound of their own there.
    if (source === "api" && this.#forwards.size >= FORWARDS_MAX)
      throw godwitError("GODWIT_STREAM_LIMIT", `there are ${FORWARDS_MAX} forwards already`);
    const id = Buffer.from(this.#deps.random.bytes(4)).toString("hex");
    const forward: Forward = {
      id,
      asked: request,
      request: { ...request, target: formatTarget(target) },
      source,
      joints: new Set(),
      places: new Places({ max: CONNECTIONS_PER_FORWARD_MAX, perSourceMax: CONNECTIONS_PER_SOURCE_MAX }),
      late: undefined,
      stop: () => {},
      bytesSent: 0,
      bytesReceived: 0,
      connectionsTotal: 0,
      failures: 0,
      lastError: undefined,
      warnedAtMs: Number.NEGATIVE_INFINITY,
    };
    if (source === "configuration") this.#listenLate(forward, address);
    else this.#listen(forward, address);
    this.#forwards.set(id, forward);
    return rowOf(forward);
  }

  /** Why each that does not listen does not. */
  get waiting(): string[] {
    const reasons: string[] = [];
    for (const { late, lastError } of this.#forwards.values())
      if (late?.reason !== undefined && lastError !== undefined) reasons.push(lastError);
    return reasons;
  }

  list(): ForwardRow[] {
    return [...this.#forwards.values()].map(rowOf);
  }

  /** Stops listening and resets its connections. False: no such forward. */
  remove(id: string): boolean {
    const forward = this.#forwards.get(id);
    if (forward === undefined) return false;
    this.#forwards.delete(id);
    forward.late?.stop();
    forward.stop();
    for (const joint of [...forward.joints]) joint.abort(undefined);
    return true;
  }

  /** Of the configuration from now on. Those that it lists as before go on with their connections. Throws nothing: what cannot be opened waits. */
  configure(requests: readonly ForwardRequest[]): void {
    const wanted = [...requests];
    for (const { id, source, asked } of [...this.#forwards.values()]) {
      if (source !== "configuration") continue;
      const at = wanted.findIndex((one) => isSame(one, asked));
      if (at < 0) this.remove(id);
      else wanted.splice(at, 1);
    }
    for (const request of wanted) this.add(request, "configuration");
  }

  /** Whom this node serves from now on. Ends what it serves and would not any more. */
  allow(rules: readonly AllowRule[]): void {
    this.#rules = rules;
    this.#review(true);
  }

  /** Somebody may have another name, or be trusted otherwise. */
  rightsChanged(): void {
    if (this.#served.size === 0) return;
    this.#reviewTimer ??= this.#deps.clock.after(REVIEW_MS, () => {
      this.#reviewTimer = undefined;
      this.#review(true);
    });
  }

  /** `isSure`: something changed, and what is refused now ends now. */
  #review(isSure: boolean): void {
    // Many connections lead from one node to one target.
    const verdicts = new Map<string, boolean>();
    for (const [joint, served] of [...this.#served]) {
      const { stream, target, isDoubted } = served;
      const about = `${stream.remote} ${formatTarget(target)}`;
      const isAllowed = verdicts.get(about) ?? this.#isAllowed(stream.remote, target);
      verdicts.set(about, isAllowed);
      served.isDoubted = !isAllowed;
      if (isAllowed || !(isSure || isDoubted)) continue;
      this.#refuse(stream, target);
      joint.abort(undefined);
    }
  }

  #lookLater(): void {
    this.#lookTimer ??= this.#deps.clock.after(LOOK_EVERY_MS, () => {
      this.#lookTimer = undefined;
      this.#review(false);
      if (this.#served.size > 0) this.#lookLater();
    });
  }

  #isAllowed(remote: NodeId, target: Target): boolean {
    return decideAllowed(this.#rules, (who) => this.#deps.isFrom(who, remote), target);
  }

  #refuse(stream: ByteStream, target: Target | undefined): void {
    this.#deps.log.debug("forward not allowed", { peer: shortId(stream.remote) });
    const what = target === undefined ? "that target" : formatTarget(target);
    stream.reset(StreamReset.notAllowed, `the far node does not allow ${what}`);
  }

  stop(): void {
    this.#reviewTimer?.cancel();
    this.#lookTimer?.cancel();
    this.#stopServing();
    this.#stopped.abort(godwitError("GODWIT_STOPPED", "the node is stopping"));
    for (const id of [...this.#forwards.keys()]) this.remove(id);
    for (const joint of [...this.#served.keys()]) joint.abort(undefined);
  }

  #listen(forward: Forward, { host, port }: ListenAddress): void {
    try {
      const listener = Bun.listen<JointState>({
        hostname: host,
        port,
        allowHalfOpen: true,
        socket: {
          ...jointHandlers,
          open: (socket) => {
            socket.data = { joint: undefined };
            this.#connected(forward, socket);
          },
        },
      });
      // Where the system chose the port, this says which.
      forward.request.listen = formatTarget({ host, port: listener.port });
      forward.stop = () => listener.stop();
    } catch (error) {
      const setting = forward.source === "configuration" ? "[[forwards]]" : "the command";
      const why = whyNotListening(error, { protocol: "tcp", host, port, setting });
      throw godwitError("GODWIT_LISTEN_FAILED", `cannot listen on ${forward.request.listen}: ${why}`, error);
    }
  }

  #listenLate(forward: Forward, address: ListenAddress): void {
    const { clock, log } = this.#deps;
    const { listen, to } = forward.request;
    forward.late = new Late({
      clock,
      open: () => this.#listen(forward, address),
      changed(error) {
        if (error !== undefined) {
          forward.lastError = asGodwitError(error).message;
          log.warn("forward address missing", { listen, to, error: asGodwitError(error) });
        } else if (forward.lastError !== undefined) {
          forward.lastError = undefined;
          log.info("forward address open", { listen, to });
        }
      },
    });
  }

  /** The near side: somebody connected to our port. */
  #connected(forward: Forward, socket: ConstructorParameters<typeof Joint>[0]): void {
    // It may be gone before it was accepted.
    if (socket.readyState <= 0) return void socket.terminate();
    forward.connectionsTotal++;
    const tooMany = () => godwitError("GODWIT_STREAM_LIMIT", "too many connections through this forward");
    const place = forward.places.accept(socket, sourceGroup(socket.remoteAddress), () =>
      socket.data.joint?.abort(tooMany()),
    );
    if (place === undefined) {
      socket.terminate();
      return this.#failed(forward, tooMany());
    }
    const joint = new Joint(socket, forward, (error) => {
      place.release();
      forward.joints.delete(joint);
      if (error !== undefined) this.#failed(forward, error);
    });
    socket.data.place = place;
    forward.joints.add(joint);
    const late = new AbortController();
    const timer = this.#deps.clock.after(OPEN_TIMEOUT_MS, () =>
      late.abort(godwitError("GODWIT_TIMEOUT", "the far node did not answer in time")),
    );
    const signal = AbortSignal.any([late.signal, this.#stopped.signal]);
    this.#open(forward.request, signal)
      .then(
        (stream) => joint.join(stream),
        (error: unknown) => joint.abort(asGodwitError(error)),
      )
      .finally(() => timer.cancel());
  }

  async #open({ to, target }: ForwardRequest, signal: AbortSignal): Promise<ByteStream> {
    const metadata = new TextEncoder().encode(target);
    return await this.#deps.streams.open(this.#deps.resolve(to), FORWARD_SERVICE, { metadata, signal });
  }

  #failed(forward: Forward, error: Error): void {
    forward.failures++;
    forward.lastError = error.message;
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - forward.warnedAtMs < WARN_EVERY_MS) return;
    forward.warnedAtMs = nowMs;
    const { to, target, listen } = forward.request;
    this.#deps.log.warn("forward failed", { listen, to, target, error });
  }

  /** The far side: another node asks for a target. */
  #serve(stream: ByteStream): void {
    const text = Buffer.from(stream.metadata).toString("utf8");
    const target = parseTarget(text);
    if (target === undefined || !this.#isAllowed(stream.remote, target)) return this.#refuse(stream, target);
    if (this.#served.size + this.#connecting >= SERVED_MAX)
      return stream.reset(StreamReset.limit, "the far node serves too many connections");
    this.#connecting++;
    void this.#connect(stream, target).finally(() => void this.#connecting--);
  }

  async #connect(stream: ByteStream, target: Target): Promise<void> {
    let isLate = false;
    const timer = this.#deps.clock.after(CONNECT_TIMEOUT_MS, () => {
      isLate = true;
      stream.reset(StreamReset.unreachable, `${formatTarget(target)} does not answer`);
    });
    try {
      claimDescriptor("guest");
      const socket = await Bun.connect<JointState>({
        hostname: target.host,
        port: target.port,
        allowHalfOpen: true,
        data: { joint: undefined },
        // Nothing is read before the joint stands.
        socket: { ...jointHandlers, open: (opened) => void opened.pause() },
      });
      claimDescriptor("guest", socket);
      const joint = new Joint(socket, { bytesSent: 0, bytesReceived: 0 }, () => this.#served.delete(joint));
      this.#served.set(joint, { stream, target, isDoubted: false });
      this.#lookLater();
      if (isLate || stream.isClosed) return joint.abort(undefined);
      // It may have been taken back meanwhile.
      if (!this.#isAllowed(stream.remote, target)) {
        this.#refuse(stream, target);
        return joint.abort(undefined);
      }
      stream.accept();
      joint.join(stream);
    } catch (error) {
      if (error instanceof GodwitError) throw error;
      stream.reset(StreamReset.unreachable, `${formatTarget(target)}: ${reasonOf(error)}`);
    } finally {
      timer.cancel();
    }
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ECONNREFUSED") return "connection refused";
  return code === "" ? String(error) : `cannot connect (${code})`;
}

const isSame = (a: ForwardRequest, b: ForwardRequest): boolean =>
  a.listen === b.listen && a.to === b.to && a.target === b.target;

const rowOf = (forward: Forward): ForwardRow => ({
  ...forward.request,
  id: forward.id,
  source: forward.source,
  connections: forward.joints.size,
  connectionsTotal: forward.connectionsTotal,
  bytesSent: forward.bytesSent,
  bytesReceived: forward.bytesReceived,
  failures: forward.failures,
  isListening: forward.late?.reason === undefined,
  lastError: forward.lastError,
});
