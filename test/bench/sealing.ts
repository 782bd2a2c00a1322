/** Row 12, what sealing has of it: a message of 600 bytes sealed and opened in this process, in the older form and in a session. */
import { systemClock } from "../../runtime/kernel/clock.ts";
import { seededRandom, systemRandom } from "../../runtime/kernel/random.ts";
import { dhKeyFromSecret, generateIdentity } from "../../runtime/identity/keys.ts";
import { MAIL_SESSIONS } from "../../runtime/identity/record.ts";
import { createSealer, type Roots } from "../../runtime/identity/sealer.ts";
import type { SessionSeal } from "../../runtime/identity/session-seal.ts";
import { COUNTER_MAX } from "../../runtime/wire/sealed.ts";
import { quantile, type Bench, type BenchOptions, type Goal, type Measure } from "./bench.ts";

const PLAINTEXT_BYTES = 600;
/** Of a bundle header with two places. */
const HEADER_BYTES = 120;
/** Before anything is measured, and of each measurement. */
const WARM = 5_000;
const COUNT = 5_000;
const LATER: Goal = { of: "median", atMost: 8 };

const ann = generateIdentity(seededRandom(1));
const bea = generateIdentity(seededRandom(2));
const key = dhKeyFromSecret(systemRandom.bytes(32));
const published = { keyId: 7, publicKey: key.publicKey };
const plaintext = new Uint8Array(PLAINTEXT_BYTES).fill(3);
const header = new Uint8Array(HEADER_BYTES).fill(9);
const unique = new Uint8Array(16);

const sealerOf = (identity: typeof ann, hasSessions: boolean) =>
  createSealer({
    identity,
    prekeys: { find: () => key, callsignOf: () => undefined, onGone() {} },
    recordOf: () => ({ sequence: 1, prekey: published, capabilities: hasSessions ? [MAIL_SESSIONS] : [] }),
    sessions: { network: "telex", clock: systemClock, random: systemRandom },
  });

interface Work {
  readonly what: string;
  readonly goal?: Goal;
  run(at: number): unknown;
}

/** Median time of one, and processor time of all threads for each, us. */
function measure(work: Work): { readonly us: number; readonly cpuUs: number } {
  for (let at = 0; at < WARM; at++) work.run(at % COUNT);
  const times = new Float64Array(COUNT);
  const before = process.cpuUsage();
  for (let at = 0; at < COUNT; at++) {
    const start = Bun.nanoseconds();
    work.run(at);
    times[at] = (Bun.nanoseconds() - start) / 1_000;
  }
  const { user, system } = process.cpuUsage(before);
  return { us: quantile([...times], 0.5), cpuUs: (user + system) / COUNT };
}

function works(): Work[] {
  const [sender, recipient] = [sealerOf(ann, true), sealerOf(bea, true)];
  const [older, olderRecipient] = [sealerOf(ann, false), sealerOf(bea, false)];
  const none: Roots = { find: () => undefined, since: () => undefined };
  const seal = (under: SessionSeal) => sender.seal(bea.id, under, plaintext, header, unique);
  const many = (make: (at: number) => Uint8Array) => Array.from({ length: COUNT }, (_, at) => make(at));

  const inOlder = many(() => older.seal(bea.id, published, plaintext, header, unique));
  const firsts = many(() => sender.sealOnce(bea.id, plaintext, header, unique));
  const begun = sender.sessions!.take(bea.id)!;
  const { keys, id } = recipient.open(ann.id, seal(begun), header, none).session!;
  sender.sessions!.proven(bea.id, id);
  const known: Roots = { find: () => ({ keys, keyId: published.keyId }), since: () => undefined };
  const inOrder = many((counter) => seal({ ...{ id, counter, key: keys.key(counter) }, agreed: undefined }));
  const anywhere = many(() => {
    const counter = systemRandom.below(COUNTER_MAX + 1);
    return seal({ ...{ id, counter, key: keys.key(counter) }, agreed: undefined });
  });
  const takeLater = (): SessionSeal => {
    const under = sender.sessions!.take(bea.id)!;
    // The one before has come to its end: its recipient has the next.
    if (under.agreed !== undefined) sender.sessions!.proven(bea.id, under.id);
    return under;
  };
  return [
    { what: "older form, sealed", run: () => older.seal(bea.id, published, plaintext, header, unique) },
    { what: "older form, opened", run: (at) => olderRecipient.open(ann.id, inOlder[at]!, header, none) },
    { what: "first of a session, sealed", run: () => sender.sealOnce(bea.id, plaintext, header, unique) },
    { what: "first of a session, opened", run: (at) => recipient.open(ann.id, firsts[at]!, header, none) },
    { what: "later, sealed", goal: LATER, run: () => seal(takeLater()) },
    {
      what: "later, opened in order",
      goal: LATER,
      run: (at) => recipient.open(ann.id, inOrder[at]!, header, known),
    },
    {
      what: "later, opened, of any counter",
      run: (at) => recipient.open(ann.id, anywhere[at]!, header, known),
    },
  ];
}

async function run({ runs }: BenchOptions): Promise<Measure[]> {
  const all = works().map((work) => ({ work, us: [] as number[], cpuUs: [] as number[] }));
  for (let turn = 0; turn < runs; turn++)
    for (const { work, us, cpuUs } of all) {
      const measured = measure(work);
      us.push(measured.us);
      cpuUs.push(measured.cpuUs);
    }
  return all.flatMap(({ work: { what, goal }, us, cpuUs }): Measure[] => [
    { what, unit: "us", values: us, ...(goal === undefined ? {} : { goal }) },
    { what: `${what}: processor time`, unit: "us", values: cpuUs, isAside: true },
  ]);
}

export const sealing: Bench = {
  name: "sealing",
  row: 12,
  how:
    `${PLAINTEXT_BYTES} bytes and a header of ${HEADER_BYTES}, sealed and opened in the measuring process, ${COUNT} times in a turn: ` +
    "the median of each turn, and processor time of all threads, for collecting garbage as well. A later one that comes in order is sealed " +
    "with the step of its counter, and takes its key from the one before it",
  run,
};
