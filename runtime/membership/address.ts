/** The node's mesh IPv6 address: a ULA (RFC 4193) whose prefix comes from the network name and whose rest from the id. */
import { createHash } from "node:crypto";
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";

/** `address` within `subnet`, a /64 of this node's own inside the network's /48. */
export function meshAddress(network: string, id: NodeId): { address: string; subnet: string } {
  const net = createHash("sha256").update("godwit mesh prefix").update(network).digest();
  const node = createHash("sha256").update("godwit mesh address").update(nodeIdBytes(id)).digest();
  const prefix = Buffer.concat([Buffer.from([0xfd]), net.subarray(0, 5), node.subarray(0, 2)]);
  return {
    address: formatIpv6(Buffer.concat([prefix, node.subarray(2, 10)])),
    subnet: `${formatIpv6(Buffer.concat([prefix, Buffer.alloc(8)]))}/64`,
  };
}

/** RFC 5952: lower case, no leading zeros, the longest run of zero groups compressed. */
export function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  let bestAt = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > bestLength) {
      bestAt = i;
      bestLength = length;
    }
  }
  const text = groups.map((group) => group.toString(16));
  if (bestAt < 0) return text.join(":");
  return `${text.slice(0, bestAt).join(":")}::${text.slice(bestAt + bestLength).join(":")}`;
}
