import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateIdentity, verifySignature } from "../identity/keys.ts";
import { signRotation, type Rotation } from "../identity/rotation.ts";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { SECRETS_MAX } from "../link/constants.ts";
import { keepGranted, NetworkSecrets, type NetworkSecretsOptions } from "./secrets.ts";
import { SECRETS_FILE } from "./secrets-file.ts";
import { testTime } from "../time/testing.ts";

const authority = generateIdentity(seededRandom(1));
const secretOf = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);
const orderOf = (generation: number, fill: number): Rotation =>
  signRotation(authority, { generation, secret: secretOf(fill) }, "net");
const refused = expect.objectContaining({ code: "GODWIT_ROTATION_REFUSED" });

let stateDir: string;
let clock: ManualClock;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "godwit-secrets-"));
  clock = new ManualClock();
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const open = (changes: Partial<NetworkSecretsOptions> = {}): NetworkSecrets =>
  new NetworkSecrets({
    stateDir,
    network: "net",
    configured: [secretOf(1)],
    authority: authority.id,
    policy: "authority",
    overlapMs: 10_000,
    clock,
    time: testTime(clock).time,
    log: silentLog,
    verify: verifySignature,
    ...changes,
  });
const fills = (secrets: NetworkSecrets): number[] => secrets.live.map((secret) => secret[0]!);

describe("a rotation", () => {
  test("is preferred at once, the old one lives for the overlap, and a restart changes nothing", async () => {
    const secrets = open();
    expect(secrets.accept(orderOf(1, 2))).toBe(true);
    expect(secrets.accept(orderOf(1, 2))).toBe(false);
    expect(fills(secrets)).toEqual([2, 1]);
    expect(statSync(join(stateDir, SECRETS_FILE)).mode & 0o777).toBe(0o600);
    await clock.advance(6_000);
    secrets.stop();
    // The time in between does not count, whatever the wall clock says.
    await clock.advance(1_000_000_000);
    const again = open();
    expect(again.epochs.map(({ retiresInMs }) => retiresInMs)).toEqual([undefined, 4_000]);
    const gone: string[] = [];
    again.onChange = (retired) => gone.push(...retired);
    await clock.advance(3_999);
    expect(fills(again)).toEqual([2, 1]);
    await clock.advance(2);
    expect(fills(again)).toEqual([2]);
    expect(gone).toHaveLength(1);
    // The configuration still lists the old one.
    expect(fills(open())).toEqual([2]);
    expect(fills(open({ configured: [] }))).toEqual([2]);
  });

  test("is obeyed only on the authority's word, for this network, and only forwards", () => {
    const secrets = open();
    const [first, second] = [orderOf(1, 2), orderOf(2, 3)];
    expect(() => secrets.accept({ ...first, signature: undefined })).toThrow(refused);
    expect(() => secrets.accept({ ...first, generation: 2 })).toThrow(refused);
    expect(() => secrets.accept(signRotation(generateIdentity(seededRandom(9)), first, "net"))).toThrow(
      refused,
    );
    expect(() => secrets.accept(signRotation(authority, first, "other"))).toThrow(refused);
    secrets.accept(second);
    expect(() => secrets.accept(first)).toThrow(refused);
    secrets.accept(orderOf(3, 4));
    secrets.retire();
    // Replayed after it was retired.
    expect(() => secrets.accept(second)).toThrow(refused);
    expect(() => secrets.accept({ ...signRotation(authority, { ...second, generation: 9 }, "net") })).toThrow(
      refused,
    );
    expect(fills(secrets)).toEqual([4]);
  });

  test("by any member where the configuration says so, by nobody where it says that, never in an open mesh", () => {
    const unsigned = { ...orderOf(1, 2), signature: undefined };
    expect(() => open({ authority: undefined }).accept(unsigned)).toThrow(refused);
    expect(() => open({ policy: "nobody" }).accept(orderOf(1, 2))).toThrow(refused);
    expect(() => open({ configured: [] }).accept(orderOf(1, 2))).toThrow(refused);
    const secrets = open({ authority: undefined, policy: "members" });
    expect(() => secrets.accept({ ...unsigned, generation: 0xffff_ffff })).toThrow(refused);
    expect(secrets.accept(unsigned)).toBe(true);
  });

  test("two at once end alike everywhere, and no more than four secrets are live", () => {
    const [one, two] = [orderOf(1, 2), orderOf(1, 3)];
    const results = [
      [one, two],
      [two, one],
    ].map((orders, index) => {
      const secrets = open({ stateDir: mkdtempSync(join(stateDir, `n${index}`)) });
      for (const order of orders) secrets.accept(order);
      return fills(secrets);
    });
    expect(results[0]).toEqual(results[1]);
    const secrets = open();
    for (let i = 1; i <= 6; i++) secrets.accept(orderOf(i, 10 + i));
    expect(fills(secrets)).toEqual([16, 15, 14, 13]);
  });
});

