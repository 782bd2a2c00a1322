/** Text of endpoints: `udp://host:port`. Pure. */
import { GodwitError, type HostPort, parseHostPort } from "@godwit/sdk";

/** Throws GODWIT_ENDPOINT_INVALID. */
export function parseUdpEndpoint(endpoint: string): HostPort {
  const found = parseHostPort(endpoint.replace(/^udp:\/\//, ""));
  if (found.port > 0) return found;
  throw new GodwitError("GODWIT_ENDPOINT_INVALID", `${endpoint} has no port`, { kind: "config" });
}
