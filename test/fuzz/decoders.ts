/** Every decoder that stands alone: bytes or text in, a value or a GodwitError out. */
import { createHmac } from "node:crypto";
import closed from "../vectors/closed.json";
import compactFrames from "../vectors/compact.json";
import frames from "../vectors/frames.json";
import joinVectors from "../vectors/join.json";
import { bech32m } from "@scure/base";
import lookups from "../vectors/lookups.json";
import members from "../vectors/members.json";
import { parseTcpEndpoint } from "../../plugins/transport-tcp/endpoint.ts";
import { parseDuration, parseSize } from "../../runtime/config/units.ts";
import { briefOf } from "../../runtime/identity/brief.ts";
import { generateIdentity, verifySignature } from "../../runtime/identity/keys.ts";
import { formatKeyFile, parseKeyFile } from "../../runtime/identity/keystore.ts";
import { formatAddress, parseAddress } from "../../runtime/identity/names.ts";
import { decodeRecord, encodeRecord, encodeRevocation, signName } from "../../runtime/identity/record.ts";
import { openSealed, sealTo } from "../../runtime/identity/seal.ts";
import { createSealer } from "../../runtime/identity/sealer.ts";
import { ReceivingKeys } from "../../runtime/identity/session-keys.ts";
import { sealInSession, sealSegmentsInSession } from "../../runtime/identity/session-seal.ts";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { formatBundleId, formatNodeId, parseHex } from "../../runtime/kernel/ids.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { decodeItems } from "../../runtime/link/items.ts";
import {
  CollectedFragments,
  cutRecord,
  decodeFragment,
  SentFragments,
} from "../../runtime/link/fragments.ts";
import { HANDSHAKE_BYTES, parseMessage1 } from "../../runtime/link/hello.ts";
import { parseLines } from "../../plugins/discovery-static/entry.ts";
import { openList } from "../../plugins/discovery-static/signed-list.ts";
import { decodeInvite, decodeRedemption, encodeInvite, INVITE_BYTES } from "../../runtime/identity/invite.ts";
import { formatToken, parseToken } from "../../runtime/identity/token.ts";
import * as join from "../../runtime/wire/join-messages.ts";
import * as channelBeacon from "../../runtime/wire/channel-beacon.ts";
import * as bundle from "../../runtime/wire/bundle.ts";
import {
  compactStart,
  decodeContext,
  decodeMail,
  encodeCompact,
  encodeContext,
  type Implied,
} from "../../runtime/wire/mail-compact.ts";
import * as compact from "../../runtime/wire/compact.ts";
import { restorePacket, shortenPacket } from "../../runtime/wire/compact-packet.ts";
import * as member from "../../runtime/wire/member-messages.ts";
import * as message from "../../runtime/wire/message.ts";
import * as packet from "../../runtime/wire/packet.ts";
import * as sealedHead from "../../runtime/wire/sealed.ts";
import * as lookup from "../../runtime/wire/lookup-messages.ts";
import * as peer from "../../runtime/wire/peer-messages.ts";
import {
  formatNameGrant,
  formatRevocation,
  parseNameGrant,
  parseRevocation,
} from "../../runtime/identity/proof-text.ts";
import { decodeRotation, encodeRotation } from "../../runtime/identity/rotation.ts";
import * as revocation from "../../runtime/wire/revocation-messages.ts";
import * as route from "../../runtime/wire/route-messages.ts";
import { FRAME_BYTES_MAX } from "../../runtime/wire/constants.ts";
import * as streams from "../../runtime/stream/wire.ts";
import streamVectors from "../vectors/streams.json";
import { decideAllowed } from "../../runtime/forward/rules.ts";
import { parsePattern, parseTarget } from "../../runtime/config/targets.ts";
import { decodePackage, encodePackage, parseManifest } from "../../runtime/plugin/package/package.ts";
import { decodeDatagram, encodeDatagram } from "../../runtime/plugin/frames/datagram.ts";
import { decodeParts, encodeFrame, encodeParts, FrameReader } from "../../runtime/plugin/frames/frames.ts";
import { parsePermission } from "../../runtime/plugin/permissions.ts";
import pluginFrames from "../vectors/plugin-frames.json";
import type { Target } from "./engine.ts";
import { bytesOf, checkStable, checkText, decoder, fill, parser, texts, utf8 } from "./target.ts";
import { transportTargets } from "./transports.ts";
import { jsonTokens, textTargets } from "./writing.ts";
import { initTargets } from "./init.ts";

