import { afterEach, expect, test } from "bun:test";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { type Incoming, RequestParser } from "./incoming.ts";
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
async function serve(text: string | Buffer, mayTake: (requests: readonly Incoming[]) => boolean) {
  const requests: Incoming[] = [];
  const made = Promise.withResolvers<Intake>();
  const net = createServer({ allowHalfOpen: true }, (socket) => {
    closing.push(socket);
    const parser = new RequestParser((incoming) => {
      requests.push(incoming);
      intake.bodyFollows(incoming.declaredBytes);
    });
    const intake = new Intake(socket, {
      room: () => (mayTake(requests) ? 16_384 : 0),
      parse: (piece) => void parser.take(piece),
      finish: () => void parser.finish(),
    });
    made.resolve(intake);
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
  const wants = ([first]: readonly Incoming[]) => first === undefined || first.waitingBytes < 10_000;
  const { requests, intake, client } = await serve(
    Buffer.concat([Buffer.from(head), Buffer.alloc(bytes, 97)]),
    wants,
  );
  await until(() => (requests[0]?.waitingBytes ?? 0) >= 10_000);
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
  const incoming = requests[0]!;
  expect(incoming.waitingBytes).toBeLessThan(10_000 + 16_384);
  incoming.onRead = () => intake.take();
  client.end();
  let total = 0;
  for (let part = await incoming.read(); part !== undefined; part = await incoming.read())
    total += part.length;
  expect(total).toBe(bytes);
  await until(() => intake.isOver);
});

test("requests that come behind a body are not made by the hundred, though a body is taken in larger pieces", async () => {
  for (const [bytes, before] of [
    [20_000, 0],
    [20_000, 1_000],
    [40_000, 1_900],
    [16_384, 2_040],
    [1, 0],
  ] as const) {
    const head = `POST / HTTP/1.1\r\nX: ${"x".repeat(before)}\r\nContent-Length: ${bytes}\r\n\r\n`;
    let turns = 0;
    const least: number[] = [];
    const { requests } = await serve(head + "a".repeat(bytes) + GET.repeat(2_000), (made) => {
      const [first] = made;
      first?.drop();
      if (first?.isWhole === true && turns++ < 3) least.push(made.length);
      return true;
    });
    await until(() => requests.length === 2_001);
    expect(requests[0]!.isWhole).toBe(true);
    // What came in one piece with the end of the body, and the two pieces behind that.
    for (const [index, made] of least.entries())
      expect(made).toBeLessThan(2 + (index + 1) * Math.ceil(2_048 / GET.length));
  }
});
