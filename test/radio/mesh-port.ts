/**
 * The radio of a simulated node as a real one has it: the plugins service.radio and transport.meshtastic as they are, with an emulated radio on their cable,
 * in virtual time. Says of each packet that they hand over what it is for.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { Mesh } from "@meshtastic/protobufs";
import type { Medium, Pipe, PipeHandlers, Urgency } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import { FakeServices, type ManualClock, TestHost } from "@godwit/sdk/testkit";
import { radioPlugin } from "../../plugins/service-radio/index.ts";
import type { OpenWire } from "../../plugins/service-radio/wire.ts";
import meshtastic from "../../plugins/transport-meshtastic/index.ts";
import { decodePacket } from "../../plugins/transport-meshtastic/wire.ts";
import { godwitError } from "../../runtime/kernel/errors.ts";
import type { Watcher } from "../sim/radio/airtime.ts";
import type { Share } from "../sim/radio/channel.ts";
import type { LifePort, PortParts } from "../sim/radio/life.ts";
import type { EmulatedRadio } from "./radio.ts";
import { frameMessage, MessageReader } from "./stream.ts";

/** Datagrams that are known until they are handed over. */
const WRITTEN_MAX = 4_096;
const NAME = "pi";

/** One datagram, whatever its pipe says of it. */
export interface Written {
  readonly shares: readonly Share[];
  /** It has left, or never will. */
  readonly left: () => void;
  /** Of the packet that it became, once that is in the radio's hands. */
  id: number | undefined;
}

const unwritten = (kind: string): Written => ({ shares: [{ kind, part: 1 }], left: () => {}, id: undefined });

export interface MeshPortOptions extends PortParts {
  readonly radio: EmulatedRadio;
  readonly channel: string;
  /** Percent of all time. */
  readonly airtimePercent: number;
  /** A packet of that id was handed to the radio. */
  readonly handed: (id: number, written: Written) => void;
}

export const schemeOf = "meshtastic";
export const endpointOf = (radio: EmulatedRadio): string =>
  `${schemeOf}://${radio.number.toString(16).padStart(8, "0")}`;

export class MeshPort implements LifePort {
  readonly scheme = schemeOf;
  readonly service: TestHost;
  readonly transport: TestHost;
  readonly #options: MeshPortOptions;
  /** By what a datagram says; oldest first. */
  readonly #written = new BoundedMap<string, Written[]>({ name: "datagrams of a port", max: WRITTEN_MAX });
  #medium: Medium | undefined;
  #isOver = false;
  #data: (bytes: Uint8Array) => void = () => {};