test("a rotation that cannot be kept leaves the secret in force without an end: the mesh never becomes an open one", async () => {
  const secrets = open();
  const moved = `${stateDir}-away`;
  renameSync(stateDir, moved);
  expect(() => secrets.accept(orderOf(1, 2))).toThrow(
    expect.objectContaining({ code: "GODWIT_STATE_UNUSABLE" }),
  );
  renameSync(moved, stateDir);
  expect(secrets.epochs.map(({ retiresInMs }) => retiresInMs)).toEqual([undefined]);
  secrets.stop();
  const again = open();
  await clock.advance(1_000_000);
  expect([fills(secrets), fills(again)]).toEqual([[1], [1]]);
});

test("links under a secret whose end could not be kept are ended all the same", async () => {
  const secrets = open();
  secrets.accept(orderOf(1, 2));
  const gone: string[] = [];
  secrets.onChange = (retired) => gone.push(...retired);
  const moved = `${stateDir}-away`;
  renameSync(stateDir, moved);
  await clock.advance(10_001);
  renameSync(moved, stateDir);
  expect([fills(secrets), gone.length]).toEqual([[2], 1]);
});

test("a file that others may read, or that is damaged, stops the start and is never quoted", () => {
  open().accept(orderOf(1, 2));
  const path = join(stateDir, SECRETS_FILE);
  const text = readFileSync(path, "utf8");
  chmodSync(path, 0o644);
  expect(open).toThrow("chmod 600");
  chmodSync(path, 0o600);
  writeFileSync(path, text.slice(0, 60));
  let thrown = "";
  try {
    open();
  } catch (error) {
    thrown = String(error);
  }
  expect(thrown).toContain("damaged");
  expect(thrown).not.toContain(text.slice(20, 40));
});

test("a secrets file that is JSON of another shape is called damaged, whatever the shape", () => {
  open().accept(orderOf(1, 2));
  const path = join(stateDir, SECRETS_FILE);
  const whole = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown> & { rotated: object[] };
  const rotated = (change: object) => ({ ...whole, rotated: [{ ...whole.rotated[0], ...change }] });
  const wrong: unknown[] = [
    ...[null, 7, "text", [], {}, { ...whole, version: 2 }],
    ...[null, [], "x", { aabbccdd: "soon" }, { aabbccdd: -1 }].map((retiring) => ({ ...whole, retiring })),
    ...[null, {}, [7], [null]].map((retired) => ({ ...whole, retired })),
    ...[null, {}, [null], [[]]].map((list) => ({ ...whole, rotated: list })),
    ...[{ secret: 5 }, { secret: "" }, { secret: "AAAA" }, { generation: -1 }, { generation: 1.5 }].map(
      rotated,
    ),
    ...[{ signature: 5 }, { signature: undefined }, { signature: "AAAA" }].map(rotated),
  ];
  for (const shape of wrong) {
    writeFileSync(path, JSON.stringify(shape));
    expect(open, JSON.stringify(shape)).toThrow("it is damaged; restore it");
  }
  writeFileSync(path, JSON.stringify(whole));
  expect(fills(open())).toEqual([2, 1]);
});