const pluginManifest = utf8.encode(
  '{"id":"gull","namespace":"service","version":"1.0.0","sdk":"^0.1.0","permissions":["x"],"entry":"a.ts","config":{"type":"object"}}',
);
const pluginPackage = encodePackage(
  pluginManifest,
  utf8.encode("export default 1"),
  generateIdentity(seededRandom(77)),
);
const vectors = { ...frames, ...compactFrames, ...members };
const vector = (name: keyof typeof vectors): Uint8Array => parseHex(vectors[name], vectors[name].length / 2)!;

const NETWORK = "fuzz";
const BEACON_KEY = fill(32, 0x0b);
const BEACON = { who: "0a0b0c0d0e0f", number: 2 ** 30, gateway: 7, earshot: 513 };
const alice = generateIdentity(seededRandom(1));
const bob = generateIdentity(seededRandom(2));

/** What its reader knows without being told, and messages that leave it out. */
const compactMail: readonly (readonly [string, Implied, readonly Uint8Array[]])[] = [
  ["compact message", { id: bob.id, callsign: "LON-B", context: undefined }, [vector("compactAlone")]],
  [
    "compact message in a context",
    { id: bob.id, callsign: undefined, context: decodeContext(vector("mailContext")) },
    [vector("compactInContext"), vector("compactWithAll")],
  ],
];

const joinVector = (name: keyof typeof joinVectors): Uint8Array =>
  parseHex(joinVectors[name], joinVectors[name].length / 2)!;

const idA = formatNodeId(fill(32, 0x0a));

const closedVector = (name: keyof typeof closed): Uint8Array =>
  new Uint8Array(Buffer.from(closed[name], "hex"));

const lookupVector = (name: keyof typeof lookups): Uint8Array =>
  parseHex(lookups[name], lookups[name].length / 2)!;

function routeSeeds(): Uint8Array[] {
  const proof = { seqno: 7, recordHash: fill(8, 1), signature: fill(64, 2) };
  const any: route.PlaneRoute = { seqno: 9, metric: 300, mtu: 61_440, bottleneck: 0 };
  const bulk: route.PlaneRoute = { seqno: 8, metric: 70_000, mtu: 1_400, bottleneck: 1 };
  const update = route.beginUpdate(0xdead, 5, 8_192);
  route.appendUpdateEntry(update, idA, any, bulk, proof);
  route.appendUpdateEntry(update, alice.id, any, any, undefined);
  route.appendUpdateEntry(update, bob.id, route.UNREACHABLE, route.UNREACHABLE, undefined);
  return [
    update.finish(),
    route.encodeRouteAck({ tag: 1, serial: 2 }),
    route.encodeSeqnoRequest({ tag: 1, destination: idA, seqno: 3, planes: 3, hopsLeft: 64 }),
    route.encodeRouteDigest({ tag: 1, serial: 2, sums: new Uint32Array(16).fill(5) }),
    route.encodeRouteResync({ buckets: 0xffff, ownTag: 4, peerTag: 0 }),
    route.encodeRecordRequest({ destination: idA, recordHash: fill(8, 3) }),
    route.encodeRecordReply({ destination: idA, record: fill(90, 4) }),
    route.encodeBeacon({ seqno: 6, hasProof: true, gatewayMetric: 77 }),
    route.encodeProofFrame({ of: "receiver", proof }),
  ];
}

