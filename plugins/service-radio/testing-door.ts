/** The plugin in a test host, and a user of its door that keeps what it is told. */
import { FakeHostNetwork, FakeServices, TestHost } from "@godwit/sdk/testkit";
import radio from "./index.ts";
import { until } from "./testing.ts";

export interface HeardPacket {
  readonly t: string;
  readonly [key: string]: unknown;
  readonly bytes: Uint8Array;
}

const LOOPBACK = {
  address: "127.0.0.1",
  family: 4,
  prefixLength: 8,
  interface: "lo",
  scope: "host",
  isAdvertisable: false,
} as const;

export class DoorBench {
  readonly host: TestHost;
  readonly network = new FakeHostNetwork();
  readonly packets: HeardPacket[] = [];
  readonly others: Readonly<Record<string, unknown>>[] = [];
  readonly #services = new FakeServices();
  readonly #stopped = new AbortController();
  #send: (json: unknown) => void = () => {};

  constructor() {
    this.network.set([LOOPBACK]);
    this.host = new TestHost(radio, { services: this.#services, network: this.network });
  }

  /** With a user that is told of all packets, as the radio's own messages. */
  async start(table: Readonly<Record<string, unknown>>): Promise<void> {
    await this.host.start(table);
    const used = this.#services.door("service.user", this.#stopped.signal).use("radio.test");
    const channel = await used.openChannel("use", { json: { version: 1, packets: "all", raw: true } });
    this.#send = (json) => void channel.send({ json });
    channel.open({
      message: ({ json, bytes }) => {
        const message = json as HeardPacket;
        if (message.t === "packet") this.packets.push({ ...message, bytes: bytes.slice() });
        else this.others.push(message);
      },
      drain: () => {},
      closed: () => {},
    });
  }

  say(json: unknown): void {
    this.#send(json);
  }

  /** Moves the clock while it waits. */
  async until(isTrue: () => boolean, what: string): Promise<void> {
    await until(
      isTrue,
      () => `${what}: ${JSON.stringify(this.host.health.at(-1))} ${JSON.stringify([...this.host.counters])}`,
      () => this.host.clock.advance(5),
    );
  }

  get isListening(): boolean {
    return this.host.health.at(-1)?.state === "running";
  }

  count(name: string): number {
    return this.host.counters.get(name) ?? 0;
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.host.stop();
  }
}
