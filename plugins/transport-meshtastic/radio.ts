/**
 * The radio as this transport sees it through the door of service.radio: what it is, what it hears on our port, what became of what we sent. Owns the channel of
 * the service, which it opens again; what the service says is read by a schema, and what does not fit is passed over.
 */
import { GodwitError, type PluginContext, type ServiceChannel, type UsedService } from "@godwit/sdk";
import { z } from "zod/mini";

const RETRY_MS = 2_000;
/** Packets that the service has not told of. */
const OPEN_MAX = 32;

const costs = z.array(z.number().check(z.minimum(0), z.maximum(600_000))).check(z.maxLength(256));
const radioSchema = z.object({
  number: z.int().check(z.minimum(1), z.maximum(0xffff_fffe)),
  id: z.string(),
  isLicensed: z.boolean(),
  dutyCycle: z.number(),
  preset: z.nullable(z.string()),
  rateBitsPerSecond: z.number(),
  slotMs: z.number(),
  mayNotSend: z.nullable(z.string()),
  channels: z.array(
    z.object({
      index: z.int().check(z.minimum(0), z.maximum(7)),
      name: z.string(),
      isPublic: z.boolean(),
      tag: z.string().check(z.regex(/^[0-9a-f]{4}$/)),
    }),
  ),
  costs: z.object({ one: costs, all: costs }),
});
const stateSchema = z.object({
  trouble: z.nullable(z.string()),
  airtime: z.object({ utilisation: z.number().check(z.minimum(0), z.maximum(1)) }),
  radio: z.nullable(radioSchema),
});
const incoming = z.discriminatedUnion("t", [
  z.object({ t: z.literal("state"), state: stateSchema }),
  z.object({
    t: z.literal("packet"),
    from: z.number(),
    to: z.number(),
    id: z.number(),
    channel: z.number(),
    isPki: z.boolean(),
    viaMqtt: z.boolean(),
  }),
  z.object({ t: z.literal("done"), tag: z.number(), outcome: z.string(), reason: z.optional(z.string()) }),
]);

export type RadioState = z.infer<typeof stateSchema>;
export type Radio = z.infer<typeof radioSchema>;

export interface RadioPacket {
  readonly from: number;
  readonly to: number;
  readonly id: number;
  readonly channel: number;
  readonly isPki: boolean;
  readonly viaMqtt: boolean;
  /** Borrowed. */
  readonly payload: Uint8Array;
}

export interface RadioSend {
  readonly to: number;
  readonly port: number;
  readonly channel: number;
  readonly hopLimit: number;
  readonly rank: number;
  readonly lifetimeMs: number;
}

export interface RadioDoorEvents {
  /** Undefined: the service is gone. */
  state(state: RadioState | undefined): void;
  packet(packet: RadioPacket): void;
  /** There is room again for what `send` did not take. */
  room(): void;
  /** One packet was not sent, by the service's word; any other text counts as "other". */
  refused(reason: string): void;
}

export class RadioDoor {
  readonly #ctx: PluginContext;
  readonly #service: UsedService;
  readonly #port: number;
  readonly #events: RadioDoorEvents;
  readonly #open = new Map<number, () => void>();
  #channel: ServiceChannel | undefined;
  #tags = 0;
  #wantsRoom = false;

  constructor(ctx: PluginContext, name: string, port: number, events: RadioDoorEvents) {
    this.#ctx = ctx;
    this.#service = ctx.services.use(`radio.${name.replaceAll("_", "-")}`);
    this.#port = port;
    this.#events = events;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const over = Promise.withResolvers<void>();
      try {
        await this.#service.whenThere(signal);
        const opening = { json: { version: 1, packets: [this.#port] } };
        const channel = await this.#service.openChannel("use", opening, { signal });
        this.#channel = channel;
        channel.open({
          message: ({ json, bytes }) => this.#onMessage(json, bytes),
          drain: () => this.#onRoom(),
          closed: () => over.resolve(),
        });
        await over.promise;
      } catch (error) {
        if (signal.aborted) return;
        this.#ctx.log.debug("radio not opened", {
          error: error instanceof GodwitError ? error.code : String(error),
        });
      }
      this.#onGone();
      if (!signal.aborted) await this.#pause(signal);
    }
  }

  /** False: not now; `room` follows. `done`: what became of it is known, or never will be. Once. */
  send(send: RadioSend, payload: Uint8Array, done: () => void): boolean {
    if (this.#channel === undefined) return false;
    const tag = this.#tags + 1;
    const isTaken =
      this.#open.size < OPEN_MAX && this.#channel.send({ json: { t: "send", tag, ...send }, bytes: payload });
    if (!isTaken) {
      this.#wantsRoom = true;
      return false;
    }
    this.#tags = tag;
    this.#open.set(tag, done);
    return true;
  }

  #onMessage(json: unknown, bytes: Uint8Array): void {
    const parsed = incoming.safeParse(json);
    if (!parsed.success) return;
    const message = parsed.data;
    if (message.t === "state") return this.#events.state(message.state);
    if (message.t === "packet") return this.#events.packet({ ...message, payload: bytes });
    const done = this.#open.get(message.tag);
    this.#open.delete(message.tag);
    if (message.outcome !== "left") this.#events.refused(message.reason ?? message.outcome);
    done?.();
    this.#onRoom();
  }

  #onRoom(): void {
    if (!this.#wantsRoom) return;
    this.#wantsRoom = false;
    this.#events.room();
  }

  #onGone(): void {
    this.#channel = undefined;
    this.#events.state(undefined);
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const done of open) done();
  }

  async #pause(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#ctx.clock.after(RETRY_MS, resolve);
    const onAbort = () => resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    await promise;
    timer.cancel();
    signal.removeEventListener("abort", onAbort);
  }
}