function readUpdate(frame: Uint8Array): void {
  const { entries, kind } = route.decodeUpdateHeader(frame);
  if (kind === route.UpdateKind.table) while (entries.remaining > 0) route.readUpdateEntry(entries);
}

function wireTargets(): Target[] {
  const routing = routeSeeds();
  const one = vector("receipt");
  const receipts = [one, vector("receiptBody")];
  const bodies = [message.encodeReceiptBody([one, one], fill(64, 1)), vector("receiptBody")];
  const compactBundles = [
    ...[
      vector("compactBundleFirst"),
      vector("compactBundleReferred"),
      vector("compactBundleAnswering"),
      vector("compactBundleDefined"),
    ],
    ...[vector("compactReceipts"), vector("compactClaim")],
  ];
  return [
    decoder("hello", [vector("hello")], (input) =>
      checkStable(peer.decodeHello(input), peer.encodeHello, peer.decodeHello),
    ),
    decoder("probe", [vector("probe"), vector("probeReply")], (input) =>
      input[0] === 3 ? peer.decodeProbeReply(input) : peer.decodeProbe(input),
    ),
    decoder("goodbye", [vector("goodbye")], peer.decodeGoodbye),
    decoder("packet", [vector("packet")], (input) => {
      const header = packet.decodePacketHeader(input);
      const payload = packet.packetPayload(input);
      checkStable(header, (value) => packet.encodePacket(value, payload), packet.decodePacketHeader);
    }),
    decoder("bundle", [vector("bundle")], (input) => {
      const { bundle: made, journey } = bundle.decodeBundleFrame(input);
      checkStable(
        { bundle: made, journey },
        (value) => bundle.encodeBundleFrame(value.bundle, value.journey),
        bundle.decodeBundleFrame,
      );
    }),
    decoder("compact bundle", compactBundles, (input) => {
      const short = compact.decodeCompactBundle(input);
      const id = formatBundleId(new Uint8Array([...short.check, ...fill(16 - short.check.length, 0)]));
      checkStable(short, (value) => compact.encodeCompactBundle(value, id), compact.decodeCompactBundle);
      compact.restoreSealed(short, "5c".repeat(8));
    }),
    decoder("compact ack", [vector("compactAck")], (input) =>
      checkStable(compact.decodeCompactAck(input), compact.encodeCompactAck, compact.decodeCompactAck),
    ),
    decoder("compact refuse", [vector("compactRefuse")], (input) =>
      checkStable(
        compact.decodeCompactRefuse(input),
        compact.encodeCompactRefuse,
        compact.decodeCompactRefuse,
      ),
    ),
    decoder("compact hello", [vector("compactHello"), vector("compactHelloWithTime")], (input) =>
      checkStable(compact.decodeCompactHello(input), compact.encodeCompactHello, compact.decodeCompactHello),
    ),
    decoder("compact packet", [vector("compactPacket")], (input) => {
      const ends = { sender: idA, receiver: alice.id };
      const short = shortenPacket(restorePacket(input, ends), ends);
      if (short !== undefined && !Bun.deepEquals(restorePacket(short, ends), restorePacket(input, ends)))
        throw new Error("not stable");
    }),
    decoder("unreadable", [vector("compactUnreadable")], compact.decodeUnreadable),
    decoder("bundle header", [vector("bundleHeader")], (input) =>
      checkStable(bundle.decodeBundleHeader(input), bundle.encodeBundleHeader, bundle.decodeBundleHeader),
    ),
    decoder("offer", [vector("offer"), vector("offerWithSums")], (input) =>
      checkStable(bundle.decodeOffer(input), bundle.encodeOffer, bundle.decodeOffer),
    ),
    decoder("revocation digest", [closedVector("revocationDigest")], (input) =>
      checkStable(
        revocation.decodeRevocationDigest(input),
        revocation.encodeRevocationDigest,
        revocation.decodeRevocationDigest,
      ),
    ),
    decoder("revocation list", [closedVector("revocationList")], (input) =>
      checkStable(
        revocation.decodeRevocationList(input),
        revocation.encodeRevocationList,
        revocation.decodeRevocationList,
      ),
    ),
    decoder("rotation", [closedVector("rotation")], (input) =>
      checkStable(decodeRotation(input), encodeRotation, decodeRotation),
    ),
    decoder("want", [vector("want")], bundle.decodeWant),
    decoder("chunk", [vector("chunk")], bundle.decodeChunk),
    decoder("custody ack", [vector("custodyAck")], (input) =>
      checkStable(bundle.decodeCustodyAck(input), bundle.encodeCustodyAck, bundle.decodeCustodyAck),
    ),
    decoder("custody refuse", [vector("custodyRefuse")], bundle.decodeCustodyRefuse),
    decoder("inner message", [vector("innerMessage")], (input) =>
      checkStable(message.decodeInnerMessage(input), message.encodeInnerMessage, message.decodeInnerMessage),
    ),
    ...compactMail.map(([name, implied, seeds]) =>
      decoder(name, seeds, (input) => {
        const read = decodeMail(input, implied);
        // What has the long header is the target before.
        if (input[0]! < message.PlainForm.compact) return;
        // Told whole: since the time of the context it would be rounded.
        const whole = { ...implied, context: undefined };
        checkStable(
          read,
          (value) => encodeCompact(compactStart(value, whole)!, value),
          (bytes) => decodeMail(bytes, whole),
        );
      }),
    ),
    decoder("mail context", [vector("mailContext")], (input) =>
      checkStable(decodeContext(input), encodeContext, decodeContext),
    ),
    decoder(
      "test bundle",
      [message.encodeTest(message.decodeReceipt(one).messageId, 64)],
      message.decodeTest,
    ),
    decoder("receipt", receipts, (input) =>
      checkStable(message.decodeReceipt(input), message.encodeReceipt, message.decodeReceipt),
    ),
    decoder("receipt body", bodies, (input) => {
      for (const inner of message.decodeReceiptBody(input).receipts) message.decodeReceipt(inner);
    }),
    decoder("session receipts", [vector("sessionReceipts"), vector("receiptBody")], (input) => {
      const read = message.decodeSessionReceipts(input);
      if (read !== undefined)
        checkStable(
          read,
          message.encodeSessionReceipts,
          (bytes) => message.decodeSessionReceipts(bytes) ?? [],
        );
    }),
    decoder("receipts wanted", [vector("receiptsWanted")], (input) =>
      checkStable(
        message.decodeReceiptsWanted(input),
        message.encodeReceiptsWanted,
        message.decodeReceiptsWanted,
      ),
    ),
    decoder("claim", [vector("claim"), vector("claimAnswer")], (input) => {
      message.decodeClaimAnswer(input);
      message.decodeClaim(input);
    }),
    decoder("route update", routing.slice(0, 1), readUpdate),
    decoder("route ack", [routing[1]!], route.decodeRouteAck),
    decoder("seqno request", [routing[2]!], route.decodeSeqnoRequest),
    decoder("route digest", [routing[3]!], route.decodeRouteDigest),
    decoder("route resync", [routing[4]!], route.decodeRouteResync),
    decoder("record request", [routing[5]!], route.decodeRecordRequest),
    decoder("record reply", [routing[6]!], route.decodeRecordReply),
    decoder("beacon", [routing[7]!], route.decodeBeacon),
    decoder("proof", [routing[8]!], route.decodeProofFrame),
    decoder("channel beacon", [channelBeacon.encodeChannelBeacon(BEACON_KEY, BEACON)], (input) => {
      // Its tag keeps all that is made up out: what is behind that is read under a tag that fits.
      channelBeacon.decodeChannelBeacon([BEACON_KEY], input);
      const said = input.subarray(0, -6);
      const tag = createHmac("sha256", BEACON_KEY).update(said).digest().subarray(0, 6);
      channelBeacon.decodeChannelBeacon([BEACON_KEY], Buffer.concat([said, tag]));
    }),
    decoder("lookup", [lookupVector("lookupName"), lookupVector("lookupNode")], (input) => {
      const read = lookup.decodeLookup(input);
      if (read !== undefined) checkStable(read, lookup.encodeLookup, (bytes) => lookup.decodeLookup(bytes)!);
    }),
    decoder(
      "lookup reply",
      [lookupVector("replyRecord"), lookupVector("replyProof"), lookupVector("replyNone")],
      (input) => {
        const read = lookup.decodeLookupReply(input);
        if (read !== undefined)
          checkStable(read, lookup.encodeLookupReply, (bytes) => lookup.decodeLookupReply(bytes)!);
      },
    ),
    decoder("member facts", [vector("memberFacts")], (input) =>
      checkStable(member.decodeMemberFacts(input), member.encodeMemberFacts, member.decodeMemberFacts),
    ),
    decoder("member digest", [vector("memberDigest")], member.decodeMemberDigest),
    decoder("member buckets", [vector("memberBuckets")], (input) =>
      checkStable(member.decodeMemberBuckets(input), member.encodeMemberBuckets, member.decodeMemberBuckets),
    ),
    decoder("member sync", [vector("memberSync")], (input) =>
      checkStable(member.decodeMemberSync(input), member.encodeMemberSync, member.decodeMemberSync),
    ),
    decoder("member query", [vector("memberQuery")], member.decodeMemberQuery),
    decoder("member ping", [vector("memberPing")], (input) =>
      checkStable(member.decodeMemberPing(input), member.encodeMemberPing, member.decodeMemberPing),
    ),
    decoder("member pong", [vector("memberPong")], (input) =>
      checkStable(member.decodeMemberPong(input), member.encodeMemberPong, member.decodeMemberPong),
    ),
  ];
}

