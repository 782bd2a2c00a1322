/** Every check of radios is shown one that breaks it, and none objects to one that is as it should be. */
import { describe, expect, test } from "bun:test";
import { definePlugin, type ServiceChannel } from "../src/index.ts";
import { schemaOf } from "./broken.ts";
import { verdict } from "./broken-verdict.ts";
import { FakeRadioDoor, radioChecks, type RadioSetup } from "./index.ts";

type Tell = (channel: ServiceChannel, json: Record<string, unknown>, bytes?: Uint8Array) => void;

/** Tells something else than it should. */
const telling = (change: (tell: Tell, ...told: Parameters<Tell>) => void) =>
  class extends FakeRadioDoor {
    protected override tell(channel: ServiceChannel, json: unknown, bytes?: Uint8Array): void {
      change((...told) => super.tell(...told), channel, json as Record<string, unknown>, bytes);
    }
  };

const setup =
  (Door: new () => FakeRadioDoor = FakeRadioDoor, more: Partial<RadioSetup> = {}) =>
  (): RadioSetup => {
    const door = new Door();
    const plugin = definePlugin({
      id: "radio",
      namespace: "service",
      sdk: "^0.1.0",
      permissions: ["service.offer:radio.test"],
      config: schemaOf([]),
      start: (ctx) => ctx.services.offer("radio.test", door),
    });
    return { plugin, config: {}, service: "radio.test", hear: (_, packet) => door.hear(packet), ...more };
  };

describe("nothing is wrong with a correct one", () => {
  test.each(radioChecks.map(({ name }) => name))("%s", async (name) => {
    expect(await verdict(radioChecks, name, { name: "x", setup: setup() })).toBe("passes");
  });
});

const broken: readonly (readonly [
  what: string,
  name: string,
  says: string,
  Door: new () => FakeRadioDoor,
])[] = [
  [
    "a state of another version",
    "what the radio is",
    "has no version 1",
    class extends FakeRadioDoor {
      override state() {
        return { ...super.state(), version: 2 };
      }
    },
  ],
  [
    "silence at the start",
    "what the radio is",
    "is told the state at once",
    telling((tell, channel, json, bytes) => {
      if (json["t"] !== "state") tell(channel, json, bytes);
    }),
  ],
  [
    "any opening taken",
    "openings that are none",
    "takes an opening that is none",
    class extends FakeRadioDoor {
      override channel(channel: ServiceChannel) {
        channel.open({ message() {}, drain() {}, closed() {} });
      }
    },
  ],
  [
    "all packets for everybody",
    "each user is told of the packets",
    "is told of packets 1,2,3",
    class extends FakeRadioDoor {
      protected override wants() {
        return true;
      }
    },
  ],
  [
    "nothing that is encrypted",
    "each user is told of the packets",
    "whoever asks for all is told of each",
    class extends FakeRadioDoor {
      protected override wants(ports: "all" | readonly number[], port: number | null) {
        return port !== null && super.wants(ports, port);
      }
    },
  ],
  [
    "no source",
    "each user is told of the packets",
    "does not say its source",
    telling((tell, channel, json, bytes) => tell(channel, { ...json, source: null }, bytes)),
  ],
  [
    "no word of what became of a packet",
    "each packet of a user",
    "each packet is told what became of it",
    telling((tell, channel, json, bytes) => {
      if (json["t"] !== "done") tell(channel, json, bytes);
    }),
  ],
  [
    "the same word twice",
    "each packet of a user",
    "of packets 1 to 4 these are done: 1,1,",
    telling((tell, channel, json, bytes) => {
      tell(channel, json, bytes);
      if (json["t"] === "done") tell(channel, json, bytes);
    }),
  ],
  [
    "another outcome",
    "each packet of a user",
    "an outcome that is none: delivered",
    telling((tell, channel, json, bytes) =>
      tell(channel, json["t"] === "done" ? { ...json, outcome: "delivered" } : json, bytes),
    ),
  ],
  [
    "the device's own ports open",
    "what is none, and what is the device's own",
    '"outcome":"left"',
    telling((tell, channel, json, bytes) =>
      tell(channel, json["t"] === "done" ? { ...json, outcome: "left" } : json, bytes),
    ),
  ],
  [
    "a throw at what is none",
    "what is none, and what is the device's own",
    "within 2 s",
    class extends FakeRadioDoor {
      protected override onMessage(channel: ServiceChannel, json: unknown, bytes: Uint8Array) {
        if (json === null) throw new TypeError("null");
        super.onMessage(channel, json, bytes);
      }
    },
  ],
];

describe("is caught:", () => {
  test.concurrent.each(broken)("%s", async (_, name, says, Door) => {
    const check = radioChecks.find((one) => one.name.startsWith(name))!;
    expect(await verdict(radioChecks, check.name, { name: "x", setup: setup(Door) })).toContain(says);
  });

  test("one that sends although it only listens", async () => {
    const check = radioChecks.find((one) => one.name.startsWith("each packet of a user"))!;
    const subject = { name: "x", setup: setup(FakeRadioDoor, { listensOnly: true }) };
    expect(await verdict(radioChecks, check.name, subject)).toContain("a source that only listens sends");
  });
});
