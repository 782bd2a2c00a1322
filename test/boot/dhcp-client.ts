/**
 * PID 1's DHCP client on one interface of a namespace, with its real socket and real addresses, and a clock that goes on only
 * when the test says so: a lease of minutes is over in a moment, and nothing hangs on how fast the machine is.
 * Arguments: interface. Reads lines `advance MS` and `release`; says what it does, one line each.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { formatIp, Rtnetlink } from "@godwit/sdk/netlink";
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from "../../runtime/init/dhcp.ts";
import { DhcpClient, type Lease } from "../../runtime/init/dhcp-client.ts";
import { openSys } from "../../runtime/init/sys.ts";
import { ManualClock, systemClock } from "../../runtime/kernel/clock.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";

const LOOK_MS = 10;
const BROADCAST = [255, 255, 255, 255];

const device = process.argv[2]!;
const read = (file: string) => readFileSync(`/sys/class/net/${device}/${file}`, "utf8").trim();
const index = Number(read("ifindex"));
const mac = Uint8Array.from(read("address").split(":"), (part) => Number.parseInt(part, 16));
const say = (line: string) => process.stdout.write(`${line}\n`);

const clock = new ManualClock();
const socket = openSys().openDeviceSocket(device, DHCP_CLIENT_PORT);
const rtnetlink = new Rtnetlink(systemClock);
let held: Lease | undefined;
let work = Promise.resolve();

async function take(lease: Lease | undefined): Promise<void> {
  const before = held;
  held = lease;
  if (before !== undefined && (lease === undefined || formatIp(before.address) !== formatIp(lease.address)))
    await rtnetlink.deleteAddress({ index, ...before });
  if (lease !== undefined) await rtnetlink.addAddress({ index, ...lease });
  say(lease === undefined ? "over" : `lease ${formatIp(lease.address)} of ${formatIp(lease.server!)}`);
}

const client = new DhcpClient({
  clock,
  random: systemRandom,
  mac,
  hostname: "probe",
  send(message, to) {
    const target = to === "broadcast" ? BROADCAST : [...to];
    say(`sends ${client.state} ${target.join(".")}`);
    try {
      socket.send(message, target, DHCP_SERVER_PORT);
    } catch (error) {
      say(`not sent: ${String(error)}`);
    }
  },
  onLease(lease) {
    work = work.then(() => take(lease));
  },
});
setInterval(() => {
  for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive())
    client.receive(datagram);
}, LOOK_MS);
client.start();

for await (const line of createInterface(process.stdin)) {
  const [word, ms] = line.split(" ");
  if (word === "advance") await clock.advance(Number(ms));
  if (word === "release") client.release();
  await work;
  say(`did ${line}`);
}
process.exit(0);