  constructor(options: MeshPortOptions) {
    this.#options = options;
    const services = new FakeServices();
    // Of a manual clock they use what every clock has.
    const clock = options.clock as ManualClock;
    const shared = { clock, random: options.random, services };
    this.service = new TestHost(
      radioPlugin(() => this.#open),
      { ...shared, instance: NAME },
    );
    this.transport = new TestHost(meshtastic, { ...shared, instance: "lora" });
    this.transport.onScreen = options.screen;
    this.transport.onPipe = (pipe) => options.accept(this.#watched(pipe));
    void this.service.start({ connect: "serial:/dev/ttyUSB0" });
    const { channel, airtimePercent } = options;
    void this.transport.start({ radio: NAME, channel, airtime_percent: airtimePercent });
  }

  get endpoint(): string {
    return endpointOf(this.#options.radio);
  }

  async dial(endpoint: string, signal: AbortSignal): Promise<Pipe> {
    const { driver } = this.transport;
    if (driver === undefined) throw godwitError("GODWIT_DIAL_FAILED", "the transport does not run");
    return this.#watched(await driver.dial(endpoint, signal));
  }

  /** The transport registers anew whenever its radio is another one, or has another channel. */
  listen(open: (medium: Medium) => void): void {
    const look = () => {
      if (this.#isOver) return;
      const medium = this.transport.driver?.medium;
      if (medium !== undefined && medium !== this.#medium) open((this.#medium = medium));
      this.#options.clock.after(1_000, look);
    };
    look();
  }

  /** As if its radio had said this message. */
  readonly inject = (message: Uint8Array): void =>
    this.#options.dispatch(() => this.#data(frameMessage(message)));

  end(): void {
    this.#isOver = true;
    void this.transport.stop();
    void this.service.stop();
  }

  /** The cable: what comes is the life's, what goes is looked at. */
  readonly #open: OpenWire = (handlers, signal) => {
    signal.throwIfAborted();
    const { radio, dispatch } = this.#options;
    this.#data = (bytes) => handlers.data(bytes);
    const wire = radio.attach({
      data: (bytes) => dispatch(() => handlers.data(bytes)),
      closed: (why) => dispatch(() => handlers.closed(why)),
    });
    const reader = new MessageReader((message) => this.#onMessage(message), "within");
    return Promise.resolve({
      write: (bytes: Uint8Array) => {
        reader.push(bytes);
        wire.write(bytes);
      },
      close: () => wire.close(),
    });
  };

  #onMessage(message: Uint8Array): void {
    const { payloadVariant } = fromBinary(Mesh.ToRadioSchema, message);
    if (payloadVariant.case !== "packet") return;
    const { id, payloadVariant: carried } = payloadVariant.value;
    if (carried.case !== "decoded") return;
    const packet = decodePacket(carried.value.payload);
    this.#options.handed(id, this.#take(packet));
  }

  #take(packet: ReturnType<typeof decodePacket>): Written {
    if (packet?.head.kind === "all") return unwritten("beacons");
    const name = nameOf(packet?.body ?? new Uint8Array(0));
    const copies = this.#written.get(name);
    if (copies !== undefined && copies.length <= 1) this.#written.delete(name);
    // What answers a stranger no pipe has written.
    return copies?.shift() ?? unwritten("handshakes");
  }

  #watched(pipe: Pipe): Pipe {
    return new WatchedPipe(pipe, this.#options.watcher, {
      written: (bytes, written) => {
        const name = nameOf(bytes);
        this.#written.renew(name, [...(this.#written.get(name) ?? []), written]);
      },
      // What the radio had, and neither has nor has sent, is lost: it counts as left from now on. What was not handed over waits, whatever the pipe says.
      told: (written) => {
        const { radio } = this.#options;
        if (written.id !== undefined && !radio.transmitter.has(radio.number, written.id)) written.left();
      },
    });
  }
}

const nameOf = (bytes: Uint8Array): string => `${Bun.hash(bytes)}`;

interface PipeEvents {
  written(bytes: Uint8Array, written: Written): void;
  /** The pipe says that it has left. */
  told(written: Written): void;
}

/** The pipe that it is given, and what is written to it is looked at. */
class WatchedPipe implements Pipe {
  readonly #pipe: Pipe;
  readonly #watcher: Watcher;
  readonly #events: PipeEvents;
  /** Oldest first. */
  readonly #untold: Written[] = [];

  constructor(pipe: Pipe, watcher: Watcher, events: PipeEvents) {
    this.#pipe = pipe;
    this.#watcher = watcher;
    this.#events = events;
  }

  get kind() {
    return this.#pipe.kind;
  }
  get direction() {
    return this.#pipe.direction;
  }
  get remote() {
    return this.#pipe.remote;
  }
  get local() {
    return this.#pipe.local;
  }
  get linkClass() {
    return this.#pipe.linkClass;
  }
  get medium() {
    return this.#pipe.medium!;
  }
  get answerMs() {
    return this.#pipe.answerMs!;
  }
  get rateBitsPerSecond() {
    return this.#pipe.rateBitsPerSecond;
  }
  get mtu() {
    return this.#pipe.mtu;
  }
  get bufferedBytes() {
    return this.#pipe.bufferedBytes;
  }

  open(handlers: PipeHandlers): void {
    this.#pipe.open({
      data: (bytes) => handlers.data(bytes),
      drain: () => handlers.drain(),
      left: (at = 0) => {
        const [written] = this.#untold.splice(at, 1);
        if (written !== undefined) this.#events.told(written);
        handlers.left?.(at);
      },
      closed: (error) => handlers.closed(error),
    });
  }

  write(bytes: Uint8Array, urgency?: Urgency): boolean {
    const { shares, left } = this.#watcher.written(this, bytes);
    const written: Written = { shares, left: once(left), id: undefined };
    this.#events.written(bytes, written);
    this.#untold.push(written);
    return this.#pipe.write(bytes, urgency);
  }

  pause(isPaused: boolean): void {
    this.#pipe.pause(isPaused);
  }

  close(): void {
    this.#pipe.close();
  }
}

function once(fn: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) fn();
    isDone = true;
  };
}
