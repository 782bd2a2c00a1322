/** A newcomer with nothing but a token, a mesh of 50, two thirds of it off. */
import { expect, test } from "bun:test";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { encodeRecord } from "../../runtime/identity/record.ts";
import { JoinWorld, type JoinResult, NETWORK, STRANGE_ENDPOINT } from "./join-world.ts";

const MEMBERS = 50;
const AWAY = 2 / 3;
const TIMEOUT_MS = 60_000;

const hasJoined = (result: JoinResult): boolean => "joined" in result;

test(
  "issued while two thirds are off: the token of every member that is there lets a newcomer in, once",
  () => {
    for (const seed of [1, 2, 3]) {
      const world = new JoinWorld(seed, MEMBERS);
      world.switchOff(AWAY);
      const there = world.members.filter(({ isOn }) => isOn);
      expect(there.length).toBe(17);
      for (const inviter of there) {
        const token = world.invite(inviter);
        // The inviter goes, too: others that it named take the newcomer.
        world.set(inviter, false);
        const first = world.join(token);
        world.set(inviter, true);
        expect(first).toHaveProperty("joined");
        const { joined } = first as Extract<JoinResult, { joined: unknown }>;
        expect(joined.secrets.length).toBe(1);
        expect(joined.member).not.toBe(inviter.identity.id);
        // Neither is there any more who issued it or took it: the others were told.
        const acceptor = world.members.find(({ identity }) => identity.id === joined.member)!;
        for (const gone of [inviter, acceptor]) world.set(gone, false);
        const second = world.join(token);
        for (const back of [inviter, acceptor]) world.set(back, true);
        expect("refusal" in second ? second.refusal : "let in").toBe("GODWIT_INVITE_USED");
      }
      expect(world.members.reduce((sum, { letIn }) => sum + letIn.length, 0)).toBe(there.length);
      expect(world.conflicts).toEqual([]);
    }
  },
  TIMEOUT_MS,
);

test(
  "issued while all are there, then two thirds go: whoever can be reached lets in, and the rest as soon as one is back",
  () => {
    const world = new JoinWorld(4, MEMBERS);
    let reached = 0;
    for (const inviter of world.members) {
      for (const member of world.members) world.set(member, true);
      const token = world.invite(inviter);
      world.switchOff(AWAY);
      const isPossible = world.namesOneThatIsOn(token);
      const result = world.join(token);
      expect([inviter.identity.id, hasJoined(result)]).toEqual([inviter.identity.id, isPossible]);
      if (isPossible) reached++;
      else {
        expect(result).toEqual({ refusal: "GODWIT_JOIN_UNREACHABLE" });
        world.set(inviter, true);
        expect(world.join(token)).toHaveProperty("joined");
      }
    }
    // 1 - C(33,8) / C(50,8) = 97.4 % of 50, less three standard deviations.
    expect(reached).toBeGreaterThanOrEqual(45);
    console.log(`  ${reached} of ${MEMBERS} tokens reached one of the 17 that were there`);
  },
  TIMEOUT_MS,
);

test(
  "one seed gives one run",
  () => {
    const run = () => {
      const world = new JoinWorld(9, 12);
      world.switchOff(AWAY);
      const inviter = world.members.find(({ isOn }) => isOn)!;
      const result = world.join(world.invite(inviter));
      return JSON.stringify([result, world.clock.monotonicMs()]);
    };
    expect(run()).toBe(run());
  },
  TIMEOUT_MS,
);

test("of the records that a newcomer is sent it writes down addresses that may be dialled on their owners' word", () => {
  const world = new JoinWorld(7, 3);
  const endpoints = [
    ...["tcp://127.0.0.1:22", "tcp://169.254.169.254:80", "tcp://name.example:4860"],
    ...["ws://192.0.2.9:80/any/path", "ws://192.0.2.9:80/godwit", STRANGE_ENDPOINT],
  ];
  const record = encodeRecord(generateIdentity(world.random), { sequence: 1, endpoints }, NETWORK);
  for (const { records } of world.members) records.offer(record);
  const result = world.join(world.invite(world.members[0]!));
  if (!("joined" in result)) throw new Error("it was refused");
  const named = result.joined.peers.filter((endpoint) => endpoints.includes(endpoint));
  expect(named).toEqual([STRANGE_ENDPOINT, "ws://192.0.2.9:80/godwit"]);
});