function joinTargets(): Target[] {
  return [
    decoder("enrol request", [joinVector("enrolRequest")], join.decodeEnrolRequest),
    decoder("enrol grant", [joinVector("enrolGrant"), joinVector("enrolGrantLives")], (input) =>
      checkStable(
        join.decodeEnrolGrant(input),
        (grant) => join.encodeEnrolGrant(grant, FRAME_BYTES_MAX)!,
        join.decodeEnrolGrant,
      ),
    ),
    decoder("enrol refuse", [joinVector("enrolRefuse")], join.decodeEnrolRefuse),
    decoder("redemptions", [joinVector("redemptions")], (input) => {
      for (const bytes of join.decodeRedemptions(input)) decodeRedemption(bytes, "telex", () => true);
    }),
    decoder("invitation", [joinVector("invite")], (input) => {
      if (input.length === INVITE_BYTES) checkStable(decodeInvite(input), encodeInvite, decodeInvite);
    }),
    parser(
      "token",
      [joinVectors.closedToken, joinVectors.openToken],
      (input) => {
        const token = parseToken(input);
        if (!Bun.deepEquals(parseToken(formatToken(token)), token)) throw new Error("not stable");
      },
      texts("godwit1", "q", "p", " ", "\n", "GODWIT1"),
    ),
    // Behind the checksum, which mutation would never pass.
    decoder("token body", tokenBodies(), (input) =>
      parseToken(bech32m.encode("godwit", bech32m.toWords(input), false)),
    ),
    decoder("plugin package", [pluginPackage], decodePackage),
    decoder("plugin manifest", [pluginManifest], parseManifest),
    decoder("plugin frames", pluginFrameSeeds(), readPluginFrames),
    decoder("plugin datagram", [parseHex(pluginFrames.datagram, 13)!], (input) => {
      const datagram = decodeDatagram(input);
      if (datagram !== undefined && datagram.bytes.length + 3 > input.length) throw new Error("it grew");
      if (datagram !== undefined) encodeDatagram(datagram.bytes, datagram.at);
    }),
    parser("plugin permission", ["net.tcp", "broker.connect:*:80", "files.read:/a"], parsePermission),
    parser("peer lines", ["# a\ntcp://192.0.2.1:1 # b\ntcp://[::1]:2, tor://x:3\n"], parseLines),
    parser(
      "peer list",
      ['{"payload":"e30=","signature":"AAAA"}'],
      (input) => {
        try {
          openList(input, bob.dh.publicKey);
        } catch (error) {
          // Its errors become words of a health report.
          if (!(error instanceof Error) || error instanceof TypeError) throw error;
        }
      },
      jsonTokens,
    ),
  ];
}

