/** Commands that ask one plugin of a running node: rows of the table of commands. */
import type { CommandSpec, OptionSpec } from "./command.ts";
import { none, row, watched } from "./row.ts";

const wg = () => import("./commands/wg.ts");
const radio = () => import("./commands/radio.ts");
const serf = () => import("./commands/serf.ts");

const ofTransport: OptionSpec = { value: "NAME", help: "of the transport, where there are several" };
const ofDiscovery: OptionSpec = { value: "NAME", help: "of the discovery, where there are several" };

export const pluginRows: readonly CommandSpec[] = [
  row("wg show", "", none, "the WireGuard interface and its peers", async () => (await wg()).show, {
    transport: ofTransport,
    ...watched,
  }),
  row(
    "wg peer-config",
    "NAME",
    [1, 1],
    "let a plain WireGuard device in; prints its configuration",
    async () => (await wg()).peerConfig,
    {
      "public-key": { value: "KEY", help: "of the device; by default a key pair is made and printed" },
      endpoint: { value: "HOST:PORT", help: "where the device reaches this node" },
      transport: ofTransport,
    },
  ),
  row("wg remove", "NAME", [1, 1], "let a plain device in no more", async () => (await wg()).remove, {
    transport: ofTransport,
  }),
  row("wg rotate", "", none, "give this node a new WireGuard key", async () => (await wg()).rotate, {
    transport: ofTransport,
  }),
  row(
    "radio setup",
    "",
    none,
    "find a Meshtastic radio, say what it is, propose its tables; changes nothing unasked",
    async () => (await import("./commands/radio-setup.ts")).setup,
    {
      port: { value: "PATH", help: "its serial port, best by its name under /dev/serial/by-id" },
      host: { value: "HOST[:PORT]", help: "a radio on the network; port 4403 unless said" },
      channel: {
        value: "NAME",
        help: 'the channel to use; by default the first one with a key of its own, else "godwit"',
      },
      key: {
        value: "file:PATH",
        help: "its key, as another setup left it (or credential:NAME, env:NAME); by default a new one",
      },
      region: { value: "NAME", help: "where the radio is, such as EU_868 or US; never guessed" },
      preset: { value: "NAME", help: "such as LongFast or MediumFast; by default as it is" },
      name: { value: "NAME", help: "of the tables, instead of radio and lora" },
      yes: { help: "add the tables to the configuration without asking" },
      "write-device": { help: "change the radio as shown, after a yes" },
      confirm: { value: "NUMBER", help: "the yes to --write-device, of the radio with that number" },
    },
  ),
  row("radio list", "", none, "the radios of this node", async () => (await radio()).list, watched),
  row(
    "radio show",
    "[NAME]",
    [0, 1],
    "what a radio is: number, firmware, region, preset, channels",
    async () => (await radio()).show,
    watched,
  ),
  row(
    "radio airtime",
    "[NAME]",
    [0, 1],
    "how busy a radio's channel is, and what this node took of it",
    async () => (await radio()).airtime,
    watched,
  ),
  row(
    "serf members",
    "",
    none,
    "members of the Serf cluster, and which of them are nodes",
    async () => (await serf()).members,
    { discovery: ofDiscovery, ...watched },
  ),
  row(
    "serf event",
    "[NAME [PAYLOAD]]",
    [0, 2],
    "send an event to the Serf cluster; without a name those that came",
    async () => (await serf()).event,
    {
      "no-coalesce": { help: "each one counts, also of the same name" },
      discovery: ofDiscovery,
    },
  ),
  row(
    "serf query",
    "NAME [PAYLOAD]",
    [1, 2],
    "ask the members of the Serf cluster",
    async () => (await serf()).query,
    {
      node: { value: "NAME", help: "only this member; again for more", repeats: true },
      tag: { value: "TAG=EXPRESSION", help: "only members whose tag matches; again for more", repeats: true },
      relay: { value: "N", help: "send answers through N others as well, 0 to 8" },
      timeout: { value: "DURATION", help: "how long answers are waited for, at most 25s" },
      discovery: ofDiscovery,
    },
  ),
  row(
    "serf keys",
    "list|install|use|remove [KEY]",
    [1, 2],
    "the gossip keys of all members of the Serf cluster; KEY may be file:/path",
    async () => (await serf()).keys,
    { discovery: ofDiscovery },
  ),
  row(
    "serf remove",
    "NAME",
    [1, 1],
    "take a failed member of the Serf cluster for one that left",
    async () => (await serf()).remove,
    { prune: { help: "and forget it at once" }, discovery: ofDiscovery },
  ),
];
