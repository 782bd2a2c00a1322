/** Names of people's making: callsigns, locations, and what a message may be addressed to. Case-insensitive, canonical upper case. */
import { godwitError } from "../kernel/errors.ts";
import { NODE_ID_CHARS, parseNodeId, type NodeId } from "../kernel/ids.ts";

export const LOCATION_CHARS_MAX = 8;
export const CALLSIGN_CHARS_MAX = 17;

export type Address =
  | { readonly kind: "node"; readonly id: NodeId }
  | { readonly kind: "machine"; readonly callsign: string }
  | { readonly kind: "location"; readonly location: string };

/** The canonical form; undefined unless `text` is a callsign in either case. */
export function parseCallsign(text: string): string | undefined {
  return /^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/.test(text) ? text.toUpperCase() : undefined;
}

/** The canonical form; undefined unless `text` is a location in either case. */
export function parseLocation(text: string): string | undefined {
  return /^[A-Za-z0-9]{2,8}$/.test(text) ? text.toUpperCase() : undefined;
}

export const locationOf = (callsign: string): string => callsign.slice(0, callsign.indexOf("-"));

/** Throws GODWIT_ADDRESS_INVALID. Does not check that an id is a good key; `checkNodeId` does. */
export function parseAddress(text: string): Address {
  if (text.length === NODE_ID_CHARS) {
    try {
      return { kind: "node", id: parseNodeId(text) };
    } catch {
      throw invalid(text);
    }
  }
  const callsign = parseCallsign(text);
  if (callsign !== undefined) return { kind: "machine", callsign };
  const location = parseLocation(text);
  if (location !== undefined) return { kind: "location", location };
  throw invalid(text);
}

/** The canonical text: parsing it gives the same address. */
export function formatAddress(address: Address): string {
  switch (address.kind) {
    case "node":
      return address.id;
    case "machine":
      return address.callsign;
    case "location":
      return address.location;
  }
}

const invalid = (text: string) =>
  godwitError(
    "GODWIT_ADDRESS_INVALID",
    `${JSON.stringify(text.slice(0, 60))} is not a message address: a node id of 52 characters, a callsign like DUN-A, or a location like DUN${
      // Tables for people show ids so, and whoever wants to write to one copies it from there.
      /^[a-z2-7]{10}$/i.test(text)
        ? "; a short id leads nowhere, godwit members --json has the whole one"
        : ""
    }`,
  );