const pluginFrameSeeds = (): Uint8Array[] =>
  Object.values(pluginFrames).map((hex) => parseHex(hex, hex.length / 2)!);

/** Cut in the middle, so that what waits is judged too; what one end took, another must take the same. */
function readPluginFrames(input: Uint8Array): void {
  const whole: Uint8Array[] = [];
  const cut: Uint8Array[] = [];
  const into = (list: Uint8Array[]) =>
    new FrameReader((type, id, body) => {
      list.push(encodeFrame(type, id, body));
      if (type === 0x0c || type === 0x0e) {
        const { json, bytes } = decodeParts(body, 65_536);
        checkStable(
          json,
          (value) => encodeParts(value, bytes),
          (again) => decodeParts(again).json,
        );
      }
    });
  into(whole).push(input);
  const reader = into(cut);
  const middle = input.length >> 1;
  reader.push(input.subarray(0, middle));
  reader.push(input.subarray(middle));
  if (!Bun.deepEquals(whole, cut)) throw new Error("a cut stream is read in another way");
}

const tokenBodies = (): Uint8Array[] =>
  [joinVectors.closedToken, joinVectors.openToken].map(
    (token) => new Uint8Array(bech32m.fromWords(bech32m.decode(token as `${string}1${string}`, false).words)),
  );

