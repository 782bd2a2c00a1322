/** A stream transport of a third party that has no socket of its own: the node opens them. */
import {
  definePlugin,
  GodwitError,
  parseHostPort,
  type NetStream,
  type Pipe,
  type PipeDirection,
} from "@godwit/sdk";

interface Table {
  readonly listen?: string;
  readonly boom?: string;
}

const config = {
  "~standard": {
    version: 1 as const,
    vendor: "plain",
    validate: (value: unknown) => ({ value: value as Table }),
  },
};

function pipeOf(stream: NetStream, direction: PipeDirection): Pipe {
  const at = ({ host, port }: { host: string; port: number }) => `brk://${host}:${port}`;
  return {
    kind: "stream",
    direction,
    remote: at(stream.remote),
    local: at(stream.local),
    linkClass: "fast",
    rateBitsPerSecond: 1e8,
    mtu: 0,
    bufferedBytes: 0,
    open: ({ data, drain, closed }) =>
      stream.open({
        data,
        drain,
        closed,
        end: () => stream.end(),
      }),
    write: (bytes) => stream.write(bytes),
    pause: (paused) => stream.pause(paused),
    close: () => stream.end(),
  };
}

export default definePlugin({
  id: "brokered",
  namespace: "transport",
  sdk: "^0.1.0",
  permissions: ["broker.connect:*:*", "broker.listen:*"],
  config,
  async start(ctx, { listen }) {
    ctx.transport.register({
      schemes: ["brk"],
      dial: async (endpoint, signal) => {
        const { host, port } = parseHostPort(endpoint.slice("brk://".length));
        if (port === 0) throw new GodwitError("GODWIT_ENDPOINT_INVALID", "no port", { kind: "config" });
        return pipeOf(await ctx.net.connect(host, port, signal), "outbound");
      },
    });
    if (listen === undefined) return;
    const { host, port } = parseHostPort(listen);
    const listener = await ctx.net.listen(host, port, (stream) =>
      ctx.transport.accept(pipeOf(stream, "inbound")),
    );
    ctx.own(() => listener.close());
    ctx.transport.listening([`brk://127.0.0.1:${listener.port}`]);
  },
});
