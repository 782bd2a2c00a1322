/** What people and programs write as text: configuration, JSON of the API, telegrams, what a caller types. */
import { z } from "zod";
import { LineReader } from "../../plugins/service-telex/lines.ts";
import { readTelegram } from "../../plugins/service-telex/telegram.ts";
import { parseJson } from "../../runtime/api/body.ts";
import { parseConfig } from "../../runtime/config/load.ts";
import { generateIdentity } from "../../runtime/identity/keys.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { Target } from "./engine.ts";
import { parser, texts, utf8 } from "./target.ts";

const someone = generateIdentity(seededRandom(1));

export const jsonTokens = texts(
  '"',
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  "null",
  "1e999",
  "-0",
  "\\u0000",
  "\\ud800",
  "__proto__",
  '"constructor"',
  "\u2028",
  "[[[[[[[[",
  '{"a":',
);
const tomlTokens = [
  ...jsonTokens,
  ...texts(
    "\n",
    "=",
    "[[",
    "]]",
    "[node]",
    "'''",
    '"""',
    "#",
    "inf",
    "nan",
    "0x",
    "1979-05-27T07:32:00Z",
    ".",
    "\\",
    "\ufeff",
    "file:",
    "env:",
  ),
];

const toml = `[node]
callsign = "DUN-A"
network = "telex"
state_dir = "/tmp/x"
network_secret = "env:KEY"

[transports.lan]
type = "tcp"
listen = ["0.0.0.0:4860"]

[discovery.neighbours]
type = "static"
peers = ["tcp://192.0.2.1:4860"]

[api]
listen = "127.0.0.1:8000"

[names]
"NYC-C" = "${someone.id}"

[delivery]
lifetime = "72h"
`;

const wantsAnything = z.looseObject({});

export function textTargets(): Target[] {
  const json = JSON.stringify(Bun.TOML.parse(toml), undefined, 1);
  const env = { KEY: "correct horse battery staple", GODWIT_NODE__NETWORK: "other" };
  const telegram = JSON.stringify({
    message_id: "0b8cd6b5-f0a9-4e83-8dd2-b1f9a6f7a3f2",
    timestamp_created: "2026-01-31T12:00:00Z",
    routing: { source: "DUNA", destination: "NYCC", priority: 5 },
    content: { subject: "TEST", body: "HELLO", content_type: "text/plain" },
    trace: [{ node_id: "DUN-A", timestamp: "2026-01-31T12:00:00Z" }],
  });
  return [
    parser("config toml", [toml], (input) => parseConfig(input, { env, format: "toml" }), tomlTokens),
    parser("config json", [json], (input) => parseConfig(input, { env, format: "json" }), jsonTokens),
    {
      name: "api json",
      seeds: texts('{"to":"DUN-A","body":"hi"}', '{"a":[1,2,{"b":"\\"\\\\"}]}'),
      tokens: jsonTokens,
      run: (input) => void wantsAnything.safeParse(parseJson(input)),
    },
    parser(
      "telegram",
      [telegram],
      (input) => readTelegram(parseJson(utf8.encode(input)), 65_536),
      jsonTokens,
    ),
    {
      name: "telex line",
      seeds: [
        ...texts("send nycc\r\nHELLO\b\bLO\r\nNNNN\r\n", `${telegram}\n`),
        Uint8Array.of(255, 253, 1, 65, 255, 250, 24, 0, 255, 240, 13, 0, 5, 3, 4, 255, 246),
      ],
      tokens: [...jsonTokens, Uint8Array.of(255), Uint8Array.of(255, 250), Uint8Array.of(13, 0)],
      run(input) {
        let replied = 0;
        const reader = new LineReader({ lineBytesMax: 1_024, reply: (bytes) => (replied += bytes.length) });
        readLines(reader, input);
        if (replied > 4 * 256) throw new Error(`${replied} bytes of negotiation`);
      },
    },
  ];
}

function readLines(reader: LineReader, input: Uint8Array): void {
  for (const byte of input) {
    const item = reader.push(byte);
    if (item?.kind === "line" && item.text.length > 1_024) throw new Error("a line above the bound");
  }
  reader.finish();
}
