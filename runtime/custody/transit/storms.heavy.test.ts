/**
 * Whatever happens to a relay, in whatever order: what it acknowledged goes on, once, and what it counts is what it has. Seeds are fixed,
 * and what each did is in the message of its failure.
 */
import { expect, test } from "bun:test";
import type { MessageId } from "../../kernel/ids.ts";
import { godwitError } from "../../kernel/errors.ts";
import { seededRandom } from "../../kernel/random.ts";
import { TestMesh, type TestNode } from "../testing.ts";

const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;
/** So little that every bound is met. */
const RELAY = {
  laneAwakeMax: 12,
  laneUnreachableMax: 3,
  transitMessagesMax: 1_000,
  reofferFirstMs: 5_000,
  reofferCapMs: 20_000,
};
/** The sources never offer again what a relay took, so that whatever it loses is missed. */
const SOURCE = { reofferFirstMs: 1_000 * HOUR_MS, reofferCapMs: 1_000 * HOUR_MS };
const STEPS = 40;
const SEEDS = 9;
const LARGE_BYTES = 6_000;

interface Expected {
  readonly from: TestNode;
  readonly to: TestNode;
  readonly endMs: number;
}

class Storm {
  readonly #mesh = new TestMesh();
  readonly #random;
  readonly #relay: TestNode;
  readonly #ends: readonly TestNode[];
  /** Accepted by their sources, by what they say. */
  readonly #expected = new Map<string, Expected & { readonly id: MessageId }>();
  readonly #rotten = new Set<string>();
  #revoked: TestNode | undefined;
  #serial = 0;
  readonly trail: string[] = [];

  private constructor(seed: number, mesh: TestMesh, relay: TestNode, ends: readonly TestNode[]) {
    this.#random = seededRandom(seed);
    this.#mesh = mesh;
    this.#relay = relay;
    this.#ends = ends;
  }

  /** Four nodes around a relay. */
  static async begin(seed: number): Promise<Storm> {
    const mesh = new TestMesh();
    const relay = await mesh.add("relay", RELAY);
    const ends: TestNode[] = [];
    for (const name of ["a", "b", "c", "d"]) ends.push(await mesh.add(name, SOURCE));
    for (const end of ends) {
      for (const other of [relay, ...ends]) if (other !== end) end.routes.set(other.id, [relay.id]);
      relay.routes.set(end.id, [end.id]);
      mesh.connect(relay, end);
    }
    return new Storm(seed, mesh, relay, ends);
  }

  #pick<T>(of: readonly T[]): T {
    return of[this.#random.below(of.length)]!;
  }

