/** What transports read from strangers, from daemons beside them and from the kernel. */
import {
  ControlSyntaxError,
  infoOf,
  parseWords,
  ReplyParser,
} from "../../plugins/transport-tor/control-reply.ts";
import { formatTorEndpoint, parseDoor, parseTorEndpoint } from "../../plugins/transport-tor/endpoint.ts";
import { judgeEvent, initialStatus, planHealth } from "../../plugins/transport-tor/status.ts";
import { parseDevice as parseKernelDevice } from "../../plugins/transport-wireguard/kernel.ts";
import { parseWgEndpoint } from "../../plugins/transport-wireguard/endpoint.ts";
import wireguard from "../../plugins/transport-wireguard/vectors.json";
import { decodePluginMessage, encodePluginMessage } from "../../runtime/wire/plugin-messages.ts";
import spoken from "../../sdk/src/netlink/vectors.json";
import netlink from "../vectors/netlink.json";
import { decodeUdp, encodeData, encodeUdp, UdpKind } from "../../plugins/transport-udp/wire.ts";
import {
  formatWebSocketEndpoint,
  isHostAllowed,
  parseWebSocketEndpoint,
} from "../../plugins/transport-websocket/endpoint.ts";
import * as frames from "../../plugins/transport-websocket/frames.ts";
import { parseProxy } from "../../plugins/transport-websocket/proxy.ts";
import * as rtnetlink from "@godwit/sdk/netlink";
import * as punch from "../../runtime/wire/punch.ts";
import type { Target } from "./engine.ts";
import { bytesOf, checkStable, checkText, decoder, fill, parser, utf8 } from "./target.ts";

export function transportTargets(): Target[] {
  const id = fill(8, 7);
  const called = { step: punch.PunchStep.call, nonce: id, endpoints: ["udp://192.0.2.1:4861"] };
  return [
    decoder(
      "udp datagram",
      [encodeData(true, id, 1, fill(9, 0x80)), encodeUdp(UdpKind.feedback, false, id, 8)],
      decodeUdp,
    ),
    decoder("observed", [punch.encodeObserved("udp://[2001:db8::1]:4861")], (input) =>
      checkStable(punch.decodeObserved(input), punch.encodeObserved, punch.decodeObserved),
    ),
    decoder("punch", [new Uint8Array([...punch.encodePunch(called), ...fill(64, 3)])], (input) => {
      const { body } = punch.decodePunch(input);
      if (body.length > input.length - 64) throw new Error("the signature is not behind the body");
    }),
    ...netlinkTargets(),
    ...torTargets(),
    decoder("plugin message", [encodePluginMessage("transport.wireguard", fill(32, 5))], (input) =>
      decodePluginMessage(input),
    ),
    parser("wireguard endpoint", [`wg://${"AQEB".repeat(10)}AQE/192.0.2.7:1,[::1]:2`], parseWgEndpoint),
    ...webSocketTargets(),
    parser("host header", ["a.example:443", "[::1]:1", "192.0.2.1"], (input) =>
      isHostAllowed(input, ["a.example"]),
    ),
  ];
}