function linkTargets(): Target[] {
  const random = seededRandom(3);
  const items = [
    Uint8Array.of(5, 1, 2, 3, 4, 5, 2, 9, 9),
    Uint8Array.of(0, 5, 0),
    Uint8Array.of(0, 1, 3, 1, 2, 3, 1, 7),
    new Uint8Array([0x80, 0x02, ...fill(256, 0x20)]),
  ];
  const first = Object.entries(HANDSHAKE_BYTES).map(([type, length]) =>
    Uint8Array.of(Number(type), 1, 1, ...random.bytes(length - 3)),
  );
  return [
    decoder("record items", items, (input) =>
      decodeItems(input, FRAME_BYTES_MAX, {
        onFrame: (frame) => {
          if (frame.length === 0) throw new Error("an empty frame");
          return true;
        },
        onControl: () => true,
      }),
    ),
    ...fragmentTargets(),
    // Callers check the length by the type first; the parser relies on it.
    decoder("message 1", first, (input) => {
      if (HANDSHAKE_BYTES[input[0] ?? 0] === input.length) parseMessage1(input);
    }),
  ];
}

/** Datagrams one after the other, each behind its length, and what a far end says of pieces. */
function fragmentTargets(): Target[] {
  const record = Uint8Array.of(0xc1, 0, 7, ...fill(400, 0x33));
  const pieces = cutRecord(record, 2, 150);
  const framed = (datagrams: readonly Uint8Array[]) =>
    new Uint8Array(datagrams.flatMap((bytes) => [bytes.length, ...bytes]));
  const clock = new ManualClock();
  return [
    decoder("pieces of records", [framed(pieces), framed(pieces.toReversed())], (input) => {
      const counters = { recordsReplayed: 0, fragmentsCollected: 0, recordsUnfinished: 0 };
      const ask = (came: Uint8Array) => {
        if (came.length < 3 || came.length > 11) throw new Error("a question of a length that there is not");
      };
      const collected = new CollectedFragments({ clock, counterBytes: 2, counters, silenceMs: () => 1, ask });
      for (let at = 0; at < input.length; at += 1 + input[at]!) {
        const fragment = decodeFragment(input.subarray(at + 1, at + 1 + input[at]!), 2);
        const whole = fragment && collected.take(fragment);
        if (whole !== undefined && (whole.record[0]! & 0xbc) !== 0x80)
          throw new Error("a record with flags that none has");
        if (collected.count > 8) throw new Error("more records than there is room for");
      }
      collected.clear();
    }),
    decoder("what has come of a record", [Uint8Array.of(0xc1, 0, 7, 0b1010_0000)], (input) => {
      const sent = new SentFragments(clock, 2);
      for (const departure of sent.keep(pieces)) departure.leftAtMs = clock.monotonicMs();
      for (const { datagram } of sent.missing(input))
        if (!pieces.includes(datagram)) throw new Error("something else is sent again");
    }),
  ];
}

