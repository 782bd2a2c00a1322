/**
 * That the node has no neighbour although it is told where some are, in words for its health: a secret of yesterday looks like a quiet
 * day else. Whoever asks for health needs no token, so it must not walk the dialer's targets. Makes nobody ill: the others may be off.
 */
import type { Mesh } from "../mesh/mesh.ts";

interface Seen {
  readonly peers: Pick<Mesh["peers"], "count">;
  readonly dialer: Pick<Mesh["dialer"], "lastFailure">;
}

export function lonelyTroubles({ peers, dialer }: Seen): {
  name: string;
  reason: string;
  isNotice: boolean;
}[] {
  const { lastFailure } = dialer;
  if (peers.count > 0 || lastFailure === undefined) return [];
  const reason = `no neighbour is linked; ${lastFailure.endpoint} failed last: ${lastFailure.error.message} (\`godwit discovery\` shows all)`;
  return [{ name: "links", reason, isNotice: true }];
}
