/**
 * What a plugin may ask for in its manifest and an operator may grant in its table. Pure text in, decisions out. Must never
 * grant more than both said. Specified by docs/plugins.md, "Permissions".
 *
 *   net.tcp  net.tcp.connect:PORT  net.tcp.listen:PORT  net.udp        sockets of its own
 *   broker.connect:HOST:PORT  broker.listen:PORT  broker.udp:PORT      sockets that the node opens; * is any
 *   serial:/PATTERN                                                   serial ports that the node opens; * is any part of a name
 *   files.read:/PATH  files.write:/PATH                                folders beside its own; * is any
 *   service:NAME  service.offer:NAME                                   services of other plugins, and its own; * asks for any
 *   http.pages  http.pages.public                                      pages under /x/; the second: open paths from anywhere
 *   engine.members  engine.streams                                     of an engine: who is in the mesh, streams to its like
 *   transport  discovery  engine  heal-action                          to register what is of another namespace than its own
 */
import type { PluginNamespace } from "@godwit/sdk";

/** What a plugin may register beside what its own namespace is for. */
export type Registrable = Exclude<PluginNamespace, "service">;
export type EnginePermission = "engine.members" | "engine.streams";
export type Permission =
  | {
      readonly kind:
        "net.tcp" | "net.udp" | "http.pages" | "http.pages.public" | EnginePermission | Registrable;
    }
  | { readonly kind: "net.tcp.connect" | "net.tcp.listen"; readonly port: number }
  | { readonly kind: "broker.connect"; readonly host: string; readonly port: number | "*" }
  | { readonly kind: "broker.listen" | "broker.udp"; readonly port: number | "*" }
  | { readonly kind: "serial"; readonly pattern: string }
  | { readonly kind: "files.read" | "files.write"; readonly path: string }
  | { readonly kind: "service" | "service.offer"; readonly name: string };

/** The form of each. */
export const permissionWords = [
  ...["net.tcp", "net.tcp.connect:PORT", "net.tcp.listen:PORT", "net.udp"],
  ...["broker.connect:HOST:PORT", "broker.listen:PORT", "broker.udp:PORT", "serial:/PATTERN"],
  ...["files.read:/PATH", "files.write:/PATH", "service:NAME", "service.offer:NAME"],
  ...["http.pages", "http.pages.public", "engine.members", "engine.streams"],
  ...["transport", "discovery", "engine", "heal-action"],
] as const satisfies readonly `${Permission["kind"]}${string}`[];

/** Undefined: not one that means anything here. */
export function parsePermission(text: string): Permission | undefined {
  const [kind = "", ...rest] = text.split(":");
  const value = rest.join(":");
  switch (kind) {
    case "net.tcp":
    case "net.udp":
    case "http.pages":
    case "http.pages.public":
    case "engine.members":
    case "engine.streams":
    case "transport":
    case "discovery":
    case "engine":
    case "heal-action":
      return rest.length === 0 ? { kind } : undefined;
    case "net.tcp.connect":
    case "net.tcp.listen": {
      const port = portOf(value);
      return typeof port === "number" && port > 0 ? { kind, port } : undefined;
    }
    case "broker.listen":
    case "broker.udp": {
      const port = portOf(value);
      return port === undefined ? undefined : { kind, port };
    }
    case "broker.connect": {
      const match = /^(\*|[0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\]):(\*|\d{1,5})$/.exec(value);
      const port = portOf(match?.[2] ?? "");
      if (match === null || port === undefined) return undefined;
      return { kind, host: match[1]!.replace(/^\[|\]$/g, "").toLowerCase(), port };
    }
    case "serial":
      return value === "*" || isPortPattern(value) ? { kind, pattern: value } : undefined;
    case "files.read":
    case "files.write":
      // One way to write each folder, so that comparing text compares folders.
      return value === "*" || (/^\/[\x20-\x7e]*$/.test(value) && !/\/\.{0,2}(?:\/|$)/.test(value))
        ? { kind, path: value }
        : undefined;
    case "service":
    case "service.offer":
      return value === "*" || /^[a-z][a-z0-9.-]{0,63}$/.test(value) ? { kind, name: value } : undefined;
    default:
      return undefined;
  }
}

function portOf(text: string): number | "*" | undefined {
  if (text === "*") return "*";
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return port <= 65_535 ? port : undefined;
}

/** Few stars, because each may be tried at each place of a name. */
const STARS_MAX = 4;

/** An absolute path written in one way; `*` is any part of a name. */
const isPortPattern = (text: string): boolean =>
  text.length <= 255 &&
  /^\/[\x20-\x7e]+$/.test(text) &&
  !/\/\.{0,2}(?:\/|$)/.test(text) &&
  text.split("*").length - 1 <= STARS_MAX;

