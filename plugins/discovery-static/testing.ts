/** A real name server on loopback for tests, over UDP and TCP on one port; what it says is a table that tests change. */
import { createSocket } from "node:dgram";
import { createServer, type Socket } from "node:net";
import { decode, encode, streamEncode, type Answer, type Packet } from "dns-packet";

export class NameServer {
  /** By `TYPE name`. */
  readonly records = new Map<string, Answer[]>();
  readonly asked: string[] = [];
  isSilent = false;
  /** UDP answers are cut, so that the asker comes again over TCP. */
  isCutting = false;
  readonly #udp = createSocket("udp4");
  readonly #sockets = new Set<Socket>();
  readonly #tcp = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("data", (bytes) => {
      const answer = this.#answer(Buffer.from(bytes).subarray(2));
      if (answer !== undefined) socket.write(streamEncode(answer));
    });
  });
  port = 0;

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#tcp.listen(0, "127.0.0.1", resolve));
    this.port = (this.#tcp.address() as { port: number }).port;
    this.#udp.on("message", (bytes, from) => {
      const answer = this.#answer(bytes);
      if (answer === undefined) return;
      const cut: Packet = { ...answer, flags: answer.flags | 0x0200, answers: [] };
      this.#udp.send(encode(this.isCutting ? cut : answer), from.port, from.address);
    });
    await new Promise<void>((resolve) => this.#udp.bind(this.port, "127.0.0.1", () => resolve()));
    return this;
  }

  close(): void {
    this.#udp.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#tcp.close();
  }

  set(type: "A" | "AAAA" | "SRV" | "TXT", name: string, ttl: number, ...data: unknown[]): void {
    this.records.set(
      `${type} ${name}`,
      data.map((one) => ({ type, name, ttl, class: "IN", data: one }) as Answer),
    );
  }

  #answer(bytes: Buffer): (Packet & { flags: number }) | undefined {
    const { id, questions = [] } = decode(bytes);
    const { type, name } = questions[0]!;
    this.asked.push(`${type} ${name}`);
    if (this.isSilent) return undefined;
    const answers = this.records.get(`${type} ${name}`) ?? [];
    return { id: id!, type: "response", flags: 0x8180, questions, answers };
  }
}
