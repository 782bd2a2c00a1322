/** Invitations through the API: issues one, and takes one for a node that is running already. */
import { isoTime } from "../kernel/clock.ts";
import type { InviteRequest, InviteView, JoinView } from "./contract/node.ts";
import { parseCallsign } from "../identity/address.ts";
import { parseToken } from "../identity/token.ts";
import { godwitError } from "../kernel/errors.ts";
import { formatHex } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { HINT_LIFETIME_MAX_MS } from "../membership/hints.ts";

const TTL_DEFAULT_S = 3_600;

export function issueInvite(mesh: Mesh, network: string, request: InviteRequest): InviteView {
  const callsign = request.callsign === undefined ? undefined : parseCallsign(request.callsign);
  if (callsign === undefined && request.callsign !== undefined)
    throw godwitError("GODWIT_REQUEST_INVALID", "callsign: expected LOCATION-MACHINE, like DUN-A");
  const { token, invite, addresses, isOwnOnly } = mesh.enrolment.issue({
    ttlMs: (request.ttl_seconds ?? TTL_DEFAULT_S) * 1_000,
    uses: request.uses ?? 1,
    ...(callsign === undefined ? {} : { callsign }),
  });
  return {
    token,
    network,
    open: invite === undefined,
    invite: invite === undefined ? null : formatHex(invite.id),
    expires_at: invite === undefined ? null : isoTime(invite.expiresAtS * 1_000),
    uses: invite?.uses ?? null,
    addresses: [...addresses],
    note: isOwnOnly
      ? "this node's clock is not set: only this node can judge the invitation, and only until it restarts"
      : null,
  };
}

/** The addresses become hints for a day. Throws GODWIT_TOKEN_INVALID, GODWIT_JOIN_REFUSED. */
export function takeToken(mesh: Mesh, network: string, isOpen: boolean, text: string): JoinView {
  const token = parseToken(text);
  if (token.network !== network)
    throw godwitError(
      "GODWIT_JOIN_REFUSED",
      `the invitation is to network "${token.network}", this node belongs to "${network}"`,
    );
  if (isOpen !== (token.membership === undefined))
    throw godwitError(
      "GODWIT_JOIN_REFUSED",
      isOpen
        ? "the invitation is to a closed mesh, and this node runs without its secret: stop it and join with a configuration that is not there yet"
        : "the invitation is to an open mesh, and this node has a network secret",
    );
  const taken = token.addresses.filter(({ endpoint }) =>
    mesh.hints.add("join", { endpoint, lifetimeMs: HINT_LIFETIME_MAX_MS }, "invitation"),
  );
  return { network, hints: taken.length };
}
