import { afterEach, expect, test } from "bun:test";
import { createServer as createHttpServer, type IncomingMessage } from "node:http";
import {
  connect,
  createServer as createNetServer,
  type AddressInfo,
  type Server,
  type Socket,
} from "node:net";
import { Intake } from "./intake.ts";

let closing: (Server | Socket)[] = [];
afterEach(() => {
  for (const one of closing) {
    if ("close" in one) one.close();
    else one.destroy();
  }
  closing = [];
});

/** Says `text` to a server that takes more while it `mayTake`; answers what came of it. */
async function serve(text: string | Buffer, mayTake: (requests: readonly IncomingMessage[]) => boolean) {
  const requests: IncomingMessage[] = [];
  const http = createHttpServer((incoming) => void requests.push(incoming));
  const made = Promise.withResolvers<Intake>();
  const net = createNetServer({ allowHalfOpen: true }, (socket) => {
    closing.push(socket);
    made.resolve(
      new Intake(
        socket,
        () => http.emit("connection", socket),
        () => mayTake(requests),
      ),
    );
  });
  closing.push(net);
  await new Promise<void>((resolve) => net.listen(0, "127.0.0.1", resolve));
  const client = connect((net.address() as AddressInfo).port, "127.0.0.1");
  closing.push(client);
  client.write(text);
  return { requests, intake: await made.promise, client };
}

const until = async (isSo: () => boolean) => {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
};
const GET = "GET / HTTP/1.1\r\n\r\n";

test("thousands of requests in one piece are not made before those in front of them are answered", async () => {
  let most = 16;
  const { requests, intake, client } = await serve(GET.repeat(20_000), ({ length }) => length < most);
  await until(() => requests.length >= 16);
  // Whatever else was on its way has come.
  await until(() => client.writableLength === 0);
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
  expect(requests.length).toBeLessThan(16 + 2_048 / GET.length + 1);
  most = 5_000;
  intake.take();
  await until(() => requests.length >= 5_000);
  most = Number.POSITIVE_INFINITY;
  intake.take();
  await until(() => requests.length === 20_000);
  expect(intake.isOver).toBe(false);
  client.end();
  await until(() => intake.isOver);
});

test("a body is taken as far as it is wanted, and all of it arrives", async () => {
  const bytes = 2 ** 22;
  const head = `POST / HTTP/1.1\r\nContent-Length: ${bytes}\r\n\r\n`;
  const wants = ([first]: readonly IncomingMessage[]) => first === undefined || first.readableLength < 10_000;
  const { requests, intake, client } = await serve(
    Buffer.concat([Buffer.from(head), Buffer.alloc(bytes, 97)]),
    wants,
  );
  await until(() => (requests[0]?.readableLength ?? 0) >= 10_000);
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
  const incoming = requests[0]!;
  expect(incoming.readableLength).toBeLessThan(10_000 + 2_048);
  const read = incoming.read.bind(incoming);
  incoming.read = (size?: number) => {
    const part: unknown = read(size);
    intake.take();
    return part;
  };
  client.end();
  let total = 0;
  for await (const part of incoming as AsyncIterable<Buffer>) total += part.length;
  expect(total).toBe(bytes);
  await until(() => intake.isOver);
});
