/** What Godwit expects of every plugin that offers a radio to others of its node (docs/meshtastic.md, "The door"), beside what it expects of all that offer a service. */
import type { ServiceChannel } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import type { RadioPacket } from "../radio-door.ts";
import {
  type Check,
  demand,
  isGodwitError,
  quiet,
  register,
  type Runner,
  settled,
  type Subject,
  until,
} from "./check.ts";
import { onHost, type PluginSetup, succeeds } from "./lifecycle.ts";

export interface RadioSetup extends PluginSetup {
  /** The name that it offers within two seconds of its start, such as `radio.pi`. */
  readonly service: string;
  /** Brings it to where its radio hears, and may send unless it only listens; answers how to undo that. */
  prepare?(host: TestHost, step: () => void): Promise<() => void>;
  /** Its radio hears this. */
  hear(host: TestHost, packet: RadioPacket): void | Promise<void>;
  /** It has no radio to send with: whatever is sent is refused. Default false. */
  readonly listensOnly?: boolean;
}

const BROADCAST = 0xffff_ffff;
/** Private ones, and one that is the firmware's own affair. */
const [PORT, OTHER_PORT, ADMIN_PORT] = [300, 301, 6];
const SENDS = 4;
/** What may become of a packet. */
const OUTCOMES: readonly unknown[] = ["left", "refused", "expired", "unanswered", "stuck", "gone"];
const SOURCES: readonly unknown[] = ["serial", "tcp", "udp", "mqtt"];
const PROOFS: readonly unknown[] = ["key", "other", "unknown"];

interface Message {
  readonly json: Readonly<Record<string, unknown>>;
  readonly bytes: Uint8Array;
}

interface User {
  readonly channel: ServiceChannel;
  readonly messages: Message[];
  readonly closes: number;
}

interface Door {
  readonly host: TestHost;
  readonly setup: RadioSetup;
  readonly step: () => void;
  readonly used: ReturnType<ReturnType<TestHost["services"]["door"]>["use"]>;
  open(json: unknown): Promise<User>;
}

const onDoor =
  (body: (door: Door) => Promise<void>) =>
  (setup: RadioSetup): Promise<void> =>
    onHost(setup, async (host, step) => {
      const { services } = host;
      await until(() => services.offered.includes(setup.service), `it offers "${setup.service}"`, step);
      const undo = await setup.prepare?.(host, step);
      const stopping = new AbortController();
      const used = services.door("service.conformance", stopping.signal).use(setup.service);
      const open = async (json: unknown): Promise<User> => {
        const channel = await succeeds(used.openChannel("use", { json }), 'a channel for "use"', step);
        const user = { channel, messages: [] as Message[], closes: 0 };
        channel.open({
          message: ({ json: said, bytes }) =>
            void user.messages.push({ json: (said ?? {}) as Message["json"], bytes: bytes.slice() }),
          drain() {},
          closed: () => void user.closes++,
        });
        return user;
      };
      try {
        await body({ host, setup, step, used, open });
        const [error] = services.handlerErrors;
        demand(error === undefined, `a handler of a channel threw: ${String(error)}`);
      } finally {
        stopping.abort(new Error("the user has stopped"));
        undo?.();
      }
    });

const of = (user: User, t: string) => user.messages.filter(({ json }) => json["t"] === t);

const packetOf = (id: number, port: number | null, text: string): RadioPacket => ({
  ...{ from: 0x0a0b0c0d, to: BROADCAST, id, port },
  payload: new TextEncoder().encode(text),
});

function demandState(state: unknown, what: string): void {
  const it = (state ?? {}) as Readonly<Record<string, unknown>>;
  demand(it["version"] === 1, `${what} has no version 1`);
  for (const key of ["name", "where", "phase"])
    demand(typeof it[key] === "string", `${what} has no text "${key}"`);
  for (const [key, type] of [
    ["trouble", "string"],
    ["radio", "object"],
  ] as const)
    demand(it[key] === null || typeof it[key] === type, `"${key}" of ${what} is neither null nor a ${type}`);
  const airtime = (it["airtime"] ?? {}) as Readonly<Record<string, unknown>>;
  for (const key of ["utilisation", "hourMs", "hourMaxMs"])
    demand(typeof airtime[key] === "number", `"airtime.${key}" of ${what} is no number`);
}

const checkState = onDoor(async ({ used, step, open }) => {
  const { json } = await succeeds(used.request("state"), '"state"', step);
  demandState(json, 'what "state" answers');
  const user = await open({ version: 1, packets: [] });
  await until(() => user.messages.length > 0, "a user is told the state at once", step);
  demand(user.messages[0]!.json["t"] === "state", "what a user is told first is not the state");
  demandState(user.messages[0]!.json["state"], "the state that a user is told");
});

const checkOpenings = onDoor(async ({ used, step }) => {
  for (const json of [
    ...[undefined, 7, "all", {}, { version: 2, packets: "all" }, { version: 1 }],
    ...[
      { version: 1, packets: "some" },
      { version: 1, packets: [-1] },
      { version: 1, packets: ["1"] },
    ],
    { version: 1, packets: Array.from({ length: 17 }, (_, port) => port) },
  ]) {
    const end = await settled(used.openChannel("use", { json }), "an opening comes to an end", step);
    demand(!end.isFulfilled, `it takes an opening that is none: ${JSON.stringify(json)}`);
    const isRefused = isGodwitError(end.error) && end.error.code !== "GODWIT_PLUGIN_FAILED";
    demand(isRefused, `an opening that is none fails instead of being refused: ${JSON.stringify(json)}`);
  }
});

