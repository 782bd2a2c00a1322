/** Transports and discovery of a plugin outside of the node's thread: its driver, its pipes, its endpoints and hints. */
import type { DialTerms, Pipe, PluginContext } from "@godwit/sdk";
import { z } from "zod";
import { GodwitError, godwitError } from "../../kernel/errors.ts";
import type { Flows } from "../frames/flow.ts";
import { FlowPipe, type FlowProperties } from "../frames/flow-pipe.ts";
import { parseJson } from "../frames/parse.ts";
import { checkPlace } from "../host/dial.ts";
import type { Calls } from "../frames/calls.ts";
import { mediumSchema, RemoteMedium } from "./medium.ts";
import type { RemoteParts } from "./parts.ts";

/** Endpoints that one transport may publish. */
const ENDPOINTS_MAX = 64;
/** Neighbours in an overlay that one transport may tell of at a time. */
const OVERLAY_PEERS_MAX = 1_024;
const endpoint = z.string().max(512);

/** As for every transport: 30 days. */
const PATIENCE_MS_MAX = 30 * 86_400_000;
/** And a day where datagrams wait. */
const answerMs = z.number().nonnegative().max(86_400_000).optional();

const pipeSchema = z.object({
  kind: z.enum(["stream", "datagram"]),
  remote: endpoint,
  local: endpoint,
  linkClass: z.enum(["fast", "medium", "slow"]),
  isAnonymous: z.boolean().default(false),
  patienceMs: z.number().nonnegative().max(PATIENCE_MS_MAX).default(0),
  answerMs,
  rateBitsPerSecond: z.number().positive().max(1e12),
  mtu: z.number().int().min(0).max(65_535),
  isOnMedium: z.boolean().default(false),
});
const changeSchema = z.object({
  remote: endpoint.optional(),
  mtu: z.number().int().min(0).max(65_535).optional(),
  answerMs,
});
const count = z.number().nonnegative();
const overlaySchema = z.object({
  address: z.string().max(64),
  subnet: z.string().max(64).exactOptional(),
  mtu: z.number().int().min(0).max(65_535).exactOptional(),
  sessions: count.exactOptional(),
  peers: z
    .array(
      z.object({
        address: z.string().max(64).optional(),
        remote: endpoint,
        isUp: z.boolean(),
        direction: z.enum(["inbound", "outbound"]).exactOptional(),
        upMs: count.exactOptional(),
        latencyMs: count.exactOptional(),
        receivedBytes: count.exactOptional(),
        sentBytes: count.exactOptional(),
      }),
    )
    .max(OVERLAY_PEERS_MAX),
});
const eventSchema = z.discriminatedUnion("event", [
  z.object({
    event: z.literal("register"),
    schemes: z.array(z.string().regex(/^[a-z][a-z0-9+.-]{0,31}$/)).max(16),
    dialTimeoutMs: z.number().int().positive().optional(),
    medium: mediumSchema.optional(),
  }),
  z.looseObject({ event: z.literal("medium") }),
  z.looseObject({ event: z.literal("heard") }),
  z.object({
    event: z.literal("listening"),
    endpoints: z.array(endpoint).max(ENDPOINTS_MAX),
    sockets: z.array(endpoint).max(ENDPOINTS_MAX).optional(),
  }),
  z.object({
    event: z.literal("hint"),
    endpoint,
    nodeId: z.string().max(64).optional(),
    permanent: z.boolean().optional(),
    lifetimeMs: z.number().positive().optional(),
    dialTimeoutMs: z.number().positive().optional(),
    interface: z.string().max(64).optional(),
  }),
  z.object({ event: z.literal("withdraw"), endpoint }),
  z.object({ event: z.literal("overlay"), overlay: overlaySchema.optional() }),
]);
/** As a plugin tells of one, and its direction. */
type PipeOnWire = z.output<typeof pipeSchema> & Pick<FlowProperties, "direction">;
const openSchema = z.object({ what: z.literal("pipe"), pipe: pipeSchema });
const dialledSchema = z.object({ flow: z.number().int().positive().max(0xffff_ffff), pipe: pipeSchema });

const termsSchema = z.object({ terms: z.number().int(), address: z.string().max(255) });

export class RemoteTransport {
  readonly #ctx: PluginContext;
  readonly #flows: Flows;
  readonly #calls: Calls;
  /** Of the dials under way, by the number that the plugin asks with. */
  readonly #terms = new Map<number, DialTerms>();
  readonly #explained: (error: GodwitError) => GodwitError;
  #nextTerms = 1;
  #medium: RemoteMedium | undefined;

