/** Every command that exists, in the order of the help. A row here is all that the help, the parser and the hints know. */
import type { CommandSpec, OptionSpec } from "./command.ts";
import { configRows } from "./config-rows.ts";
import { nodeRows } from "./node-rows.ts";
import { pluginRows } from "./plugin-rows.ts";
import { hidden, none, paging, row, watched } from "./row.ts";

const mesh = () => import("./commands/mesh.ts");
const messages = () => import("./commands/messages.ts");
const tokens = () => import("./commands/tokens.ts");
const plugin = () => import("./commands/plugin.ts");
const author = () => import("./commands/plugin-author.ts");
const offers = () => import("./commands/offers.ts");
const closed = () => import("./commands/closed.ts");

const out: OptionSpec = { value: "FILE", help: "write it there, readable by you alone" };
const key: OptionSpec = { value: "FILE", help: "the authority's key; godwit-authority.key by default" };
const network: OptionSpec = { value: "NAME", help: "name of the mesh, instead of the configuration's" };
const listening: Readonly<Record<string, OptionSpec>> = {
  listen: {
    value: "ADDRESS",
    help: "where neighbours call, instead of [::]:4860; again for more",
    repeats: true,
  },
  api: { value: "ADDRESS", help: "where the API listens, instead of 127.0.0.1:8000; off for nowhere" },
};
const reason: OptionSpec = { value: "TEXT", help: "why, at most 64 bytes; everybody sees it" };

const inbox = row("inbox", "", none, "messages for this node", async () => (await messages()).inbox, {
  ...paging,
  ...watched,
});
const outbox = row("outbox", "", none, "messages of this node", async () => (await messages()).outbox, {
  ...paging,
  ...watched,
});
const discovery = row(
  "discovery",
  "",
  none,
  "what was heard of other nodes, and what became of it",
  async () => (await import("./commands/discovery.ts")).discovery,
  watched,
);
const names = row("names", "", none, "which node a name means", async () => (await mesh()).names, watched);

