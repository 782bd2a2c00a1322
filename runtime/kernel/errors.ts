/**
 * The error taxonomy. Every code the runtime can raise stands in the table below, append-only; `docs/errors.md` is
 * generated from it (`bun run docs`). Expected outcomes are return values, not errors.
 */
import { GodwitError, type ErrorKind, type RetryAdvice } from "@godwit/sdk/errors";

export { GodwitError, type ErrorKind, type RetryAdvice };

interface CodeEntry {
  readonly kind: ErrorKind;
  readonly retry: RetryAdvice;
  /** HTTP status where it surfaces in the API. */
  readonly status: number;
  readonly help: string;
}

const entry = (kind: ErrorKind, retry: RetryAdvice, status: number, help: string): CodeEntry => ({
  kind,
  retry,
  status,
  help,
});

/** Append-only: a retired code keeps its line. */
export const errorCodes = {
  GODWIT_CONFIG_INVALID: entry(
    "config",
    "never",
    400,
    "the configuration does not match the schema; each problem names its path",
  ),
  GODWIT_CONFIG_UNREADABLE: entry(
    "config",
    "never",
    400,
    "the configuration file is missing, unreadable or not TOML/JSON",
  ),
  GODWIT_SECRET_UNREADABLE: entry("config", "never", 400, "a file: or env: reference could not be read"),
  GODWIT_STATE_UNUSABLE: entry("config", "never", 500, "state_dir cannot be created, written or locked"),
  GODWIT_KEY_CORRUPT: entry(
    "config",
    "never",
    500,
    "the identity key file is damaged; restore it from a backup or move it away",
  ),
  GODWIT_KEY_EXPOSED: entry(
    "permission",
    "never",
    500,
    "the identity key file can be read by others; chmod 600 it",
  ),
  GODWIT_ID_INVALID: entry("protocol", "never", 400, "not a usable node id"),
  GODWIT_ADDRESS_INVALID: entry(
    "protocol",
    "never",
    400,
    "not a message address: 52-character id, LOC-MACHINE or LOC",
  ),
  GODWIT_DECODE: entry("protocol", "never", 400, "bytes from outside did not parse"),
  GODWIT_ENCODE: entry("bug", "never", 500, "a value does not fit its wire field"),
  GODWIT_HANDSHAKE_FAILED: entry(
    "protocol",
    "later",
    502,
    "the far end did not prove what it claims, or is in another network",
  ),
  GODWIT_HANDSHAKE_TIMEOUT: entry(
    "transport",
    "later",
    504,
    "the far end did not finish the handshake in time",
  ),
  GODWIT_HANDSHAKE_BUSY: entry("capacity", "later", 503, "too many unfinished handshakes"),
  GODWIT_LINK_CLOSED: entry("transport", "now", 502, "the link is gone"),
  GODWIT_SESSION_EXPIRED: entry(
    "protocol",
    "now",
    502,
    "the session reached its limit of records or age without a rekey",
  ),
  GODWIT_DIAL_FAILED: entry("transport", "later", 502, "the endpoint could not be reached"),
  GODWIT_ENDPOINT_INVALID: entry(
    "config",
    "never",
    400,
    "not an endpoint URL that a loaded transport can use",
  ),
  GODWIT_LISTEN_FAILED: entry("transport", "later", 500, "the address is taken or not on this machine"),
  GODWIT_NO_ROUTE: entry("transport", "later", 503, "no route to the destination now"),
  GODWIT_TOO_BIG: entry("capacity", "never", 413, "the message or body is larger than allowed"),
  GODWIT_QUEUE_FULL: entry("capacity", "later", 503, "a queue is at its bound; try again later"),
  GODWIT_QUOTA: entry("capacity", "later", 429, "the sender has used its share of the store"),
  GODWIT_STORE_FAILED: entry("capacity", "later", 507, "the store cannot commit (disk full or damaged)"),
  GODWIT_STORE_VERSION: entry(
    "config",
    "never",
    500,
    "a newer Godwit wrote the store, and says that this one may not open it; run that version, or let it convert the store",
  ),
  GODWIT_MESSAGE_UNKNOWN: entry("protocol", "never", 404, "no message with that id"),
  GODWIT_MESSAGE_FINAL: entry(
    "protocol",
    "never",
    409,
    "the message is delivered, expired, refused or withdrawn already",
  ),
  GODWIT_IDEMPOTENCY_CONFLICT: entry(
    "protocol",
    "never",
    409,
    "the idempotency key was used for a different message",
  ),
  GODWIT_NAME_UNKNOWN: entry("protocol", "later", 404, "no node is known by that name"),
  GODWIT_NAME_CONFLICT: entry("permission", "never", 409, "two nodes claim the name; see godwit names"),
  GODWIT_UNAUTHORIZED: entry("permission", "never", 401, "a bearer token is needed: godwit token new"),
  GODWIT_FORBIDDEN: entry(
    "permission",
    "never",
    403,
    "the token lacks the scope, or the Host header is foreign",
  ),
  GODWIT_REQUEST_INVALID: entry("protocol", "never", 400, "the request does not match its schema"),
  GODWIT_NOT_FOUND: entry("protocol", "never", 404, "nothing is there"),
  GODWIT_PLUGIN_FAILED: entry("plugin", "later", 500, "a plugin failed to start or crashed too often"),
  GODWIT_NODE_UNREACHABLE: entry("transport", "later", 503, "no node answers at that socket or address"),
  GODWIT_USAGE: entry("config", "never", 400, "the command line is wrong; see --help"),
  GODWIT_STOPPED: entry("transport", "later", 503, "the node is stopping"),
  GODWIT_BUG: entry("bug", "never", 500, "a fault in Godwit; please report it with the log"),
  GODWIT_METHOD_NOT_ALLOWED: entry("protocol", "never", 405, "the path exists but not with that method"),
  GODWIT_REQUEST_TIMEOUT: entry("protocol", "later", 408, "the request body came too slowly"),
  GODWIT_TOO_MANY_REQUESTS: entry("capacity", "later", 429, "too many requests at once; try again later"),
  GODWIT_TIMEOUT: entry("transport", "later", 504, "no answer in time"),
  GODWIT_SELF_DIALED: entry("transport", "never", 409, "the endpoint leads back to this node"),
  GODWIT_PEER_BLOCKED: entry("permission", "never", 403, "the operator has blocked that node"),
  GODWIT_STORE_CORRUPT: entry(
    "config",
    "never",
    500,
    "the store is not one of Godwit, or so damaged on so full a disk that nothing of it can be saved; move it away",
  ),
  GODWIT_TOKEN_INVALID: entry("protocol", "never", 400, "the text is no invitation, or has a typo"),
  GODWIT_INVITE_EXPIRED: entry("permission", "never", 403, "the invitation has expired; ask for a new one"),
  GODWIT_INVITE_USED: entry("permission", "never", 403, "the invitation was used before; ask for a new one"),
  GODWIT_INVITE_UNSURE: entry(
    "permission",
    "later",
    503,
    "the member that was asked has no right time and cannot judge the invitation",
  ),
  GODWIT_JOIN_REFUSED: entry(
    "protocol",
    "later",
    409,
    "the invitation does not fit this node or could not be taken",
  ),
  GODWIT_JOIN_UNREACHABLE: entry(
    "transport",
    "later",
    503,
    "no address of the invitation leads to a member; each is named with its reason",
  ),
  GODWIT_PROOF_INVALID: entry(
    "protocol",
    "never",
    400,
    "a revocation or name proof is malformed, of another network, or signed by somebody with no say",
  ),
  GODWIT_ROTATION_REFUSED: entry(
    "permission",
    "never",
    403,
    "the network secret may not be changed this way; see [network] and docs/closed-meshes.md",
  ),
  GODWIT_STREAM_UNREACHABLE: entry(
    "transport",
    "later",
    504,
    "the far node of a stream does not answer, or no route leads there any more",
  ),
  GODWIT_STREAM_REFUSED: entry("transport", "later", 502, "the far node did not take the stream"),
  GODWIT_STREAM_FORBIDDEN: entry(
    "permission",
    "never",
    403,
    "the far node does not allow that stream; see forward_allow there",
  ),
  GODWIT_STREAM_RESET: entry("transport", "later", 502, "a stream was torn down before both ends finished"),
  GODWIT_STREAM_SLOW_PATH: entry(
    "transport",
    "later",
    503,
    "only a path too slow for streams leads there; send a message instead",
  ),
  GODWIT_STREAM_LIMIT: entry("capacity", "later", 503, "too many streams at once"),
  GODWIT_PLUGIN_PACKAGE: entry(
    "plugin",
    "never",
    400,
    "a plugin package is cut short, too large or malformed",
  ),
  GODWIT_PLUGIN_SIGNATURE: entry(
    "permission",
    "never",
    403,
    "a plugin package was altered, or its publisher did not sign it",
  ),
  GODWIT_PLUGIN_UNTRUSTED: entry(
    "permission",
    "never",
    403,
    "the publisher of a plugin is not trusted; see godwit plugin trust",
  ),
  GODWIT_PLUGIN_SDK: entry("plugin", "never", 400, "a plugin is made for another SDK than this Godwit has"),
  GODWIT_PLUGIN_CONFLICT: entry("plugin", "never", 409, "another plugin of that id is there already"),
  GODWIT_NETLINK: entry(
    "transport",
    "later",
    500,
    "the kernel refused a request about interfaces, addresses or routes; the message names its errno",
  ),
  GODWIT_PLUGIN_UNTESTED: entry("plugin", "never", 400, "a plugin's tests do not run the conformance suite"),
  GODWIT_PLUGIN_REQUIRES: entry(
    "plugin",
    "never",
    400,
    "a plugin requires one that is missing, or that requires it in turn",
  ),
  GODWIT_PLUGIN_SANDBOX: entry(
    "permission",
    "never",
    500,
    "an untrusted plugin cannot be locked in here; the message names the protection that is missing, see accept_missing",
  ),
  GODWIT_ENGINE_INVALID: entry(
    "plugin",
    "never",
    500,
    "a coordination engine cannot do what its guarantee says, or says less than it does",
  ),
  GODWIT_ENGINE_UNABLE: entry(
    "plugin",
    "never",
    409,
    "the coordination engine does not give that guarantee; use another engine",
  ),
  GODWIT_ENGINE_CONFLICT: entry("plugin", "later", 409, "the key has another revision than was expected"),
  GODWIT_HEAL_INVALID: entry("plugin", "never", 500, "a heal action's name is none, or is taken"),
  GODWIT_HEAL_BUDGET: entry("capacity", "later", 409, "a heal action used up its budget of steps or time"),
  GODWIT_SERVICE_ABSENT: entry("plugin", "later", 503, "no plugin of this node offers that service now"),
  GODWIT_SERVICE_GONE: entry(
    "plugin",
    "later",
    503,
    "the plugin at the other end of a service stopped, failed or was reloaded meanwhile",
  ),
  GODWIT_SERVICE_TAKEN: entry(
    "plugin",
    "later",
    409,
    "another plugin of this node offers that service already",
  ),
  GODWIT_MESSAGE_DAMAGED: entry(
    "capacity",
    "never",
    410,
    "what is left of the message is not what was stored: the disk damaged it; have it sent again",
  ),
  GODWIT_OUTPUT_FAILED: entry(
    "capacity",
    "later",
    507,
    "what a command had to say could not be written: the disk of its output is full",
  ),
  GODWIT_ENDPOINT_REFUSED: entry(
    "transport",
    "later",
    502,
    "another named this endpoint, and this node does not connect to such places on another's word; see dial_networks in [peers]",
  ),
  GODWIT_CONTENT_ENCODING: entry(
    "protocol",
    "never",
    415,
    "a request body is taken as it is: send it without Content-Encoding",
  ),
  GODWIT_SEAL_SESSION: entry(
    "protocol",
    "later",
    400,
    "mail came in a session that this node does not know any more; its sender is told and seals it anew",
  ),
  GODWIT_SEAL_OUTDATED: entry(
    "protocol",
    "never",
    400,
    "mail came in the older form from a node that has sessions: it is dropped, because whoever has a prekey could forge it",
  ),
  GODWIT_SEAL_FORGED: entry("protocol", "never", 400, "mail of a session does not open: forged or damaged"),
  GODWIT_RADIO_UNUSABLE: entry(
    "transport",
    "later",
    503,
    "no radio was found, or it does not answer as one of Meshtastic does, or did not take a change; the message says what to do",
  ),
} as const satisfies Record<string, CodeEntry>;

export type ErrorCode = keyof typeof errorCodes;

/** Builds an error of the table; `message` in lower case says what to do. */
export function godwitError(code: ErrorCode, message: string, cause?: unknown): GodwitError {
  const { kind, retry } = errorCodes[code];
  return new GodwitError(code, message, { kind, retry, cause });
}

/** Narrows anything thrown; what is not ours is a bug, with its cause kept. */
export function asGodwitError(thrown: unknown): GodwitError {
  if (thrown instanceof GodwitError) return thrown;
  return godwitError("GODWIT_BUG", thrown instanceof Error ? thrown.message : String(thrown), thrown);
}

/** An assertion that stays on in production: a broken invariant must not spread. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw godwitError("GODWIT_BUG", message);
}

/** The operating system's words without the path, which a message that names it would say twice. */
export const fileReason = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/, \w+ '.*'$/s, "");