/** Of a path, or of a pattern: one that is no wider. */
function matchesPort(pattern: string, path: string): boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join("[^/]*")}$`).test(path);
}

/** Whether who asked for `asked` may be given `granted`: the same or less. */
export function covers(asked: Permission, granted: Permission): boolean {
  switch (granted.kind) {
    case "net.tcp":
    case "net.udp":
    case "http.pages.public":
    case "engine.members":
    case "engine.streams":
    case "transport":
    case "discovery":
    case "engine":
    case "heal-action":
      return asked.kind === granted.kind;
    case "http.pages":
      return asked.kind === granted.kind || asked.kind === "http.pages.public";
    case "net.tcp.connect":
    case "net.tcp.listen":
      return asked.kind === "net.tcp" || (asked.kind === granted.kind && asked.port === granted.port);
    case "broker.connect":
      return (
        asked.kind === granted.kind &&
        (asked.host === "*" || asked.host === granted.host) &&
        (asked.port === "*" || asked.port === granted.port)
      );
    case "broker.listen":
    case "broker.udp":
      return asked.kind === granted.kind && (asked.port === "*" || asked.port === granted.port);
    case "serial":
      // Whoever grants says which: terminals of people are ports as well.
      return (
        asked.kind === granted.kind &&
        granted.pattern !== "*" &&
        (asked.pattern === "*" || matchesPort(asked.pattern, granted.pattern))
      );
    case "files.read":
    case "files.write":
      return (
        (asked.kind === granted.kind || asked.kind === "files.write") &&
        granted.path !== "*" &&
        "path" in asked &&
        (asked.path === "*" || granted.path === asked.path || granted.path.startsWith(`${asked.path}/`))
      );
    case "service":
    case "service.offer":
      // Whoever grants says by name who may be which.
      return (
        asked.kind === granted.kind &&
        granted.name !== "*" &&
        (asked.name === "*" || asked.name === granted.name)
      );
  }
}

/** What the operator granted of what was asked for; throws nothing: what is neither is left out. */
export function grantedOf(asked: readonly string[], granted: readonly string[]): Permission[] {
  const wanted = asked.map(parsePermission).filter((one) => one !== undefined);
  return granted
    .map(parsePermission)
    .filter((one) => one !== undefined)
    .filter((one) => wanted.some((ask) => covers(ask, one)));
}

/** Why a plugin that asked for `asked` in its manifest has not got `what`, and who has to change what. */
export function refusalOf(asked: readonly string[], what: string): string {
  const meant = parsePermission(what);
  const isAsked =
    meant === undefined || asked.map(parsePermission).some((ask) => ask !== undefined && covers(ask, meant));
  return isAsked
    ? `the plugin was not granted ${what}: its table gives it by grant = ["${what}"]`
    : `the plugin was not granted ${what} and cannot be: its manifest does not ask for it; add it to permissions in godwit-plugin.json, then to grant`;
}

/** As the kernel says it, in the words of whatever language. */
const KERNEL_REFUSAL = /\b(?:EACCES|EPERM|permission denied|operation not permitted)\b/i;
/** All that Bun's listener says where it was refused a socket; whoever may listen failed of something else. A path is no TCP. */
const WORDLESS_REFUSAL = /\bFailed to listen at (?!\/)/;
const KERNEL_PERMISSION = /^(?:net|files)\./;

function isRefusedByKernel(reason: string, held: readonly Permission[]): boolean {
  if (reason.includes("was not granted")) return false;
  if (KERNEL_REFUSAL.test(reason)) return true;
  return (
    WORDLESS_REFUSAL.test(reason) && !held.some(({ kind }) => kind === "net.tcp" || kind === "net.tcp.listen")
  );
}

/** Why a process that is locked in failed for `reason`, and who has to change what; unchanged where the kernel did not refuse anything. */
export function withMissingGrant(
  reason: string,
  asked: readonly string[],
  granted: readonly string[],
): string {
  const held = grantedOf(asked, granted);
  if (!isRefusedByKernel(reason, held)) return reason;
  const missing = asked.filter((text) => {
    const ask = parsePermission(text);
    if (ask === undefined || !KERNEL_PERMISSION.test(ask.kind)) return false;
    // A folder is what an operator makes of `*`; one port is less than all of them.
    return !held.some((one) => (ask.kind === "net.tcp" ? covers(one, ask) : covers(ask, one)));
  });
  const path = /(?:^|[\s'"])(\/[^\s'",]+)/.exec(reason)?.[1]?.replace(/[.:;)]+$/, "");
  const ofFiles = missing.filter((text) => text.startsWith("files."));
  if (path !== undefined && ofFiles.length === 0)
    return `${reason}; ${refusalOf(asked, `files.read:${path}`)}, or files.write to change what is there`;
  const list = (path !== undefined ? ofFiles : missing).map((text) => `"${text}"`).join(", ");
  return list === ""
    ? `${reason}; the sandbox refuses what the manifest does not ask for, as net.tcp, net.udp, files.read:/PATH: add it to permissions in godwit-plugin.json, then to grant`
    : `${reason}; the sandbox refuses what was not granted: its table gives it by grant = [${list}]`;
}

/** Who may come in to the open paths of a plugin's pages: this machine, or whoever reaches the API. Undefined: it has no pages. */
export const pagesReachOf = (granted: readonly Permission[]): "local" | "public" | undefined =>
  granted.some(({ kind }) => kind === "http.pages.public")
    ? "public"
    : granted.some(({ kind }) => kind === "http.pages")
      ? "local"
      : undefined;

/** What an engine may of the mesh. */
export interface EnginePolicy {
  readonly mayReadMembers: boolean;
  readonly mayStream: boolean;
}

/** Undefined: trusted, which may all. */
export function enginePolicyOf(granted: readonly Permission[] | undefined): EnginePolicy {
  const has = (kind: EnginePermission) => granted?.some((one) => one.kind === kind) ?? true;
  return { mayReadMembers: has("engine.members"), mayStream: has("engine.streams") };
}

/** What a plugin may register with the node. */
export interface RegisterPolicy {
  /** Runs in the node's thread: its word is the operator's, who chose that. */
  readonly isTrusted: boolean;
  may(what: Registrable): boolean;
  /** Why it may not have that permission. */
  refusal(what: string): string;
}

/** Its namespace is granted by the table that it stands in. `granted` undefined: trusted, which has what it asks for. */
export function registerPolicyOf(
  namespace: PluginNamespace,
  asked: readonly string[],
  granted: readonly string[] | undefined,
): RegisterPolicy {
  const held =
    granted === undefined ? asked.flatMap((text) => parsePermission(text) ?? []) : grantedOf(asked, granted);
  return {
    isTrusted: granted === undefined,
    may: (what) => what === namespace || held.some(({ kind }) => kind === what),
    refusal: (what) => refusalOf(asked, what),
  };
}

/** What the node may open for a plugin. */
export interface NetPolicy {
  mayConnect(host: string, port: number): boolean;
  mayListen(port: number): boolean;
  mayDatagrams(port: number): boolean;
  /** Why it may not have that permission. */
  refusal(what: string): string;
}

export const allowAll: NetPolicy = {
  mayConnect: () => true,
  mayListen: () => true,
  mayDatagrams: () => true,
  refusal: (what) => refusalOf([what], what),
};

export function netPolicyOf(asked: readonly string[], grants: readonly string[]): NetPolicy {
  const granted = grantedOf(asked, grants);
  const onPort = (kind: "broker.listen" | "broker.udp", port: number): boolean =>
    granted.some((one) => one.kind === kind && (one.port === "*" || one.port === port));
  return {
    mayConnect: (host, port) =>
      granted.some(
        (one) =>
          one.kind === "broker.connect" &&
          (one.host === "*" || one.host === host.toLowerCase()) &&
          (one.port === "*" || one.port === port),
      ),
    mayListen: (port) => onPort("broker.listen", port),
    mayDatagrams: (port) => onPort("broker.udp", port),
    refusal: (what) => refusalOf(asked, what),
  };
}

/** Which serial ports the node may open for a plugin. */
export interface SerialPolicy {
  mayOpen(path: string): boolean;
  /** Why it may not have that permission. */
  refusal(what: string): string;
}

/** `grants` undefined: trusted, which may open all. */
export function serialPolicyOf(
  asked: readonly string[],
  grants: readonly string[] | undefined,
): SerialPolicy {
  const granted = grants === undefined ? undefined : grantedOf(asked, grants);
  return {
    mayOpen: (path) =>
      granted === undefined ||
      // A path that leads elsewhere by dots is none that was granted.
      (isPortPattern(path) &&
        !path.includes("*") &&
        granted.some((one) => one.kind === "serial" && matchesPort(one.pattern, path))),
    refusal: (what) => refusalOf(asked, what),
  };
}

/** What a plugin may do among the plugins of this node. */
export interface DoorPolicy {
  mayOffer(name: string): boolean;
  mayUse(name: string): boolean;
  /** Why it may not have that permission. */
  refusal(what: string): string;
  /** Names of services that are known before it starts: who offers starts before who uses. */
  readonly offers: readonly string[];
  readonly uses: readonly string[];
}

const namesOf = (permissions: readonly Permission[], kind: "service" | "service.offer"): string[] =>
  permissions.flatMap((one) => (one.kind === kind && one.name !== "*" ? [one.name] : []));

/** Undefined: trusted, which may do all; what it asks for still says in which order to start. */
export function doorPolicyOf(asked: readonly string[], granted: readonly string[] | undefined): DoorPolicy {
  const held =
    granted === undefined
      ? asked.map(parsePermission).filter((one) => one !== undefined)
      : grantedOf(asked, granted);
  const offers = namesOf(held, "service.offer");
  const uses = namesOf(held, "service");
  const isTrusted = granted === undefined;
  return {
    offers,
    uses,
    mayOffer: (name) => isTrusted || offers.includes(name),
    mayUse: (name) => isTrusted || uses.includes(name),
    refusal: (what) => refusalOf(asked, what),
  };
}
