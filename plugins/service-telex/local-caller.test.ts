import { expect, test } from "bun:test";
import type { Socket } from "bun";
import { userOfCaller } from "./local-caller.ts";

/** A caller over loopback, as the listener sees it; `to` is the address that it dialled. */
async function caller(hostname: string, to: string) {
  const accepted = Promise.withResolvers<Socket>();
  const server = Bun.listen({
    hostname,
    port: 0,
    socket: { open: (socket) => accepted.resolve(socket), data() {} },
  });
  const client = await Bun.connect({ hostname: to, port: server.port, socket: { data() {} } });
  const { remoteAddress, remotePort, localAddress, localPort } = await accepted.promise;
  const close = () => {
    client.terminate();
    server.stop(true);
  };
  const ends = {
    callerAddress: remoteAddress,
    callerPort: remotePort,
    ownAddress: localAddress,
    ownPort: localPort,
  };
  return { ends, close };
}

test.each([
  ["127.0.0.1", "127.0.0.1"],
  ["127.0.0.9", "127.0.0.9"],
  ["::1", "::1"],
  ["127.0.0.1", "::ffff:127.0.0.1"],
])("the user of a caller to %s, dialled as %s, is found", async (hostname, to) => {
  const { ends, close } = await caller(hostname, to);
  try {
    expect(userOfCaller(ends)).toBe(process.getuid!());
    expect(userOfCaller({ ...ends, callerPort: 1 })).toBeUndefined();
  } finally {
    close();
  }
});

test("a caller that has hung up already, whose socket the kernel shows as root's, is nobody", () => {
  const row = (inode: string, uid: string) =>
    `   0: 0100007F:9C40 0100007F:1F57 05 00000000:00000000 00:00000000 00000000  ${uid}        0 ${inode} 1`;
  const ends = { callerAddress: "127.0.0.1", callerPort: 40_000, ownAddress: "127.0.0.1", ownPort: 8_023 };
  const look = (text: string) => userOfCaller(ends, (path) => (path.endsWith("tcp") ? text : ""));
  expect(look(row("0", "0"))).toBeUndefined();
  expect(look(`${row("0", "0")}\n${row("77", "1000")}`)).toBe(1_000);
  expect(look("")).toBeUndefined();
});
