/** Handshakes under an invitation: who gets in, who hears why not, and that a stranger costs neither state nor a key agreement. */
import { describe, expect, test } from "bun:test";
import { inviteSecret } from "../identity/invite.ts";
import { alice, bob, bytesOf, Collector, startLink, type LinkTestOptions } from "./fixture.ts";

const secret = bytesOf(32, 7);
const older = bytesOf(32, 8);
const invite = { id: bytesOf(8, 1), expiresAtS: 1_800_000_000, uses: 1 };
const under = (networkSecret: Uint8Array, network = "telex") => ({
  invite,
  secret: inviteSecret(networkSecret, invite, network),
});
const valid = () => "valid" as const;

async function outcome(options: LinkTestOptions) {
  const link = startLink(options);
  await link.clock.advance(200_000);
  const [a, b] = await Promise.all([link.a, link.b]);
  return { ...link, codes: [a.error?.code ?? "linked", b.error?.code ?? "linked"] };
}

describe.each(["stream", "datagram"] as const)("over a %s", (kind) => {
  test("a newcomer is let in by any live secret, and the session says that it is no member's", async () => {
    for (const of of [secret, older]) {
      const link = startLink({
        kind,
        a: { invite: under(of) },
        b: { secrets: [secret, older], judgeInvite: valid },
      });
      await link.clock.advance(100);
      const [a, b] = await Promise.all([link.a, link.b]);
      expect([a.session?.remote, b.session?.remote]).toEqual([bob.id, alice.id]);
      expect(b.session!.invite).toEqual(invite);
      const right = new Collector(b.session!);
      const left = new Collector(a.session!);
      a.session!.send(bytesOf(5, 1));
      b.session!.send(bytesOf(6, 2));
      await link.clock.advance(100);
      expect([left.frames, right.frames]).toEqual([[bytesOf(6, 2)], [bytesOf(5, 1)]]);
    }
  });

  test("under load it comes again with a cookie", async () => {
    const guard = { loadHalfOpen: -1 };
    const link = startLink({
      kind,
      guard,
      a: { invite: under(secret) },
      b: { secrets: [secret], judgeInvite: valid },
    });
    await link.clock.advance(100);
    expect((await link.b).session?.invite).toEqual(invite);
    expect(link.guardB.counters.retriesSent).toBe(1);
  });

  test.each([
    ["expired", "GODWIT_INVITE_EXPIRED"],
    ["unsure", "GODWIT_INVITE_UNSURE"],
  ] as const)("%s: both ends know why", async (verdict, code) => {
    const options = {
      kind,
      a: { invite: under(secret) },
      b: { secrets: [secret], judgeInvite: () => verdict },
    };
    expect((await outcome(options)).codes).toEqual([code, code]);
  });
});

test.each([
  ["another network secret", { invite: under(bytesOf(32, 9)) }, {}],
  ["another network", { invite: under(secret, "other"), network: "other" }, {}],
  ["changed uses", { invite: { ...under(secret), invite: { ...invite, uses: 255 } } }, {}],
  ["a later expiry", { invite: { ...under(secret), invite: { ...invite, expiresAtS: 1_900_000_000 } } }, {}],
  ["a responder that takes none", { invite: under(secret) }, { judgeInvite: undefined }],
  ["an open mesh", { invite: under(secret) }, { secrets: [] }],
] as [string, NonNullable<LinkTestOptions["a"]>, Record<string, unknown>][])(
  "%s: silence, no key agreement, nobody asked",
  async (_, a, b) => {
    let judged = 0;
    const judgeInvite = () => (judged++, "valid" as const);
    const { codes, guardB, wire } = await outcome({
      wire: { isRecording: true },
      a,
      b: { secrets: [secret], judgeInvite, ...b },
    });
    expect(codes).toEqual(["GODWIT_HANDSHAKE_FAILED", "GODWIT_HANDSHAKE_FAILED"]);
    expect([guardB.counters.tagMismatches, judged]).toEqual([1, 0]);
    expect(wire.b.sent).toEqual([]);
  },
);

test("an invitation's secret does not pass for a network secret, nor the other way round", async () => {
  const derived = under(secret).secret;
  const asMember = await outcome({ a: { secrets: [derived] }, b: { secrets: [secret], judgeInvite: valid } });
  expect(asMember.codes).toEqual(["GODWIT_HANDSHAKE_FAILED", "GODWIT_HANDSHAKE_FAILED"]);
  const asInvite = await outcome({
    a: { invite: { invite, secret: secret.slice(0, 16) } },
    b: { secrets: [secret], judgeInvite: valid },
  });
  expect(asInvite.codes).toEqual(["GODWIT_HANDSHAKE_FAILED", "GODWIT_HANDSHAKE_FAILED"]);
});