const checkPackets = onDoor(async ({ host, setup, step, open }) => {
  const some = await open({ version: 1, packets: [PORT] });
  const all = await open({ version: 1, packets: "all" });
  const raw = await open({ version: 1, packets: [PORT], raw: true });
  await setup.hear(host, packetOf(1, OTHER_PORT, "of another port"));
  await setup.hear(host, packetOf(2, null, "nobody can read this"));
  await setup.hear(host, packetOf(3, PORT, "of this port"));
  await until(() => of(all, "packet").length === 3, "whoever asks for all is told of each", step);
  await until(() => of(some, "packet").length > 0, "a packet of a port that was asked for", step);
  await quiet(step);
  const ids = (user: User) => of(user, "packet").map(({ json }) => json["id"]);
  demand(
    ids(some).join() === "3",
    `a user of one port is told of packets ${ids(some).join()}, not of 3 alone`,
  );
  const [packet] = of(some, "packet");
  demand(new TextDecoder().decode(packet!.bytes) === "of this port", "the bytes are not the payload");
  const unread = of(all, "packet").find(({ json }) => json["id"] === 2);
  demand(unread?.json["port"] === null, "the port of a packet that nobody can read is not null");
  for (const { json } of of(all, "packet")) {
    for (const key of ["from", "to", "id", "hopLimit", "hopStart", "transport"])
      demand(typeof json[key] === "number", `"${key}" of a packet is no number`);
    for (const key of ["viaMqtt", "isPki"])
      demand(typeof json[key] === "boolean", `"${key}" of a packet does not say yes or no`);
    demand(SOURCES.includes(json["source"]), "a packet does not say its source");
    demand(PROOFS.includes(json["numberProof"]), "a packet does not say what its sender's number is worth");
  }
  await until(() => of(raw, "packet").length === 1, "a packet as the radio has it", step);
  demand(of(raw, "packet")[0]!.bytes.length > packet!.bytes.length, "raw bytes are not the whole packet");
});

const send = (tag: number, port = PORT) => ({
  ...{ t: "send", tag, port, to: BROADCAST, channel: 0, hopLimit: 0, rank: 1, isSealed: true },
  lifetimeMs: 600_000,
});

const checkSends = onDoor(async ({ setup, step, open }) => {
  const [user, other] = [await open({ version: 1, packets: [] }), await open({ version: 1, packets: [] })];
  for (let tag = 1; tag <= SENDS; tag++) user.channel.send({ json: send(tag), bytes: Uint8Array.of(tag) });
  await until(() => of(user, "done").length >= SENDS, "each packet is told what became of it", step);
  await quiet(step);
  const tags = of(user, "done").map(({ json }) => Number(json["tag"]));
  demand(
    tags.toSorted((a, b) => a - b).join() === "1,2,3,4",
    `of packets 1 to ${SENDS} these are done: ${tags.join()}`,
  );
  for (const { json } of of(user, "done")) {
    demand(OUTCOMES.includes(json["outcome"]), `an outcome that is none: ${String(json["outcome"])}`);
    const isRight = (json["outcome"] === "refused") === (setup.listensOnly === true);
    demand(
      isRight,
      setup.listensOnly === true ? "a source that only listens sends" : "what may be sent is refused",
    );
  }
  demand(of(other, "done").length === 0, "a user is told what became of another's packets");
});

const checkRefusals = onDoor(async ({ step, open }) => {
  const user = await open({ version: 1, packets: [] });
  for (const json of [null, 7, [], {}, { t: "send" }, { ...send(1), to: -1 }, { ...send(2), port: "300" }])
    user.channel.send({ json, bytes: new Uint8Array(8) });
  user.channel.send({ json: send(9, ADMIN_PORT), bytes: new Uint8Array(8) });
  await until(() => of(user, "done").length > 0, "a packet to the device's own ports is refused", step);
  await quiet(step);
  const done = of(user, "done").map(({ json }) => json);
  demand(
    done.length === 1 && done[0]!["tag"] === 9 && done[0]!["outcome"] === "refused",
    `of what is none and of one to the device's own ports it says: ${JSON.stringify(done)}`,
  );
  demand(user.closes === 0, "a user is cut off for what it said");
});

export const radioChecks: readonly Check<RadioSetup>[] = [
  { name: "what the radio is, asked and told at once", run: checkState },
  { name: "openings that are none are refused", run: checkOpenings },
  {
    name: "each user is told of the packets that it asked for, with where they came from",
    run: checkPackets,
  },
  { name: "each packet of a user is told what became of it, once, and nobody else", run: checkSends },
  { name: "what is none, and what is the device's own affair, is refused", run: checkRefusals },
];

/** Registers the suite with bun:test, or with the runner given. Beside `providerConformance`. */
export const radioConformance = (subject: Subject<RadioSetup>, runner?: Runner): void =>
  register("radio conformance", radioChecks, subject, runner);
