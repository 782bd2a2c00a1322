/**
 * What the schemas of the configuration check and make of values beyond forms and bounds. Named, so that the shapes made of the schemas
 * (scripts/shapes.ts) call the same functions. Pure.
 */
import { isIP } from "node:net";
import { parseCidr } from "../kernel/cidr.ts";
import { type NodeId, parseNodeId } from "../kernel/ids.ts";
import { parseInterfacePlan, parseTimeServer } from "./machine-parts.ts";
import { parsePattern, parseTarget } from "./targets.ts";
import { parseDuration, parseSize } from "./units.ts";

/** Bytes of a secret of the node itself: what opens a mesh or the API is long, and no password. */
export const SECRET_BYTES_MIN = 16;

/** Bytes of an API token of the configuration at most. */
export const TOKEN_BYTES_MAX = 512;

/** A function that is made of numbers, with how it was made. */
const madeOf = <Made extends object>(name: string, args: readonly number[], made: Made): Made =>
  Object.assign(made, { madeBy: `${name}(${args.join(", ")})` });

export const within = (from: number, to: number) =>
  madeOf("within", [from, to], (value: number) => value >= from && value <= to);
export const keysAtMost = (most: number) =>
  madeOf("keysAtMost", [most], (table: object) => Object.keys(table).length <= most);

export const upperCase = (text: string): string => text.toUpperCase();
export const durationMs = (text: string): number => parseDuration(text)!;
export const sizeBytes = (text: string): number => parseSize(text)!;

export function nodeIdIn(text: string, context: { addIssue(issue: { code: "custom" }): void }): NodeId {
  try {
    return parseNodeId(text);
  } catch {
    context.addIssue({ code: "custom" });
    // Nobody looks at it.
    return "" as NodeId;
  }
}

/** Where a server listens: an IP literal and a port; 0 lets the system choose. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:8000`, `[::1]:8000` or `localhost:8000`; undefined for anything else. No names, because there may be no DNS. */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:\s]+)):(\d{1,5})$/.exec(text);
  if (match === null || Number(match[3]) > 65_535) return undefined;
  const host = match[1] ?? (match[2] === "localhost" ? "127.0.0.1" : match[2]!);
  const family = isIP(host);
  const isRightForm = match[1] === undefined ? family === 4 : family === 6;
  return isRightForm ? { host, port: Number(match[3]) } : undefined;
}

export const listenAddresses = (value: false | string | string[]): ListenAddress[] =>
  value === false || value === "off" ? [] : [value].flat().map((text) => parseListenAddress(text)!);

export const isListenAddress = (text: string): boolean => parseListenAddress(text) !== undefined;
export const isCallsignPattern = (text: string): boolean => /^[A-Z0-9-]{1,32}\*?$/.test(text);
export const isScheme = (text: string): boolean => /^[a-z][a-z0-9+.-]{0,31}$/.test(text);
export const isNetwork = (text: string): boolean => parseCidr(text) !== undefined;
export const isTarget = (text: string): boolean => parseTarget(text) !== undefined;
export const isTargetPattern = (text: string): boolean => parsePattern(text) !== undefined;
export const isAddress = (text: string): boolean => isIP(text) !== 0;
export const isModuleName = (text: string): boolean => /^[A-Za-z0-9_-]{1,64}$/.test(text);
export const isInterfacePlan = (text: string): boolean => parseInterfacePlan(text) !== undefined;
export const isTimeServer = (text: string): boolean => parseTimeServer(text) !== undefined;