  /** `explained`: of a dial that failed, with the grant that it lacks. */
  constructor({ ctx, flows, calls }: RemoteParts, explained: (error: GodwitError) => GodwitError) {
    this.#explained = explained;
    this.#ctx = ctx;
    this.#flows = flows;
    this.#calls = calls;
    calls.add("dial.refusal", (args) => {
      const { terms, address } = parseJson(termsSchema, args);
      return { json: this.#terms.get(terms)?.refusal(address) ?? null };
    });
  }

  /** `bytes` are borrowed. Throws GODWIT_DECODE. */
  onEvent(json: unknown, bytes: Uint8Array): void {
    const { transport, discovery } = this.#ctx;
    const event = parseJson(eventSchema, json);
    switch (event.event) {
      case "register": {
        const { schemes } = event;
        const medium = event.medium && this.#newMedium(event.medium, schemes);
        transport.register({
          schemes,
          ...(medium === undefined ? {} : { medium }),
          ...(event.dialTimeoutMs === undefined ? {} : { dialTimeoutMs: event.dialTimeoutMs }),
          dial: (to, signal, expected, terms) => this.#dial(to, signal, expected, terms),
        });
        this.#medium = medium;
        return;
      }
      case "medium":
        return this.#theMedium.onBusy(json);
      case "heard":
        return this.#theMedium.onHeard(json, bytes);
      case "listening":
        return transport.listening(event.endpoints, event.sockets);
      case "hint": {
        const { nodeId, permanent, lifetimeMs, dialTimeoutMs, interface: heardOn } = event;
        return discovery.hint({
          endpoint: event.endpoint,
          ...(nodeId === undefined ? {} : { nodeId }),
          ...(permanent === undefined ? {} : { permanent }),
          ...(lifetimeMs === undefined ? {} : { lifetimeMs }),
          ...(dialTimeoutMs === undefined ? {} : { dialTimeoutMs }),
          ...(heardOn === undefined ? {} : { interface: heardOn }),
        });
      }
      case "withdraw":
        return discovery.withdraw(event.endpoint);
      case "overlay":
        return transport.overlay(
          event.overlay && {
            ...event.overlay,
            peers: event.overlay.peers.map(({ address, ...peer }) => ({ ...peer, address })),
          },
        );
    }
  }

  #newMedium(told: z.output<typeof mediumSchema>, schemes: readonly string[]): RemoteMedium {
    return new RemoteMedium(this.#ctx, this.#calls, told, schemes);
  }

  get #theMedium(): RemoteMedium {
    if (this.#medium !== undefined) return this.#medium;
    throw godwitError("GODWIT_DECODE", "plugin frame: no channel is registered");
  }

  /** A pipe that somebody else opened. Throws GODWIT_DECODE. */
  onOpen(id: number, json: unknown): void {
    const { pipe } = parseJson(openSchema, json);
    this.#flows.checkForeignId(id);
    this.#ctx.transport.accept(this.#pipe(id, { ...pipe, direction: "inbound" }));
  }

  /** The flow opens while the answer is handled, so that no data of it comes before. */
  async #dial(
    to: string,
    signal: AbortSignal,
    expected: string | undefined,
    terms: DialTerms | undefined,
  ): Promise<Pipe> {
    const number = this.#nextTerms++;
    if (terms !== undefined) this.#terms.set(number, terms);
    const asked = {
      endpoint: to,
      ...(expected === undefined ? {} : { expected }),
      ...(terms === undefined ? {} : { terms: number }),
    };
    const read = (value: unknown): Pipe => {
      const { flow, pipe: properties } = parseJson(dialledSchema, value);
      this.#flows.checkForeignId(flow);
      return this.#pipe(flow, { ...properties, direction: "outbound" });
    };
    const pipe = await this.#calls
      .ask("dial", asked, read, { signal })
      .catch((error: unknown) => {
        throw error instanceof GodwitError && !signal.aborted ? this.#explained(error) : error;
      })
      .finally(() => this.#terms.delete(number));
    try {
      // What a name led to is known now; nothing was said there yet.
      if (terms !== undefined) checkPlace(to, pipe.remote, terms);
    } catch (error) {
      pipe.close();
      throw error;
    }
    return pipe;
  }

  #pipe(id: number, { isOnMedium, ...told }: PipeOnWire): Pipe {
    const properties: FlowProperties = { ...told, ...(isOnMedium ? { medium: this.#theMedium } : {}) };
    if (properties.kind === "datagram" && properties.mtu === 0)
      throw new GodwitError("GODWIT_DECODE", "plugin frame: a datagram pipe without an MTU", {
        kind: "protocol",
      });
    if (properties.kind === "stream" && properties.answerMs !== undefined)
      throw godwitError("GODWIT_DECODE", "plugin frame: a stream whose datagrams wait");
    return new FlowPipe(this.#flows, id, properties, (change) => {
      const { remote, mtu, answerMs: answer } = parseJson(changeSchema, change);
      if (properties.kind === "stream" && mtu !== undefined && mtu > 0)
        throw godwitError("GODWIT_DECODE", "plugin frame: a stream with an MTU");
      return {
        ...(remote === undefined ? {} : { remote }),
        ...(mtu === undefined ? {} : { mtu }),
        ...(answer === undefined ? {} : { answerMs: answer }),
      };
    });
  }
}
