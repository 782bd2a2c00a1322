/** Text forms of TCP endpoints: `tcp://host:port`, `tcp://[v6]:port`, with or without the scheme. */
import { GodwitError, parseHostPort, type HostPort } from "@godwit/sdk";

/** Throws GODWIT_ENDPOINT_INVALID. */
export function parseTcpEndpoint(endpoint: string): HostPort {
  const found = parseHostPort(endpoint.replace(/^tcp:\/\//, ""));
  if (found.port > 0) return found;
  throw new GodwitError("GODWIT_ENDPOINT_INVALID", `${endpoint} has no port`, { kind: "config" });
}
