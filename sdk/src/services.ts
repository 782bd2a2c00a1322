/**
 * Named services between the plugins of one node: one plugin offers, others use. What crosses is messages of JSON and bytes, as
 * requests with one answer or on channels that hold their sender back. Both ends behave the same wherever each plugin runs.
 */

/** What the node enforces. Beyond a size a message is refused where it is sent. */
export const SERVICE_LIMITS = {
  nameChars: 64,
  /** What is asked for. */
  askChars: 64,
  /** JSON of one message, as text in UTF-8. */
  jsonBytes: 32_768,
  /** JSON and bytes of one message together. */
  messageBytes: 65_000,
  /** Services that one instance offers, and names that it uses. */
  offers: 16,
  uses: 64,
  /** Requests of one consumer to one service that its provider has not answered, given up ones among them. */
  requests: 64,
  /** Requests and openings of one consumer to one service a second, and at once. */
  requestsPerSecond: 1_000,
  /** Channels of one consumer to one service. */
  channels: 64,
  /** What waits in the node for the reader of one direction of a channel. */
  windowMessages: 256,
  windowBytes: 262_144,
  /** How long a request may take when nothing is said, and at most. */
  timeoutMs: 30_000,
  timeoutMsMax: 600_000,
} as const;

/** What has come: both parts are the receiver's. */
export interface ServiceMessage {
  readonly json: unknown;
  readonly bytes: Uint8Array;
}

/** What is sent: `json` as JSON has it (default null), `bytes` borrowed until the call returns (default none). */
export type ServiceSending = Partial<ServiceMessage>;

export interface ServiceRequest extends ServiceMessage {
  /** What is asked for: 1 to 64 characters. */
  readonly ask: string;
  /** Proven: `<namespace>.<instance>` of whoever asks, `transport.radio`. */
  readonly consumer: string;
}

export interface ServiceChannelHandlers {
  /** In order, each once. What it throws ends the channel. */
  message(message: ServiceMessage): void;
  /** After a `send` that answered false: there is room again. */
  drain(): void;
  /** Once, last. No error when either end closed it; GODWIT_SERVICE_GONE when the other plugin stopped, failed or was reloaded. */
  closed(error: Error | undefined): void;
}

/** Messages both ways between a consumer and a provider. It ends with either plugin. */
export interface ServiceChannel {
  /** `<namespace>.<instance>` of the other end. */
  readonly peer: string;
  /** Starts delivery. Once; what came before waits, within the window. */
  open(handlers: ServiceChannelHandlers): void;
  /**
   * True: it is taken, and arrives unless the channel breaks. False: there is no room and it was not taken; wait for `drain`,
   * then send it again. After the end of the channel it is taken and lost. Throws GODWIT_TOO_BIG, GODWIT_REQUEST_INVALID for what is no JSON.
   */
  send(message: ServiceSending): boolean;
  /** While paused the other end is held back once the window is full. */
  pause(paused: boolean): void;
  /** What was sent before still arrives; what the other end has sent does not. Idempotent. `closed` follows at both ends. */
  close(): void;
}

/** What a provider does. At least one of both. */
export interface OfferedService {
  /**
   * Answers one request. The signal aborts when the answer is not wanted any more; then it should settle soon, because it counts as
   * one until it has. A rejection reaches the consumer with code and message.
   */
  request?(request: ServiceRequest, signal: AbortSignal): Promise<ServiceSending>;
  /** Somebody opens a channel. To refuse, reject or throw; else it is the provider's. */
  channel?(channel: ServiceChannel, opening: ServiceRequest): void | Promise<void>;
}

export interface ServiceCallOptions {
  /** Gives it up: the call rejects with its reason. */
  readonly signal?: AbortSignal;
  /** 1 to 600,000; default 30,000. Then it rejects with GODWIT_TIMEOUT. */
  readonly timeoutMs?: number;
}

/** A service as a consumer holds it, whether or not somebody offers it now. */
export interface UsedService {
  readonly name: string;
  /** Somebody offers it. */
  readonly isThere: boolean;
  /** Calls `fn` after `isThere` changed, or after another life of a provider took the place of one. Ends with the plugin. */
  onChange(fn: () => void): void;
  /** Resolves once somebody offers it. Rejects with the signal's reason, or GODWIT_STOPPED. */
  whenThere(signal?: AbortSignal): Promise<void>;
  /**
   * Asks for one answer. Rejects with GODWIT_SERVICE_ABSENT (nobody offers it), GODWIT_SERVICE_GONE (the provider stopped meanwhile: it may or may
   * not have done it), GODWIT_TIMEOUT, GODWIT_QUEUE_FULL (too many, or too fast), or with what the provider rejects with.
   */
  request(ask: string, message?: ServiceSending, options?: ServiceCallOptions): Promise<ServiceMessage>;
  /** Resolves once the provider has taken it. Rejects as `request` does. */
  openChannel(ask: string, message?: ServiceSending, options?: ServiceCallOptions): Promise<ServiceChannel>;
}

/**
 * `ctx.services`. A name has 1 to 64 characters: a lower-case letter, then `a-z`, `0-9`, `.`, `-`. A plugin that is not trusted needs the
 * permission `service.offer:NAME` to offer and `service:NAME` to use, each granted by the operator.
 */
export interface Services {
  /**
   * Offers a service until the plugin stops; one provider a name. A later life of the same instance takes the place of an earlier. Throws
   * GODWIT_FORBIDDEN, GODWIT_SERVICE_TAKEN, GODWIT_QUEUE_FULL, GODWIT_REQUEST_INVALID for a name that is none.
   */
  offer(name: string, service: OfferedService): void;
  /** Throws GODWIT_FORBIDDEN, GODWIT_QUEUE_FULL, GODWIT_REQUEST_INVALID. */
  use(name: string): UsedService;
}