export const commands: readonly CommandSpec[] = [
  row("run", "", none, "be a node, in the foreground", async () => (await import("./commands/run.ts")).run, {
    join: {
      value: "file:PATH",
      help: "join with this invitation (or credential:NAME, or the line itself) where there is no configuration yet",
    },
    "telex-config": {
      value: "PATH",
      help: "instead of a configuration: the file of a Project Telex node, and its TELEX_* variables; it is only read",
    },
  }),
  row(
    "init",
    "",
    none,
    "write a starter configuration and make the identity",
    async () => (await import("./commands/init.ts")).init,
    {
      callsign: { value: "DUN-A", help: "name of this machine, LOCATION-MACHINE" },
      network: { value: "NAME", help: "name of the mesh" },
      "state-dir": { value: "PATH", help: "where identity, messages and socket live" },
      ...listening,
      peer: { value: "URL", help: "a neighbour to dial, such as tcp://10.0.0.2:4860", repeats: true },
      mdns: { help: "find the nodes of this LAN, and be found by them" },
      force: { help: "replace an existing configuration (never the identity)" },
    },
  ),
  row(
    "join",
    "[-|file:PATH|TOKEN]",
    [0, 1],
    "become a member by an invitation, from standard input or a file; writes the configuration",
    async () => (await import("./commands/join.ts")).join,
    {
      file: { value: "PATH", help: "the file that holds the invitation" },
      callsign: { value: "DUN-A", help: "name of this machine, instead of what the invitation says" },
      "state-dir": { value: "PATH", help: "where identity, messages and socket live" },
      ...listening,
    },
  ),
  row(
    "invite",
    "",
    none,
    "make an invitation: one line and its QR code",
    async () => (await import("./commands/invite.ts")).invite,
    {
      ttl: { value: "1h", help: "how long it is good for, 1m to 30d; one hour by default" },
      uses: { value: "N", help: "nodes that may join by it, 1 by default" },
      callsign: { value: "DUN-A", help: "what the newcomer is to be called" },
      "qr-only": { help: "print the QR code and nothing else" },
      "no-qr": { help: "print no QR code" },
      light: { help: "the terminal writes dark on light" },
    },
  ),
  row(
    "install",
    "",
    none,
    "make it a service of this machine, or of the tree of an image",
    async () => (await import("./commands/install.ts")).install,
    {
      systemd: { help: "as a systemd service: binary, unit, and a configuration if there is none" },
      api: { help: "let systemd open the API's sockets too (godwit.socket)" },
      root: { value: "DIR", help: "into this tree instead of the running system" },
      undo: { help: "remove what was installed; configuration and state stay" },
      purge: { help: "with --undo: remove configuration, identity and messages too" },
      "dry-run": { help: "say what would be done, and do nothing" },
    },
  ),
  row("id", "", none, "this node's id, running or not", async () => (await import("./commands/init.ts")).id),
  ...configRows,
  ...nodeRows,
  row(
    "send",
    "ADDRESS [TEXT|-]",
    [1, 10_000],
    "send a message; it is safe once this returns",
    async () => (await import("./commands/send.ts")).send,
    {
      file: { value: "PATH", help: "send a file, at most 16 MiB" },
      subject: { value: "TEXT", help: "a subject line" },
      "content-type": { value: "TYPE", help: "media type of the body" },
      priority: { value: "0..3", help: "0 is most urgent; 2 by default" },
      ttl: { value: "DURATION", help: "how long it may take, such as 90s, 30m, 72h or 7d" },
      failover: { help: "another machine of the location may take it when this one stays silent" },
      "no-failover": { help: "this machine or none" },
      transient: { help: "now or never: skips the queue" },
      key: { value: "KEY", help: "idempotency key: the same key gives the same message" },
      wait: { help: "wait for the receipt; exit 1 if it is not delivered" },
      timeout: { value: "DURATION", help: "with --wait: how long" },
    },
  ),
  inbox,
  hidden("inbox list", inbox),
  row("inbox read", "ID", [1, 1], "one message with its body", async () => (await messages()).read, {
    raw: { help: "the exact bytes of the body, for a file or a pipe" },
    save: { value: "FOLDER", help: "write the body there, under the name of the file that was sent" },
  }),
  row("inbox rm", "ID...", [1, 1_000], "remove messages", async () => (await messages()).remove),
  outbox,
  hidden("outbox list", outbox),
  row("outbox rm", "ID...", [1, 1_000], "withdraw messages", async () => (await messages()).remove),
  row(
    "message",
    "ID",
    [1, 1],
    "where a message is, its receipt and its trace",
    async () => (await messages()).show,
    watched,
  ),
  discovery,
  names,
  hidden("names list", names),
  row(
    "names resolve",
    "NAME NODE",
    [2, 2],
    "settle a conflict: NODE gets NAME",
    async () => (await mesh()).resolveName,
  ),
  row(
    "names forget",
    "NAME",
    [1, 1],
    "drop a pinned name; the next claim counts",
    async () => (await closed()).forgetName,
  ),
  row(
    "names adopt",
    "PROOF|FILE",
    [1, 1],
    "carry the authority's proof of this node's name",
    async () => (await closed()).adoptName,
  ),
  row(
    "trust",
    "NODE LEVEL",
    [2, 2],
    "set trust: unknown, member, trusted or blocked",
    async () => (await mesh()).trust,
    {
      reason: { value: "TEXT", help: "why; needed" },
      for: { value: "DURATION", help: "like 2h or 7d; without it for good" },
    },
  ),
  row(
    "secret",
    "",
    none,
    "network secrets that open links",
    async () => (await closed()).secretList,
    watched,
  ),
  row("secret new", "[FILE...]", [0, 16], "make a network secret", async () => (await closed()).secretNew, {
    out,
  }),
  row(
    "secret rotate",
    "",
    none,
    "replace the network secret on every member, over the mesh",
    async () => (await closed()).secretRotate,
    {
      out,
      key: { value: "FILE", help: "the authority's key; not needed where any member may rotate" },
      everyone: { help: "also to nodes that neither the authority nor this operator vouches for" },
    },
  ),
  row(
    "secret retire",
    "",
    none,
    "end the overlap on this node: old secrets open nothing",
    async () => (await closed()).secretRetire,
  ),
  row(
    "authority init",
    "",
    none,
    "make the key that binds names and revokes nodes",
    async () => (await closed()).authorityInit,
    { key },
  ),
  row(
    "authority sign-name",
    "NAME NODE",
    [2, 2],
    "a proof that NODE is NAME",
    async () => (await closed()).authoritySignName,
    {
      key,
      network,
      out,
      serial: { value: "N", help: "1 by default; a name moves with a higher one" },
    },
  ),
  row(
    "authority revoke",
    "NODE",
    [1, 1],
    "a revocation of NODE, for good",
    async () => (await closed()).authorityRevoke,
    { key, network, out, reason },
  ),
  row(
    "revoke",
    "",
    none,
    "put a revocation into force in the whole mesh",
    async () => (await closed()).revoke,
    { publish: { value: "FILE", help: "the revocation, or a file that holds it" } },
  ),
  row(
    "revoke self",
    "",
    none,
    "a revocation of this machine's node by its own key",
    async () => (await closed()).revokeSelf,
    { out, reason, confirm: { value: "ID", help: "this node's whole id: it cannot be taken back" } },
  ),
  row("revocations", "", none, "nodes revoked for good", async () => (await closed()).revocations, watched),
  row(
    "reload",
    "",
    none,
    "read the configuration anew; only plugins whose tables changed are rebuilt",
    async () => (await mesh()).reload,
  ),
  row(
    "token new",
    "",
    none,
    "make an API token; prints its secret once",
    async () => (await tokens()).create,
    {
      scope: {
        value: "SCOPE",
        help: "read, send, operate, admin or pages:NAME; again for more",
        repeats: true,
      },
      label: { value: "TEXT", help: "who holds it" },
    },
  ),
  row("token list", "", none, "API tokens without their secrets", async () => (await tokens()).list, watched),
  row(
    "plugin new",
    "NAME",
    [1, 1],
    "a folder with a working plugin and its tests",
    async () => (await author()).create,
    { kind: { value: "KIND", help: "transport, discovery, service, engine or heal-action" } },
  ),
  row(
    "plugin check",
    "[FOLDER]",
    [0, 1],
    "manifest, permissions, types, tests, and whether the code is what the manifest says",
    async () => (await author()).check,
  ),
  row(
    "plugin test",
    "[FOLDER]",
    [0, 1],
    "the plugin's own tests and the conformance suite",
    async () => (await author()).test,
    { name: { value: "PATTERN", help: "only tests whose name matches; the suite still has to be there" } },
  ),
  row(
    "plugin dev",
    "[FOLDER]",
    [0, 1],
    "run it on three nodes in a row, anew at every save",
    async () => (await author()).dev,
    { trust: { value: "LEVEL", help: "trusted, contained or untrusted; trusted by default" } },
  ),
  row(
    "plugin docs",
    "[WORD]",
    [0, 1],
    "the manual of the SDK: its pages, or what it says of a word, such as permissions",
    async () => (await author()).docs,
  ),
  row(
    "plugin pack",
    "[FOLDER]",
    [0, 1],
    "bundle and sign a plugin's folder into ID-VERSION.gwp",
    async () => (await plugin()).pack,
    {
      key: {
        value: "FILE",
        help: "the publisher's key, made if there is none; godwit-publisher.key by default",
      },
      out: { value: "FILE", help: "write the package there" },
      unchecked: { help: "types and tests were checked elsewhere" },
    },
  ),
  row(
    "plugin inspect",
    "FILE",
    [1, 1],
    "what a package is and asks for; runs nothing of it",
    async () => (await plugin()).inspect,
  ),
  row("plugin trust", "KEY", [1, 1], "take packages of this publisher", async () => (await plugin()).trust),
  row(
    "plugin add",
    "FILE",
    [1, 1],
    "verify and install a package; godwit reload picks it up",
    async () => (await plugin()).add,
  ),
  row("plugin list", "", none, "installed plugins", async () => (await plugin()).list, {
    running: { help: "plugins that run on the node instead, with their state and what they offer" },
    ...watched,
  }),
  row(
    "plugin remove",
    "ID [VERSION]",
    [1, 2],
    "uninstall a plugin, or one version of it",
    async () => (await plugin()).remove,
  ),
  row("heal", "", none, "heal actions that plugins offer", async () => (await offers()).healList),
  row(
    "heal run",
    "ACTION",
    [1, 1],
    "run a heal action within its budget",
    async () => (await offers()).healRun,
    {
      "dry-run": { help: "say what it would do and change nothing" },
      steps: { value: "N", help: "at most N steps, 1 to 1000; 100 by default" },
      timeout: { value: "SECONDS", help: "at most so long, 1 to 600; 60 by default" },
    },
  ),
  row(
    "engine get",
    "ENGINE KEY",
    [2, 2],
    "a key of a coordination engine",
    async () => (await offers()).engineGet,
  ),
  row(
    "engine put",
    "ENGINE KEY VALUE",
    [3, 3],
    "write a key of a coordination engine; prints its revision",
    async () => (await offers()).enginePut,
    {
      expected: { value: "REVISION", help: "only over this revision" },
      absent: { help: "only where nothing is" },
    },
  ),
  row("token revoke", "ID", [1, 1], "revoke an API token at once", async () => (await tokens()).revoke),
  row(
    "list sign",
    "FILE",
    [1, 1],
    "sign a list of peers for others to fetch",
    async () => (await import("./commands/list.ts")).sign,
    {
      expires: { value: "30d", help: "how long it is good for; 30 days by default" },
      sequence: { value: "N", help: "a newer list has a higher one; the time in seconds by default" },
    },
  ),
  row(
    "store convert",
    "--to RELEASE",
    [0, 0],
    "make the store of a stopped node one that an earlier release opens",
    async () => (await import("./commands/store.ts")).convert,
    {
      to: { value: "RELEASE", help: "0.2 or 0.1" },
      "dry-run": { help: "say what would be kept aside, and change nothing" },
    },
  ),
  row(
    "store take-in",
    "FILE",
    [1, 1],
    "take in what store convert kept aside; the node is stopped",
    async () => (await import("./commands/store.ts")).takeInFile,
  ),
  row(
    "forward",
    "LISTEN NODE TARGET",
    [0, 3],
    "lead a TCP port here to a target at another node, until Ctrl-C",
    async () => (await import("./commands/forward.ts")).forward,
    {
      list: { help: "the forwards of the node, with their bytes" },
      ...watched,
      remove: { value: "ID", help: "end a forward" },
    },
  ),
  ...pluginRows,
  row("events", "", none, "follow what happens", async () => (await import("./commands/events.ts")).events, {
    family: {
      value: "LIST",
      help: "only these, comma-separated: link, peer, route, message, heal, plugin, name, join, discovery",
    },
  }),
  row(
    "completion",
    "SHELL",
    [1, 1],
    "what makes bash, zsh or fish complete commands and names",
    async () => (await import("./commands/completion.ts")).completion,
  ),
  hidden(
    "complete",
    row(
      "complete",
      "WORDS",
      [0, 1_000],
      "what may stand next, for the shells",
      async () => (await import("./commands/completion.ts")).complete,
    ),
  ),
  row(
    "man",
    "[COMMAND...]",
    [0, 2],
    "the manual page, for man -l -",
    async () => (await import("./commands/man.ts")).man,
  ),
  row(
    "version",
    "",
    none,
    "which Godwit this is",
    async () => (await import("./commands/version.ts")).version,
  ),
];
