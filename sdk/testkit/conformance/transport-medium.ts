/** Checks of a channel that everybody in earshot shares: `Medium` of the SDK. They say nothing of a transport that registers none. */
import type { Medium } from "../../src/index.ts";
import type { TestHost } from "../context.ts";
import { type Bench, onBench, type TransportSetup } from "./bench.ts";
import { type Check, demand } from "./check.ts";

const POISON = 0xee;

interface Heard {
  readonly from: string;
  readonly bytes: Uint8Array;
}

/** Undefined: the transport has none, and says so. */
function mediumOf(host: TestHost, { hasMedium }: TransportSetup): Medium | undefined {
  const medium = host.driver?.medium;
  demand(medium !== undefined || hasMedium !== true, "the driver has no medium");
  return medium;
}

function checkCosts(
  { rateBitsPerSecond, broadcastBytesMax, ...medium }: Medium,
  airtimeMs: Medium["airtimeMs"],
): void {
  demand(Number.isFinite(rateBitsPerSecond) && rateBitsPerSecond > 0, `its rate is ${rateBitsPerSecond}`);
  demand(
    Number.isInteger(broadcastBytesMax) && broadcastBytesMax > 0,
    `broadcastBytesMax is ${broadcastBytesMax}`,
  );
  demand(medium.utilisation >= 0 && medium.utilisation <= 1, `utilisation is ${medium.utilisation}`);
  for (const to of ["one", "all"] as const) {
    let beforeMs = 0;
    for (let bytes = 1; bytes <= broadcastBytesMax; bytes++) {
      const ms = airtimeMs(bytes, to);
      const leastMs = (bytes * 8_000) / rateBitsPerSecond / 2;
      demand(Number.isFinite(ms) && ms > 0, `${bytes} bytes to ${to} take ${ms} ms`);
      demand(ms >= leastMs, `${bytes} bytes to ${to} take ${ms} ms, less than its rate allows`);
      demand(ms >= beforeMs, `${bytes} bytes to ${to} take less airtime than fewer do`);
      beforeMs = ms;
    }
  }
}

async function checkDescription(bench: Bench): Promise<void> {
  const { near, far, listener, dialler } = await bench.connect();
  const ends = [
    [listener, far, "i0"],
    [dialler, near, "i1"],
  ] as const;
  for (const [host, pipe, instance] of ends) {
    const medium = mediumOf(host, bench.setup);
    demand(pipe.medium === medium, "a pipe has another medium than the driver that it came from");
    if (medium === undefined) continue;
    demand(medium.name === instance, `its name is ${medium.name}, that of the instance is ${instance}`);
    // Behind a getter too: a spread has what it said at that moment.
    checkCosts(
      {
        ...medium,
        name: medium.name,
        rateBitsPerSecond: medium.rateBitsPerSecond,
        broadcastBytesMax: medium.broadcastBytesMax,
        utilisation: medium.utilisation,
      },
      (bytes, to) => medium.airtimeMs(bytes, to),
    );
  }
}

function listen(medium: Medium): Heard[] {
  const heard: Heard[] = [];
  medium.listen((from, bytes) => {
    heard.push({ from, bytes: bytes.slice() });
  });
  return heard;
}

async function checkToAll(bench: Bench): Promise<void> {
  const { listener, dialler } = await bench.connect();
  const media = [listener, dialler].map((host) => mediumOf(host, bench.setup));
  const [first, second] = media;
  if (first === undefined || second === undefined) return;
  const unheard = listen(second);
  const atFirst = listen(first);
  const atSecond = listen(second);
  for (const [sender, own, others, host] of [
    [first, atFirst, atSecond, dialler],
    [second, atSecond, atFirst, listener],
  ] as const) {
    const before = own.length;
    for (const length of [1, sender.broadcastBytesMax]) {
      const sofar = others.length;
      const sent = Uint8Array.from({ length }, (_, at) => at & 0xff);
      const lent = sent.slice();
      await bench.until(() => sender.broadcast(lent), "something to all is taken again");
      lent.fill(POISON);
      await bench.until(() => others.length > sofar, `the others hear ${length} bytes to all`);
      const { from, bytes } = others.at(-1)!;
      demand(
        Buffer.compare(bytes, sent) === 0,
        `what is heard is not the ${length} bytes that were sent to all`,
      );
      const scheme = from.slice(0, Math.max(0, from.indexOf("://")));
      demand(host.driver!.schemes.includes(scheme), `"${from}", where it came from, cannot be dialled here`);
    }
    await bench.quiet();
    demand(own.length === before, "a sender hears what it sends to all itself");
    const tooLarge = new Uint8Array(sender.broadcastBytesMax + 1);
    demand(!sender.broadcast(tooLarge), "more than broadcastBytesMax is taken");
  }
  demand(unheard.length === 0, "an earlier listener is still told");
}

export const mediumChecks: readonly Check<TransportSetup>[] = [
  {
    name: "a shared channel says what it costs, and each pipe that it is on it",
    run: onBench(checkDescription),
  },
  { name: "what is sent to all on a shared channel all others hear, as it was", run: onBench(checkToAll) },
];
