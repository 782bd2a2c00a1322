/**
 * `ctx.transport` and `ctx.discovery`: what a plugin tells of the world. Owns the check that it may: only who was given the namespace offers
 * pipes and endpoints, which stand in the node's signed record, and only who was given it names places that the node then dials. Must
 * never take a hint for the operator's word because the plugin says so.
 */
import type { Hint, Log, PluginContext, TransportDriver } from "@godwit/sdk";
import { placeOf } from "../../kernel/address-kind.ts";
import { godwitError } from "../../kernel/errors.ts";
import type { NetPolicy, Registrable, RegisterPolicy } from "../permissions.ts";
import { type HostEvents, type Running, sourceOf } from "./instance.ts";

export interface TransportDoorDeps {
  readonly running: Running;
  readonly register: RegisterPolicy;
  readonly net: NetPolicy;
  readonly events: HostEvents;
  readonly log: Log;
  /** Whether a transport of another type dials this scheme. */
  isOthers(scheme: string, running: Running): boolean;
  hintDropped(): void;
}

/** Throws GODWIT_FORBIDDEN for what the plugin may not register. */
export function checkRegister(policy: RegisterPolicy, what: Registrable): void {
  if (!policy.may(what)) throw godwitError("GODWIT_FORBIDDEN", policy.refusal(what));
}

export function openTransportDoor(deps: TransportDoorDeps): Pick<PluginContext, "transport" | "discovery"> {
  const { running, register, events } = deps;
  const { instance, scope } = running;
  const source = sourceOf(instance);
  let endMedium: (() => void) | undefined;
  let ownsMedium = false;
  return {
    transport: {
      register: (driver) => {
        checkRegister(register, "transport");
        if (scope.isClosed) return;
        checkChannel(driver, deps);
        running.driver = driver;
        const { medium, schemes } = driver;
        // A radio that is another one now, or on another channel, is registered again, with another medium.
        endMedium?.();
        endMedium = medium === undefined ? undefined : events.medium?.(medium, schemes);
        if (endMedium === undefined || ownsMedium) return;
        ownsMedium = true;
        scope.own(() => endMedium?.());
      },
      screen: (datagram, remote) => {
        checkRegister(register, "transport");
        return scope.isClosed ? undefined : events.screen(datagram, remote);
      },
      accept: (pipe) => {
        if (scope.isClosed || !register.may("transport")) pipe.close();
        checkRegister(register, "transport");
        if (!scope.isClosed) events.pipe(instance.name, pipe);
      },
      listening: (endpoints, sockets = []) => {
        checkRegister(register, "transport");
        if (scope.isClosed) return;
        const foreign = register.isTrusted
          ? undefined
          : [...endpoints, ...sockets].find((one) => !isOwn(one, running));
        if (foreign !== undefined)
          throw godwitError(
            "GODWIT_FORBIDDEN",
            `${foreign.slice(0, 100)} is no endpoint of this plugin: it publishes those of the schemes that it registered`,
          );
        running.endpoints = [...endpoints];
        running.sockets = [...sockets];
        events.listening();
      },
      overlay: (overlay) => {
        checkRegister(register, "transport");
        if (!scope.isClosed) running.overlay = overlay;
      },
    },
    discovery: {
      hint: (hint) => {
        if (!isOfOwnMedium(hint, deps)) checkRegister(register, "discovery");
        if (scope.isClosed) return;
        takeHint(hint, source, deps);
      },
      withdraw: (endpoint) => events.withdraw(source, endpoint),
    },
  };
}

const schemeOf = (endpoint: string): string => endpoint.slice(0, Math.max(0, endpoint.indexOf("://")));
const isOwn = (endpoint: string, { driver }: Running): boolean =>
  driver?.schemes.includes(schemeOf(endpoint)) === true;

/** Of the transports that Godwit brings along, whichever of them run by now: a plugin of others is never alone with them. */
const BUILTIN_SCHEMES: ReadonlySet<string> = new Set([
  "tcp",
  "udp",
  "ws",
  "wss",
  "tor",
  "wg",
  "yggdrasil",
  "memory",
  "meshtastic",
]);

/** What is on a shared channel is called for mail alone: of a plugin of others only places of schemes that nobody else dials. Throws GODWIT_FORBIDDEN. */
function checkChannel(
  { medium, schemes }: TransportDriver,
  { register, running, isOthers }: TransportDoorDeps,
): void {
  if (medium === undefined || register.isTrusted) return;
  const foreign = schemes.find((scheme) => BUILTIN_SCHEMES.has(scheme) || isOthers(scheme, running));
  if (foreign !== undefined)
    throw godwitError(
      "GODWIT_FORBIDDEN",
      `${foreign} is a scheme of another transport: a shared channel is one of schemes that only its plugin registers`,
    );
}

/** A transport that finds its own neighbours names places that only itself dials, with whatever was granted to it. */
function isOfOwnMedium({ endpoint }: Hint, { register, running, isOthers }: TransportDoorDeps): boolean {
  const scheme = schemeOf(endpoint);
  const isItsOwn = register.isTrusted || !BUILTIN_SCHEMES.has(scheme);
  return isItsOwn && isOwn(endpoint, running) && !isOthers(scheme, running);
}

function takeHint(hint: Hint, source: string, deps: TransportDoorDeps): void {
  const { running, register, net, events, log, hintDropped } = deps;
  const place = placeOf(hint.endpoint);
  // What a trusted plugin calls permanent stands in the configuration; of another's words, where the operator lets it connect.
  const isOperators = register.isTrusted
    ? hint.permanent === true
    : place !== undefined && net.mayConnect(place.host, place.port);
  const isTaken = events.hint(source, hint, isOperators || isOfOwnMedium(hint, deps));
  if (!isTaken) hintDropped();
  if (!isTaken && !running.hasTooManyHints)
    log.warn("hint dropped", { source, reason: "too many hints, or too long" });
  running.hasTooManyHints = !isTaken;
}
