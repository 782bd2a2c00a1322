/** In the namespace of the network: round trips and goodput of one onion stream, with no mesh above it. Prints JSON. */
import { TestHost } from "@godwit/sdk/testkit";
import plugin from "../../plugins/transport-tor/index.ts";

export interface BareFigures {
  readonly rttsMs: readonly number[];
  readonly megabits: number;
}

const PROBES = 50;
const BYTES = 8 * 2 ** 20;
const PIECE_BYTES = 65_536;
const START_TIMEOUT_MS = 60_000;

async function measure(ports: readonly { socks: number; control: number }[]): Promise<BareFigures> {
  const [near, far] = ports.map(() => new TestHost(plugin)) as [TestHost, TestHost];
  const config = (n: number) => ({
    socks: `127.0.0.1:${ports[n]!.socks}`,
    control: `127.0.0.1:${ports[n]!.control}`,
  });
  await Promise.all([near.start({ ...config(0), listen: [] }), far.start(config(1))]);
  const endMs = performance.now() + START_TIMEOUT_MS;
  while (far.endpoints.length === 0) {
    if (performance.now() > endMs) throw new Error("the onion address was not published");
    await Bun.sleep(50);
  }
  // The far end echoes what is short and counts the rest.
  let counted = 0;
  const whole = Promise.withResolvers<void>();
  far.onPipe = (pipe) =>
    pipe.open({
      data(bytes) {
        if (bytes.length === 1) return void pipe.write(bytes);
        counted += bytes.length;
        if (counted >= BYTES) whole.resolve();
      },
      drain() {},
      closed() {},
    });
  const pipe = await near.driver!.dial(far.endpoints[0]!, new AbortController().signal);
  let onData = () => {};
  let onDrain = () => {};
  pipe.open({ data: () => onData(), drain: () => onDrain(), closed() {} });
  const rttsMs: number[] = [];
  for (let i = 0; i < PROBES; i++) {
    const startedMs = performance.now();
    await new Promise<void>((resolve) => {
      onData = resolve;
      pipe.write(Uint8Array.of(1));
    });
    rttsMs.push(performance.now() - startedMs);
  }
  const startedMs = performance.now();
  const piece = new Uint8Array(PIECE_BYTES);
  for (let sent = 0; sent < BYTES; sent += PIECE_BYTES)
    if (!pipe.write(piece)) await new Promise<void>((resolve) => (onDrain = resolve));
  await whole.promise;
  const megabits = (BYTES * 8) / 1_000 / (performance.now() - startedMs);
  pipe.close();
  await Promise.all([near.stop(), far.stop()]);
  return { rttsMs, megabits };
}

if (import.meta.main) {
  console.log(
    JSON.stringify(await measure(JSON.parse(process.argv[2]!) as { socks: number; control: number }[])),
  );
  process.exit(0);
}