describe("a newcomer that was told of a rotation", () => {
  const signed = orderOf(3, 2);
  const lives = [
    { generation: 3, retiresInMs: undefined, signature: signed.signature },
    { generation: 0, retiresInMs: 5_000, signature: undefined },
  ];
  const joined = (): readonly Uint8Array[] =>
    keepGranted({ stateDir, network: "net" }, [secretOf(2), secretOf(1)], lives);

  test("prefers the new one, passes its order on, and lets the old one go with the others", async () => {
    const configured = joined();
    expect(configured).toEqual([secretOf(2)]);
    const secrets = open({ configured });
    expect([fills(secrets), secrets.generation]).toEqual([[2, 1], 3]);
    expect(secrets.order).toMatchObject({ generation: 3, signature: signed.signature });
    await clock.advance(5_001);
    expect(fills(secrets)).toEqual([2]);
  });

  test("does not take an order that the others have passed", () => {
    const secrets = open({ configured: joined() });
    expect(() => secrets.accept(orderOf(2, 9))).toThrow(refused);
    expect(fills(secrets)).toEqual([2, 1]);
    expect(secrets.accept(orderOf(4, 4))).toBe(true);
  });

  test("from a member of an earlier version knows only the secrets", () => {
    const options = { stateDir, network: "net" };
    expect(keepGranted(options, [secretOf(2), secretOf(1)], [])).toEqual([secretOf(2), secretOf(1)]);
    expect(() => statSync(`${stateDir}/${SECRETS_FILE}`)).toThrow("ENOENT");
  });

  test("of a mesh that never rotated gets its files and nothing else", () => {
    const options = { stateDir, network: "net" };
    const plain = { generation: 0, retiresInMs: undefined, signature: undefined };
    expect(keepGranted(options, [secretOf(1)], [plain])).toEqual([secretOf(1)]);
    expect(() => statSync(`${stateDir}/${SECRETS_FILE}`)).toThrow("ENOENT");
  });
});

describe("the old secret of a rotation, on a machine whose clock is wrong", () => {
  const RIGHT_MS = 1_800_000_000_000;

  test("opens nothing once either clock is past its end, and is there again when the wall clock was wrong", async () => {
    clock.wallOffsetMs = RIGHT_MS;
    open().accept(orderOf(1, 2));
    clock.wallOffsetMs = RIGHT_MS + 20_000;
    const ahead = open();
    expect([fills(ahead), ahead.epochs.map(({ secret }) => secret[0])]).toEqual([[2], [2]]);
    clock.wallOffsetMs = RIGHT_MS;
    const right = open();
    expect(fills(right)).toEqual([2, 1]);
    await clock.advance(10_001);
    expect(fills(right)).toEqual([2]);
  });

  test("is lengthened neither by a clock that was set back nor by one that stands still", async () => {
    clock.wallOffsetMs = RIGHT_MS;
    const secrets = open();
    secrets.accept(orderOf(1, 2));
    clock.wallOffsetMs = RIGHT_MS - 1_000_000;
    await clock.advance(6_000);
    secrets.stop();
    const again = open();
    await clock.advance(4_001);
    expect(fills(again)).toEqual([2]);
  });

  test("whoever links is told when the wall clock shuts it while the node runs", async () => {
    clock.wallOffsetMs = RIGHT_MS;
    const secrets = open();
    secrets.accept(orderOf(1, 2));
    clock.wallOffsetMs = RIGHT_MS + 5_000;
    const old = secrets.epochs[1]!.id;
    secrets.stop();
    const again = open();
    const shut: string[] = [];
    again.onChange = (ids) => shut.push(...ids);
    await clock.advance(5_001);
    expect([fills(again), shut]).toEqual([[2], [old]]);
  });
});