function identityTargets(): Target[] {
  const random = seededRandom(4);
  const fields = {
    sequence: 5,
    callsign: "DUN-A",
    endpoints: ["tcp://192.0.2.1:4860"],
    capabilities: ["relay"],
    prekey: { keyId: 7, publicKey: bob.dh.publicKey },
    nameProof: signName(bob, { callsign: "DUN-A", id: alice.id, serial: 1 }, NETWORK),
  };
  const records = [
    encodeRecord(alice, fields, NETWORK),
    encodeRecord(alice, { sequence: 1, location: "DUN" }, NETWORK),
    encodeRecord(alice, { ...fields, capabilities: ["mail-sessions"], withBrief: true }, NETWORK),
    lookupVector("brief"),
    encodeRevocation(alice, alice.id, NETWORK),
    encodeRevocation(bob, alice.id, NETWORK),
    encodeRevocation(bob, alice.id, NETWORK, "stolen"),
  ];
  const associated = vector("bundleHeader");
  const seal = (plaintext: Uint8Array) => sealTo({ from: alice, to: bob.id, plaintext, associated }, random);
  const sealed = [seal(vector("innerMessage")), seal(fill(65_600, 1))];
  return [
    decoder("record", records, (input) => decodeRecord(input, NETWORK, verifySignature, bob.id)),
    // Its fields, which a signature would otherwise keep from being reached.
    decoder("record unsigned", records, (input) => {
      const brief = briefOf(decodeRecord(input, NETWORK, () => true, bob.id));
      if (brief !== undefined) decodeRecord(brief, NETWORK, () => true);
    }),
    decoder("sealed", sealed, (input) =>
      openSealed({
        identity: bob,
        prekeys: { find: () => undefined },
        from: alice.id,
        sealed: input,
        associated,
      }),
    ),
    decoder("session head", sessionHeads, readSessionHead),
    decoder("sealed in a session", sealedInSession(associated), (input) =>
      opensSessions.open(alice.id, input, associated, {
        find: () => ({ keys: new ReceivingKeys(sessionRoot), keyId: 1 }),
        since: () => undefined,
      }),
    ),
    parser("key file", [formatKeyFile(alice)], (input) => parseKeyFile(input, "identity.key")),
    parser(
      "name proof",
      [
        formatNameGrant({
          callsign: "DUN-A",
          id: alice.id,
          ...signName(bob, { callsign: "DUN-A", id: alice.id, serial: 1 }, NETWORK),
        }),
      ],
      (input) => checkText(parseNameGrant(input), formatNameGrant, parseNameGrant),
    ),
    parser(
      "revocation text",
      [formatRevocation(encodeRevocation(bob, alice.id, NETWORK, "stolen"))],
      (input) => checkText(parseRevocation(input), formatRevocation, parseRevocation),
    ),
    parser("address", ["DUN-A", "DUN", alice.id, alice.id.toUpperCase()], (input) => {
      const address = parseAddress(input);
      const again = parseAddress(formatAddress(address));
      if (!Bun.deepEquals(address, again)) throw new Error("the canonical form is another address");
    }),
    parser("endpoint", ["tcp://192.0.2.1:4860", "tcp://[2001:db8::1]:4860"], parseTcpEndpoint),
    parser("units", ["10s", "1.5h", "64MiB", "3d"], (input) => [parseDuration(input), parseSize(input)]),
  ];
}

