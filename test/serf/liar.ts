/**
 * Somebody on the segment who means harm: `bun liar.ts KIND ADDRESS [KEY]`. With the key of the cluster, without one, or with none at all. Prints how
 * much it sent and ends.
 */
import { Envelope } from "../../plugins/discovery-serf/wire/envelope.ts";
import { compoundOf } from "../../plugins/discovery-serf/wire/envelope.ts";
import { Keyring, parseKey } from "../../plugins/discovery-serf/wire/keyring.ts";
import { compress } from "../../plugins/discovery-serf/wire/lzw.ts";
import { type Encodable, ByteWriter } from "../../plugins/discovery-serf/wire/msgpack.ts";
import { MessageType, OWN_VSN } from "../../plugins/discovery-serf/wire/types.ts";

const [kind = "", address = "", keyText] = process.argv.slice(2);
const key = keyText === undefined ? undefined : parseKey(keyText);
const random = { bytes: (length: number) => crypto.getRandomValues(new Uint8Array(length)) };
const envelope = new Envelope({
  keyring: key === undefined ? undefined : new Keyring([key]),
  label: "",
  random,
});
const socket = await Bun.udpSocket({ socket: { data() {} } });
let sent = 0;

async function send(bytes: Uint8Array): Promise<void> {
  for (;;)
    try {
      if (socket.send(bytes, 7_946, address)) break;
      await Bun.sleep(1);
    } catch (error) {
      // A busy machine empties the queue of its own network late.
      if ((error as { code?: string }).code !== "ENOBUFS") throw error;
      await Bun.sleep(10);
    }
  // As fast as a node would look at them all, so that what it makes of them is seen and not its brake.
  if (++sent % 20 === 0) await Bun.sleep(10);
}

/** Through the envelope, whatever it holds. */
const packet = (message: Uint8Array) => send(envelope.sealPacket([message], false));

function stream(message: Uint8Array): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let rest = envelope.sealStream(message);
  const write = (far: { write(bytes: Uint8Array): number }) => {
    rest = rest.subarray(Math.max(0, far.write(rest)));
  };
  Bun.connect({
    hostname: address,
    port: 7_946,
    socket: {
      open: write,
      drain: write,
      data() {},
      close: () => resolve(),
      error: () => resolve(),
      connectError: () => resolve(),
    },
  }).catch(() => resolve());
  sent++;
  return Promise.race([promise, Bun.sleep(3_000)]);
}

const message = (type: number, fields: Encodable) => new ByteWriter().u8(type).value(fields).finish();
const node = (name: string, more: Record<string, Encodable> = {}) => ({
  Addr: Uint8Array.of(198, 51, 100, 1),
  Incarnation: 1,
  Meta: new Uint8Array(0),
  Port: 7_946,
  Vsn: Uint8Array.from(OWN_VSN),
  ...more,
  Node: name,
  Name: name,
  State: 0,
});
const alive = (name: string, more: Record<string, Encodable> = {}) =>
  message(MessageType.alive, node(name, more));
const compressed = (bytes: Uint8Array) => message(MessageType.compressed, { Algo: 0, Buf: compress(bytes) });
const state = (nodes: readonly Encodable[], count = nodes.length, user = new Uint8Array(0)) => {
  const writer = new ByteWriter()
    .u8(MessageType.pushPull)
    .value({ Join: true, Nodes: count, UserStateLen: user.length });
  for (const one of nodes) writer.value(one);
  return writer.bytes(user).finish();
};

const kinds: Readonly<Record<string, () => Promise<void>>> = {
  /** Names of nobody, each with as many tags as there may be. */
  async names() {
    for (let i = 0; i < 6_000; i++) await packet(alive(`liar-${i}`, { Meta: random.bytes(512) }));
    const many = Array.from({ length: 100_000 }, (_, i) => node(`crowd-${i}`));
    for (let from = 0; from < many.length; from += 20_000)
      await stream(state(many.slice(from, from + 20_000)));
  },
  async bombs() {
    const bomb = compressed(new Uint8Array(3_000_000));
    let nested: Uint8Array = alive("deep");
    for (let i = 0; i < 40; i++) nested = compoundOf([nested]);
    const fan = compoundOf(
      Array.from({ length: 255 }, () => compoundOf(Array.from({ length: 255 }, () => Uint8Array.of(0)))),
    );
    for (let i = 0; i < 300; i++) {
      await packet(bomb);
      await packet(nested);
      await send(envelope.keyring === undefined ? fan : envelope.sealPacket([fan], false));
    }
    const large = compressed(new Uint8Array(32_000_000));
    const twice = compressed(large);
    for (let i = 0; i < 10; i++) {
      await stream(large);
      await stream(twice);
      await stream(state([], 0xffff_ffff));
    }
  },
  async fields() {
    for (let i = 0; i < 200; i++) {
      await packet(alive("n".repeat(129)));
      await packet(alive("tags", { Meta: new Uint8Array(513) }));
      await packet(alive("foreign", { Vsn: Uint8Array.of(9, 9, 9, 9, 9, 9) }));
      await packet(alive("none", { Vsn: Uint8Array.of(0, 0, 0, 0, 0, 0) }));
      await packet(alive("nowhere", { Addr: Uint8Array.of(1, 2, 3) }));
      await packet(Uint8Array.of(MessageType.ack, 0xdf, 0xff, 0xff, 0xff, 0xff));
    }
    await stream(state([node("foreign", { Vsn: Uint8Array.of(9, 9, 9, 9, 9, 9) })]));
  },
  /** Says of the node itself that it is dead, and of all others that they are. */
  async deaths() {
    for (let i = 1; i < 400; i++)
      await packet(
        message(MessageType.dead, { Incarnation: i, Node: process.argv[5] ?? "DUN-A", From: "liar" }),
      );
  },
  /** Datagrams that no key opens. */
  async noise() {
    for (let i = 0; i < 3_000; i++) await send(random.bytes(1 + (i % 1_400)));
  },
  /** Streams that begin as sealed ones do and say no more: what begins otherwise is ended at once where there is a key. */
  async silence() {
    const sockets = [];
    for (let i = 0; i < 200; i++) {
      sent++;
      sockets.push(
        await Bun.connect({
          hostname: address,
          port: 7_946,
          socket: {
            open: (far) => void far.write(Uint8Array.of(MessageType.encrypted, 0, 0x10, 0, 0)),
            data() {},
          },
        }).catch(() => undefined),
      );
    }
    await Bun.sleep(1_000);
    for (const one of sockets) one?.terminate();
  },
};

const run = kinds[kind];
if (run === undefined) throw new Error(`it knows ${Object.keys(kinds).join(", ")}`);
await run();
socket.close();
console.log(sent);
process.exit(0);