describe("a configuration read anew", () => {
  const settingsOf = (...fill: number[]) => ({
    configured: fill.map(secretOf),
    policy: "authority" as const,
    overlapMs: 10_000,
  });

  test("replaces a secret as an order does: the old one opens links for the overlap, over a restart too", async () => {
    const secrets = open();
    const gone: string[][] = [];
    secrets.onChange = (ids) => gone.push([...ids]);
    secrets.configure(settingsOf(2));
    expect(fills(secrets)).toEqual([2, 1]);
    expect(gone).toEqual([[]]);
    await clock.advance(6_000);
    secrets.stop();
    const again = open({ configured: [secretOf(2)] });
    expect(again.epochs.map(({ retiresInMs }) => retiresInMs)).toEqual([undefined, 4_000]);
    again.onChange = (ids) => gone.push([...ids]);
    await clock.advance(4_001);
    expect(fills(again)).toEqual([2]);
    expect(gone.at(-1)).toHaveLength(1);
  });

  test("that says nothing else about secrets changes nothing, and tells nobody", () => {
    const secrets = open();
    let told = 0;
    secrets.onChange = () => told++;
    secrets.configure(settingsOf(1));
    expect([fills(secrets), told]).toEqual([[1], 0]);
  });

  test("lists a secret again that it took out: it is good for as long as it is listed, after its end as well", async () => {
    const secrets = open();
    secrets.configure(settingsOf(2));
    secrets.configure(settingsOf(2, 1));
    await clock.advance(20_000);
    expect(fills(secrets)).toEqual([2, 1]);
    secrets.configure(settingsOf(2));
    await clock.advance(20_000);
    expect(fills(secrets)).toEqual([2]);
    // A closed mesh whose only secret did not count would be an open one.
    secrets.stop();
    expect(fills(open({ configured: [secretOf(1)] }))).toEqual([1]);
    secrets.configure(settingsOf(1));
    expect(fills(secrets)).toEqual([1, 2]);
  });

  test("does not outrank an order, nor bring back what an order retired", () => {
    const secrets = open();
    secrets.accept(orderOf(1, 2));
    secrets.configure(settingsOf(3));
    expect(fills(secrets)).toEqual([2, 3, 1]);
    secrets.retire();
    expect(fills(secrets)).toEqual([2]);
    secrets.configure(settingsOf(1));
    expect(fills(secrets)).toEqual([2]);
  });

  test("neither closes an open mesh nor opens a closed one, while what else it says counts", () => {
    const isOpen = open({ configured: [], policy: "nobody" });
    isOpen.configure({ ...settingsOf(1), overlapMs: 500 });
    expect([fills(isOpen), isOpen.policy, isOpen.overlapMs]).toEqual([[], "authority", 500]);
    const isClosed = open({ policy: "nobody" });
    isClosed.configure({ ...settingsOf(), overlapMs: 500 });
    expect([fills(isClosed), isClosed.policy, isClosed.overlapMs]).toEqual([[1], "authority", 500]);
    isClosed.configure(settingsOf(2));
    expect(fills(isClosed)).toEqual([2, 1]);
  });

  test("that cannot be kept is refused, and nothing has changed", () => {
    const secrets = open();
    rmSync(stateDir, { recursive: true });
    expect(() => secrets.configure({ ...settingsOf(2), policy: "members" })).toThrow(
      expect.objectContaining({ code: "GODWIT_STATE_UNUSABLE" }),
    );
    expect([fills(secrets), secrets.policy, secrets.epochs[0]!.retiresInMs]).toEqual([
      [1],
      "authority",
      undefined,
    ]);
    mkdirSync(stateDir);
  });

  test("changes who may rotate and for how long from then on", async () => {
    const secrets = open({ policy: "nobody" });
    expect(() => secrets.accept(orderOf(1, 2))).toThrow(refused);
    secrets.configure({ ...settingsOf(1), overlapMs: 500 });
    secrets.accept(orderOf(1, 2));
    await clock.advance(501);
    expect(fills(secrets)).toEqual([2]);
  });

  test("of a member that replaces its secret by it is what a newcomer begins with: the new one first", () => {
    const lives = [
      { generation: 0, signature: undefined, retiresInMs: undefined },
      { generation: 0, signature: undefined, retiresInMs: 5_000 },
    ];
    const configured = keepGranted({ stateDir, network: "net" }, [secretOf(2), secretOf(1)], lives);
    const secrets = open({ configured });
    expect(fills(secrets)).toEqual([2, 1]);
    expect(secrets.epochs.map(({ retiresInMs }) => retiresInMs)).toEqual([undefined, 5_000]);
  });
});

test("only so many secrets are live at once, whatever the configuration and the file name", () => {
  const secrets = open({ configured: [1, 2, 3, 4, 5, 6].map(secretOf) });
  expect(secrets.live).toHaveLength(SECRETS_MAX);
});
