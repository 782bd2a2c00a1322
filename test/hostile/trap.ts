/**
 * `trap ADDRESS...`: a service of somebody else that must not be called. Listens on each address at a port that the kernel chooses, says the
 * ports in one line of JSON, then for each connection where it came in and what was said first. Ends with its standard input.
 */
import process from "node:process";

const ports = process.argv.slice(2).map((at) => {
  const listener = Bun.listen({
    hostname: at,
    port: 0,
    socket: {
      open: () => say({ at, said: "" }),
      data: (_socket, bytes) => say({ at, said: Buffer.from(bytes).toString("latin1").slice(0, 100) }),
    },
  });
  return listener.port;
});

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

say(ports);
process.stdin.on("end", () => process.exit(0)).resume();