/** What servers say to a dialler and callers to a listener: read in pieces, it is what it is whole. */
function webSocketTargets(): Target[] {
  const { Opcode } = frames;
  const key = "dGhlIHNhbXBsZSBub25jZQ==";
  const read = (from: "client" | "server", input: Uint8Array, pieceBytes: number) => {
    const heard: string[] = [];
    let data = "";
    const reader = new frames.FrameReader(from, {
      data: (bytes) => (data += Buffer.from(bytes).toString("hex")),
      control: (opcode, payload) => {
        if (payload.length > 125) throw new Error("a control frame is too long");
        heard.push(`${opcode} ${Buffer.from(payload).toString("hex")}`);
      },
    });
    let isGood = true;
    for (let at = 0; at < input.length && isGood; at += pieceBytes)
      isGood = reader.push(input.slice(at, at + pieceBytes));
    return { isGood, heard, data };
  };
  const framesOf = (from: "client" | "server") => {
    const mask = from === "client" ? Uint8Array.of(1, 2, 3, 4) : undefined;
    const frame = (opcode: number, length: number) => frames.encodeFrame(opcode, fill(length, 7), mask);
    const seeds = [frame(Opcode.binary, 3), frame(Opcode.ping, 5), frame(Opcode.close, 2)];
    return decoder(
      `websocket frames of a ${from}`,
      [...seeds, new Uint8Array([...frame(Opcode.binary, 130), ...seeds[1]!, ...seeds[2]!])],
      (input) => {
        const [whole, pieces] = [read(from, input, input.length || 1), read(from, input, 1)];
        if (!Bun.deepEquals(whole, pieces)) throw new Error("pieces are read as something else");
      },
    );
  };
  return [
    framesOf("client"),
    framesOf("server"),
    parser("websocket answer", [frames.encodeSwitch(key, "godwit.1").trimEnd()], (input) => {
      const answer = frames.parseAnswer(input);
      if (answer !== undefined) frames.refusalOf(answer, key, "godwit.1");
    }),
    parser("websocket request", [frames.encodeUpgrade("a:1", "/x", key, "godwit.1").trimEnd()], (input) => {
      frames.parseUpgrade(input);
    }),
    parser(
      "websocket endpoint",
      ["wss://a.example:443/godwit", "ws://[::1]:1/", "ws://[fe80::1%25eth0]:1/x", "ws://[fe80::1%2]:80/"],
      (input) => checkText(parseWebSocketEndpoint(input), formatWebSocketEndpoint, parseWebSocketEndpoint),
    ),
    parser("proxy", ["http://user:pass%20word@a.example:3128/", "https://[::1]"], parseProxy),
  ];
}

function netlinkTargets(): Target[] {
  const hex = (list: readonly string[]) => list.map(bytesOf);
  const each = (parse: (message: rtnetlink.NetlinkMessage) => unknown) => (input: Uint8Array) => {
    for (const spokenMessage of rtnetlink.parseMessages(input)) parse(spokenMessage);
  };
  return [
    decoder(
      "netlink links",
      hex(netlink.links),
      each(({ body }) => rtnetlink.parseLink(body)),
    ),
    decoder(
      "netlink addresses",
      hex(netlink.addresses),
      each(({ body }) => rtnetlink.parseAddress(body)),
    ),
    decoder(
      "netlink routes",
      hex(spoken.routes),
      each(({ body }) => rtnetlink.parseRoute(body)),
    ),
    decoder("netlink outcomes", hex(spoken.outcomes), each(rtnetlink.parseOutcome)),
    decoder("wireguard of the kernel", hex(Object.values(wireguard)), (input) =>
      parseKernelDevice(rtnetlink.parseMessages(input)),
    ),
    decoder("generic netlink family", hex(spoken.family), each(rtnetlink.parseFamily)),
  ];
}

function torTargets(): Target[] {
  const replies = [
    '250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/a \\"b"\r\n250 OK\r\n',
    "250+onions/detached=\r\nabc\r\n..def\r\n.\r\n250 OK\r\n",
    '650 STATUS_CLIENT WARN BOOTSTRAP PROGRESS=10 WARNING="No route"\r\n650 STATUS_GENERAL WARN CLOCK_SKEW SKEW=-7\r\n',
  ].map((reply) => utf8.encode(reply));
  return [
    decoder("tor control replies", replies, (input) => {
      try {
        for (const { lines } of new ReplyParser().push(input))
          for (const line of lines) {
            parseWords(line.text);
            infoOf({ code: 250, lines }, "onions/detached");
            const event = judgeEvent(initialStatus, line.text);
            if (event.kind === "status") planHealth(event.status, true);
          }
      } catch (error) {
        // Its errors end the control connection.
        if (!(error instanceof ControlSyntaxError)) throw error;
      }
    }),
    parser("tor endpoint", ["tor://peer.example:1", "tor://[2001:db8::1]:80"], (input) => {
      parseDoor(input);
      const target = parseTorEndpoint(input);
      if (!Bun.deepEquals(parseTorEndpoint(formatTorEndpoint(target)), target)) throw new Error("not stable");
    }),
  ];
}
