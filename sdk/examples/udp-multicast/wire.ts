/**
 * Datagrams of the group. Everybody gets all of them and takes what is addressed to their station.
 *
 *     0  2 bytes  "GM"
 *     2  1        kind: 0 announcement, 1 data
 *     3  8        station that sent it
 *    11  8        data only: station that it is for
 *    19  4        data only: connection, chosen by the dialling station
 *    23           data only: what the pipe was given
 */
export const STATION_BYTES = 8;
export const HEAD_BYTES = 23;
/** Fits an Ethernet frame with IPv4 and UDP. */
export const DATAGRAM_BYTES_MAX = 1_472;
export const MTU = DATAGRAM_BYTES_MAX - HEAD_BYTES;
const ANNOUNCEMENT_BYTES = 11;
const Kind = { announcement: 0, data: 1 } as const;

export type Heard =
  | { readonly kind: "announcement"; readonly from: string }
  | {
      readonly kind: "data";
      readonly from: string;
      readonly to: string;
      readonly connection: number;
      /** A view of what was decoded. */
      readonly bytes: Uint8Array;
    };

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

export function encodeAnnouncement(from: string): Uint8Array {
  return Buffer.concat([Buffer.from("GM"), Buffer.of(Kind.announcement), Buffer.from(from, "hex")]);
}

export function encodeData(from: string, to: string, connection: number, bytes: Uint8Array): Uint8Array {
  const out = Buffer.alloc(HEAD_BYTES + bytes.length);
  out.write("GM");
  out[2] = Kind.data;
  out.write(from, 3, "hex");
  out.write(to, 11, "hex");
  out.writeUInt32BE(connection, 19);
  out.set(bytes, HEAD_BYTES);
  return out;
}

/** Undefined for what is none of ours: anybody may send to a group. */
export function decode(datagram: Uint8Array): Heard | undefined {
  const view = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  if (view.length < ANNOUNCEMENT_BYTES || view.toString("latin1", 0, 2) !== "GM") return undefined;
  const from = hex(view.subarray(3, 11));
  if (view[2] === Kind.announcement) return { kind: "announcement", from };
  if (view[2] !== Kind.data || view.length <= HEAD_BYTES) return undefined;
  return {
    kind: "data",
    from,
    to: hex(view.subarray(11, 19)),
    connection: view.readUInt32BE(19),
    bytes: view.subarray(HEAD_BYTES),
  };
}
