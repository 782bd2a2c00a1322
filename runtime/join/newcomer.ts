/**
 * How a machine becomes a member by an invitation, before its node runs: dials the token's addresses, proves the
 * invitation once and answers what a configuration needs. Writes nothing, opens no store and listens nowhere.
 */
import type { Clock, DialTerms, Pipe, Random } from "@godwit/sdk";
import { verifySignature, type Identity } from "../identity/keys.ts";
import { decodeRecord, type NodeRecord } from "../identity/record.ts";
import { hasIdPrefix, type Token, type TokenAddress } from "../identity/token.ts";
import { Airtime } from "../kernel/airtime.ts";
import { sleep } from "../kernel/clock.ts";
import { asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import { isNamed } from "../kernel/address-kind.ts";
import { hasOtherPath, type NamedPlaces, type Naming } from "../kernel/named-places.ts";
import { HandshakeGuard } from "../link/guard.ts";
import { openSession } from "../link/handshake.ts";
import type { Session } from "../link/types.ts";
import { enrol } from "./enrol.ts";
import type { SecretLife } from "../wire/join-messages.ts";

/** Between the starts of two dials: a dead address must not hold up the next. */
const STAGGER_MS = 300;
const DIAL_TIMEOUT_MS = 20_000;
/** The addresses of a token: whoever was handed it holds them for good, as far as addresses can be. */
const TOKEN: readonly Naming[] = [{ by: "invitation" }];
/** Addresses that a configuration gets. */
const PEERS_MAX = 16;

export interface JoinDeps {
  readonly token: Token;
  readonly callsign: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  /** Judges what the token and the records of members name. */
  readonly places: NamedPlaces;
}

export interface Joined {
  readonly id: NodeId;
  /** Who let this node in, or answered in an open mesh. */
  readonly member: NodeId;
  /** Newest first; none in an open mesh. Owned by the caller. */
  readonly secrets: readonly Uint8Array[];
  /** Of each secret; none where the member did not say. */
  readonly lives: readonly SecretLife[];
  /** Endpoints of members, those that worked or were in the token first. */
  readonly peers: readonly string[];
  /** Callsigns of members that were told. */
  readonly callsigns: readonly string[];
}

interface Attempt {
  readonly address: TokenAddress;
  readonly error: GodwitError;
}

/** How the newcomer reaches an address: its transports, or a simulated network. */
export interface JoinDialer {
  dial(endpoint: string, signal: AbortSignal, expected?: NodeId, terms?: DialTerms): Promise<Pipe>;
  /** For a dial and its handshake together, ms; undefined: the default. */
  dialTimeoutMs(endpoint: string): number | undefined;
}

/** `joinMesh` from an identity and something that dials; rejects like it. */
export async function joinOver(deps: JoinDeps, identity: Identity, host: JoinDialer): Promise<Joined> {
  const { token, clock, signal } = deps;
  const over = new AbortController();
  const stop = AbortSignal.any([over.signal, signal]);
  const failed: Attempt[] = [];
  // Its budget of control before it is a node; somebody waits for it, as for a link that mail wants.
  const airtime = new Airtime(clock);
  airtime.isForMail = () => true;
  let joined: Joined | undefined;
  /** One enrolment at a time: a second one beside it would only burn the invitation elsewhere too. */
  let turn: Promise<unknown> = Promise.resolve();
  const attempt = async (address: TokenAddress, index: number): Promise<void> => {
    try {
      if (index > 0) await sleep(clock, index * STAGGER_MS, stop);
      const session = await connect({ ...deps, airtime }, identity, host, address, stop);
      const mine = turn.then(async () => {
        if (joined !== undefined || stop.aborted) return session.close();
        joined = await finish({ ...deps, airtime }, identity, session, address);
        over.abort();
      });
      turn = mine.catch(() => {});
      await mine;
    } catch (thrown) {
      const error = asGodwitError(thrown);
      if (!stop.aborted) failed.push({ address, error });
      if (error.code === "GODWIT_INVITE_USED") over.abort();
    }
  };
  await Promise.all(token.addresses.map(attempt));
  if (joined !== undefined) return joined;
  signal.throwIfAborted();
  throw verdictOf(failed);
}

interface OnChannels {
  readonly airtime: Airtime;
}

async function connect(
  {
    token,
    clock,
    random,
    places,
    airtime,
  }: Pick<JoinDeps, "token" | "clock" | "random" | "places"> & OnChannels,
  identity: Identity,
  host: JoinDialer,
  { endpoint }: TokenAddress,
  signal: AbortSignal,
): Promise<Session> {
  const timeout = new AbortController();
  const timeoutMs = host.dialTimeoutMs(endpoint) ?? DIAL_TIMEOUT_MS;
  const timer = clock.after(timeoutMs, () =>
    timeout.abort(godwitError("GODWIT_TIMEOUT", `no answer within ${timeoutMs / 1_000} s`)),
  );
  const either = AbortSignal.any([signal, timeout.signal]);
  try {
    const pipe: Pipe = await host.dial(endpoint, either, undefined, places.termsOf(TOKEN));
    return await openSession(
      pipe,
      {
        role: "initiator",
        identity,
        network: token.network,
        secrets: [],
        clock,
        random,
        guard: new HandshakeGuard(clock, random),
        airtime,
        hideIdentity: pipe.isAnonymous === true,
        ...(token.membership === undefined ? {} : { invite: token.membership }),
      },
      either,
    );
  } catch (error) {
    throw timeout.signal.aborted ? timeout.signal.reason : error;
  } finally {
    timer.cancel();
  }
}

/** In a closed mesh the invitation proves that a member answered, whichever it is; in an open one only its id does. */
async function finish(
  {
    token,
    callsign,
    clock,
    places,
    airtime,
  }: Pick<JoinDeps, "token" | "callsign" | "clock" | "places"> & OnChannels,
  identity: Identity,
  session: Session,
  { endpoint, idPrefix }: TokenAddress,
): Promise<Joined> {
  const first = [endpoint, ...token.addresses.map((address) => address.endpoint)].filter(
    (named) => places.refusalOfEndpoint(named, TOKEN) === undefined,
  );
  const { id } = identity;
  const member = session.remote;
  if (token.membership === undefined) {
    session.open({ frame() {}, drain() {}, closed() {} });
    session.close();
    if (!hasIdPrefix(member, idPrefix))
      throw godwitError(
        "GODWIT_HANDSHAKE_FAILED",
        `another node than the invitation names answers: ${shortId(member)}`,
      );
    return { id, member, secrets: [], lives: [], peers: [...new Set(first)], callsigns: [] };
  }
  const { secrets, records, lives } = await enrol(session, callsign ?? token.callsign, clock, airtime);
  const known = records.flatMap((bytes) => readRecord(bytes, token.network));
  // They become this node's own configuration, which nobody judges any more: addresses only, that may be dialled on their owners' word.
  const others = known
    .filter((record) => record.id !== id)
    .flatMap(({ id: nodeId, endpoints }) =>
      endpoints.filter((named) => isKeepable(named, [{ by: "member", nodeId }], places)),
    );
  const peers = [...new Set([...first, ...others])].slice(0, PEERS_MAX);
  return { id, member, secrets, lives, peers, callsigns: known.flatMap((record) => record.callsign ?? []) };
}

function isKeepable(endpoint: string, namings: readonly Naming[], places: NamedPlaces): boolean {
  if (hasOtherPath(endpoint) || isNamed(endpoint)) return false;
  return places.refusalOfEndpoint(endpoint, namings) === undefined;
}

function readRecord(bytes: Uint8Array, network: string): NodeRecord[] {
  try {
    return [decodeRecord(bytes, network, verifySignature)];
  } catch {
    return [];
  }
}

const TELLING = [
  "GODWIT_INVITE_USED",
  "GODWIT_INVITE_EXPIRED",
  "GODWIT_INVITE_UNSURE",
  "GODWIT_JOIN_REFUSED",
];

function verdictOf(failed: readonly Attempt[]): GodwitError {
  for (const code of TELLING) {
    const telling = failed.find(({ error }) => error.code === code);
    if (telling !== undefined) return telling.error;
  }
  const reasons = failed.map(({ address, error }) => `${address.endpoint}: ${error.message}`);
  return godwitError(
    "GODWIT_JOIN_UNREACHABLE",
    `no address of the invitation leads to a member. ${reasons.join("; ")}`,
  );
}