const sessionRoot = fill(32, 0x21);
const sessionId = fill(8, 0x22);
const sessionAgreement = { keyId: 7, ephemeral: alice.dh.publicKey };
const sessionHeads = [false, true].flatMap((isSegmented) => [
  sealedHead.encodeSessionHead({ isSegmented, counter: 0, agreed: sessionAgreement }),
  sealedHead.encodeSessionHead({ isSegmented, counter: sealedHead.COUNTER_MAX, id: sessionId }),
]);

/** It is the shortest there is: what was read is what is written, whatever follows. */
function readSessionHead(input: Uint8Array): void {
  const { bytes, ...head } = sealedHead.decodeSessionHead(input);
  if (Buffer.compare(sealedHead.encodeSessionHead(head), input.subarray(0, bytes)) !== 0)
    throw new Error("a second way to write a head");
  const named = sealedHead.namedSession(input);
  if ((named === undefined) !== (head.agreed !== undefined)) throw new Error("named otherwise");
}

/** Sealed by alice for bob, so that what is changed is all that keeps it from being opened. */
function sealedInSession(associated: Uint8Array): Uint8Array[] {
  const binding = { network: NETWORK, from: alice.id, to: bob.id, associated };
  const keys = new ReceivingKeys(sessionRoot);
  return [sessionAgreement, undefined].flatMap((agreed) => {
    const under = (counter: number) => ({ id: sessionId, agreed, counter, key: keys.key(counter) });
    const long = fill(65_600, 1);
    const { opening, segment } = sealSegmentsInSession(under(300), binding, long.length, fill(32, 2));
    const segments = [segment(0, long.subarray(0, 65_519)), segment(1, long.subarray(65_519))];
    return [
      sealInSession(under(5), binding, vector("innerMessage")),
      new Uint8Array(Buffer.concat([opening, ...segments])),
    ];
  });
}

const opensSessions = createSealer({
  identity: bob,
  prekeys: { find: () => bob.dh, callsignOf: () => "LON-B", onGone() {} },
  recordOf: () => undefined,
  sessions: { network: NETWORK, clock: new ManualClock(), random: seededRandom(5) },
});

function streamTargets(): Target[] {
  const { messages, frames: inside } = streamVectors;
  const nothing: streams.FrameSink = {
    onPing() {},
    onAck(ranges) {
      if (ranges.length > 64) throw new Error("an acknowledgement above the bound");
    },
    onOpen() {},
    onData() {},
    onCredit() {},
    onReset() {},
    onAccepted() {},
    onClose() {},
  };
  return [
    decoder("stream open", [bytesOf(messages.open)], streams.decodeOpen),
    decoder("stream accept", [bytesOf(messages.accept)], streams.decodeAccept),
    decoder("stream gone", [bytesOf(messages.gone)], streams.decodeGone),
    decoder("stream record", [bytesOf(messages.record)], streams.decodeRecordHeader),
    decoder("stream frames", [bytesOf(inside.hex)], (input) => streams.decodeFrames(input, nothing)),
    parser("forward target", ["127.0.0.1:80", "[fd00::1]:22", "db.example:5432"], (input) => {
      const target = parseTarget(input);
      if (target !== undefined)
        decideAllowed([{ from: ["x"], targets: ["10.0.0.0/8:22", "[fd00::/8]:*"] }], () => true, target);
    }),
    parser("forward pattern", ["10.0.0.0/8:22", "[fd00::/8]:*", "localhost:80"], parsePattern),
  ];
}

export const decoderTargets = (): Target[] => [
  ...wireTargets(),
  ...joinTargets(),
  ...transportTargets(),
  ...linkTargets(),
  ...identityTargets(),
  ...textTargets(),
  ...streamTargets(),
  ...initTargets(),
];
