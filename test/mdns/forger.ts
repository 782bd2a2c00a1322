/**
 * A liar on the LAN, as a process of a namespace: forged senders, each an address of this host, that announce nodes which nobody is, forge what an
 * honest one said, and send what is no multicast DNS at all. Prints a line when each sender has spoken once; ends with its standard input.
 *
 * usage: forger.ts FIRST SENDERS INSTANCES_EACH OFF_LINK
 */
import { createSocket, type Socket } from "node:dgram";
import { encode, type Answer } from "dns-packet";
import { recordsOf, SERVICES } from "../../plugins/discovery-mdns/records.ts";

const GROUP = "224.0.0.251";
const PORT = 5_353;
/** Of one packet: below the records that are looked at. */
const INSTANCES_A_PACKET = 20;
const ROUND_MS = 50;

const [first = "", senders = "0", each = "0", offLink = ""] = process.argv.slice(2);
const prefix = first.replace(/\d+$/, "");
const from = Number(first.slice(prefix.length));

function open(address: string, port = PORT, by = address): Promise<Socket> {
  const socket = createSocket({ type: "udp4", reuseAddr: true });
  return new Promise((resolve) =>
    socket.bind({ port, address }, () => {
      socket.setMulticastInterface(by);
      socket.setMulticastTTL(255);
      resolve(socket);
    }),
  );
}

const response = (answers: Answer[]): Buffer => encode({ type: "response", flags: 0x0400, answers });
const NIBBLES = "abcdefghijklmnop";
const idOf = (number: number): string =>
  `${Array.from({ length: 8 }, (_, i) => NIBBLES[(number >> (4 * i)) & 15])
    .join("")
    .padStart(51, "b")}a`;

function lies(sender: number, packet: number): Buffer {
  const answers: Answer[] = [];
  for (let i = 0; i < INSTANCES_A_PACKET; i++) {
    const number = sender * Number(each) + ((packet * INSTANCES_A_PACKET + i) % Number(each));
    const instance = `liar-${number}.${SERVICES[0]!.type}`;
    const port = 1_024 + (number % 60_000);
    answers.push(
      { type: "PTR", name: SERVICES[0]!.type, ttl: 4_500, data: instance },
      {
        type: "SRV",
        name: instance,
        ttl: 120,
        data: { priority: 0, weight: 0, port, target: `l${sender}.local` },
      },
      { type: "TXT", name: instance, ttl: 4_500, data: [`id=${idOf(number)}`] },
    );
  }
  answers.push({ type: "A", name: `l${sender}.local`, ttl: 120, data: `${prefix}${from + sender}` });
  return response(answers);
}

/** What must cost nothing but a count. */
function nonsense(): Buffer[] {
  const header = (records: number) => {
    const bytes = Buffer.alloc(12);
    bytes.writeUInt16BE(0x8400, 2);
    bytes.writeUInt16BE(records, 6);
    return bytes;
  };
  const bigText = response([
    {
      type: "TXT",
      name: `big.${SERVICES[0]!.type}`,
      ttl: 4_500,
      data: Array.from({ length: 250 }, () => Buffer.alloc(255)),
    },
  ]);
  return [
    bigText,
    // A name that points at itself, and two that point at each other.
    Buffer.concat([header(1), Buffer.from([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 1, 0, 0])]),
    Buffer.concat([header(1), Buffer.from([0xc0, 14, 0xc0, 12, 0, 12, 0, 1])]),
    Buffer.concat([header(65_535), Buffer.alloc(600)]),
    Buffer.from([0]),
    Buffer.alloc(0),
    Buffer.concat([header(3), crypto.getRandomValues(Buffer.alloc(400))]),
  ];
}

const sockets: Socket[] = [];
for (let i = 0; i < Number(senders); i++) sockets.push(await open(`${prefix}${from + i}`));
const [stranger, elsewhere] = [await open(`${prefix}${from}`, 0), await open(offLink)];
const send = (socket: Socket, bytes: Buffer) => socket.send(bytes, PORT, GROUP, () => {});
/** Whatever of others is heard is said again by a liar, to be gone and to be elsewhere. */
const listener = await open(GROUP, PORT, first);
listener.addMembership(GROUP, first);
let echoedAtMs = 0;
listener.on("message", (bytes) => {
  // It hears itself too.
  if (performance.now() - echoedAtMs < ROUND_MS) return;
  const heard = bytes.toString("latin1");
  const id = /id=([a-z2-7]{52})/.exec(heard)?.[1];
  if (id === undefined || id.startsWith("bb")) return;
  echoedAtMs = performance.now();
  const speaker = { id, callsign: undefined, protocols: { min: 1, max: 1 } };
  const offers = [{ service: SERVICES[0]!, port: 1 }];
  const records = recordsOf({ speaker, offers, addresses: [first] });
  send(sockets[1]!, response(records));
  send(sockets[2]!, response(records.map((record) => ({ ...record, ttl: 0 }) as Answer)));
});

let round = 0;
const timer = setInterval(() => {
  // Each round every tenth sender: ten datagrams, two hundred a second, more than is taken of all.
  for (let i = round % 10; i < sockets.length; i += 10) send(sockets[i]!, lies(i, Math.floor(round / 10)));
  for (const bytes of nonsense()) send(sockets[0]!, bytes);
  send(stranger, lies(0, round));
  send(elsewhere, lies(0, round));
  if (++round === 10) console.log("all have spoken");
}, ROUND_MS);

for await (const _ of process.stdin) {
  // Its end is the end.
}
clearInterval(timer);
for (const socket of [...sockets, stranger, elsewhere, listener]) socket.close();