  #send(): void {
    const from = this.#pick([this.#relay, ...this.#ends, ...this.#ends]);
    const to = this.#pick(this.#ends.filter((end) => end !== from));
    const priority = this.#pick([2, 2, 0, 3] as const);
    const ttlSeconds = this.#pick([24 * 3_600, 24 * 3_600, 5, 30]);
    const endMs = this.#mesh.clock.monotonicMs() + ttlSeconds * SECOND_MS;
    for (let left = this.#pick([1, 20, 40]); left > 0; left--) {
      const name = `${++this.#serial}`;
      const body =
        this.#random.below(4) === 0 ? Buffer.alloc(LARGE_BYTES, `${name} `) : Buffer.from(`${name} `);
      from.custody!.send({ to: to.id, body, priority, ttlSeconds }).then(
        (id) => this.#expected.set(name, { id, from, to, endMs }),
        () => {}, // its source refused it
      );
    }
  }

  #up(end: TestNode): void {
    this.#mesh.connect(this.#relay, end);
  }

  #down(end: TestNode): void {
    this.#mesh.cut(this.#relay, end);
    this.#relay.custody!.onRoute(end.id);
  }

  async #flap(end: TestNode): Promise<void> {
    for (let i = 0; i < 4; i++) {
      this.#up(end);
      await this.#mesh.clock.advance(this.#random.below(12));
      this.#down(end);
      await this.#mesh.clock.advance(this.#random.below(4));
    }
    this.#up(end);
  }

  async #crash(): Promise<void> {
    this.#relay.crash();
    await this.#mesh.clock.advance(this.#random.below(50));
    await this.#relay.start();
  }

  async #fillDisk(): Promise<void> {
    this.#relay.disk.fail("full");
    await this.#mesh.clock.advance(this.#random.below(3_000));
    this.#relay.disk.fail(undefined);
  }

  /** The store of the relay fails for a while, with commits or with reads. */
  async #failStore(calls: readonly ("commit" | "page" | "rows" | "body")[], end: TestNode): Promise<void> {
    const store = this.#relay.store!;
    const failing = () => Promise.reject(godwitError("GODWIT_STORE_FAILED", "on purpose"));
    for (const call of calls) store[call] = failing;
    if (this.#random.below(2) === 0) this.#up(end);
    await this.#mesh.clock.advance(this.#random.below(8_000));
    for (const call of calls) Reflect.deleteProperty(store, call);
  }

  #rot(): void {
    const keys = [...this.#relay.disk.rows("transit").keys()];
    if (keys.length === 0) return;
    const key = this.#pick(keys);
    this.#rotten.add(key);
    this.#relay.disk.rot("transit", key);
  }

  #revoke(end: TestNode): void {
    if (this.#revoked !== undefined) return;
    this.#revoked = end;
    this.#relay.refused.add(end.id);
    this.#relay.custody!.onRevoked(end.id);
  }

  #withdraw(): void {
    const own = [...this.#expected].filter(([, { from }]) => from === this.#relay);
    if (own.length === 0) return;
    const [, { id }] = this.#pick(own);
    // It may have ended already, and a crash may take the answer.
    this.#relay.custody!.outbox.withdraw(id).catch(() => {});
  }

  /** `mayLose`: damage and revocations as well. */
  async step(mayLose: boolean): Promise<void> {
    const end = this.#pick(this.#ends);
    const [name, run] = this.#pick<[string, () => Promise<void> | void]>([
      ...Array.from({ length: 6 }, (): [string, () => void] => ["send", () => this.#send()]),
      ...Array.from({ length: 2 }, (): [string, () => void] => [`up ${end.name}`, () => this.#up(end)]),
      ...Array.from({ length: 2 }, (): [string, () => void] => [`down ${end.name}`, () => this.#down(end)]),
      [`flap ${end.name}`, () => this.#flap(end)],
      [`flap ${end.name}`, () => this.#flap(end)],
      ["crash", () => this.#crash()],
      ["full disk", () => this.#fillDisk()],
      ["no commits", () => this.#failStore(["commit"], end)],
      ["no reads", () => this.#failStore(["page", "rows", "body"], end)],
      ["withdraw", () => this.#withdraw()],
      ...(mayLose
        ? ([
            ["rot", () => this.#rot()],
            [`revoke ${end.name}`, () => this.#revoke(end)],
          ] as [string, () => void][])
        : []),
    ]);
    this.trail.push(name);
    await run();
    await this.#mesh.clock.advance(this.#random.below(this.#pick([3, 30, 300, 2_000])));
  }

  /** All ways are there again. Answers what is wrong. */
  async end(): Promise<string[]> {
    const [mesh, relay] = [this.#mesh, this.#relay];
    for (const end of this.#ends) this.#up(end);
    await mesh.clock.advance(180 * SECOND_MS);
    const wrong: string[] = [];
    // Those of a revoked node that could not be read then are found when they are fetched, or end.
    const { count: left, bytes: leftBytes } = relay.custody!.transit;
    if (this.#revoked === undefined && left + leftBytes > 0)
      wrong.push(`${left} bundles, ${leftBytes} bytes left before the last start`);
    // What could not be deleted comes once more.
    await this.#crash();
    await mesh.clock.advance(300 * SECOND_MS);
    const counts = new Map<string, number>();
    for (const { delivered } of this.#ends)
      for (const { text } of delivered) {
        const name = text.split(" ", 1)[0]!;
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
    for (const [name, count] of counts) if (count > 1) wrong.push(`${name} came ${count} times`);
    const missing = [...this.#expected].filter(
      ([name, { id, from, to, endMs }]) =>
        !counts.has(name) &&
        from.sent(id)?.state !== "withdrawn" &&
        endMs > mesh.clock.monotonicMs() &&
        from !== this.#revoked &&
        to !== this.#revoked,
    );
    if (missing.length > this.#rotten.size) wrong.push(`${missing.map(([name]) => name).join()} never came`);
    const { count, bytes } = relay.custody!.transit;
    const rows = await relay.settle(relay.store!.load("transit"));
    if (count + bytes + rows.length > 0)
      wrong.push(`${count} bundles, ${bytes} bytes, ${rows.length} rows left`);
    const open = this.#ends.map(({ custody }) => custody!.outbox.openCount);
    if (this.#rotten.size === 0 && this.#revoked === undefined && Math.max(...open) > 0)
      wrong.push(`open at their sources: ${open.join()}`);
    return wrong;
  }
}

for (const mayLose of [false, true])
  test(`a relay passes on what it acknowledged, once, and counts what it has${mayLose ? ", when rows rot and nodes are revoked as well" : ""}`, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const storm = await Storm.begin(seed);
      for (let i = 0; i < STEPS; i++) await storm.step(mayLose);
      const wrong = await storm.end();
      expect({ seed, wrong, trail: wrong.length > 0 ? storm.trail : [] }).toEqual({
        seed,
        wrong: [],
        trail: [],
      });
    }
  }, 30_000);
