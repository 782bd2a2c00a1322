/** What the node is and sees: status, health, peers, routes, why, trace, names, trust. */
import type {
  HealthView,
  MemberView,
  NameView,
  ChannelView,
  OverlayView,
  PeerView,
  ReloadView,
  RouteView,
  StatusView,
  TraceView,
  WhyView,
} from "../../view/contract/node.ts";
import { didYouMean } from "../../config/suggest.ts";
import { godwitError } from "../../kernel/errors.ts";
import { segment } from "../client.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { durationOf } from "../duration.ts";
import * as render from "../render.ts";
import { type Fact, facts, nodeColumn, sentences, spareColumn, stateColumn, table } from "../table-text.ts";

/** The node itself gives up after 30 s and says so. */
export const TRACE_TIMEOUT_MS = 40_000;
const trustLevels: readonly string[] = ["unknown", "member", "trusted", "blocked"];
const memberStates: readonly string[] = ["alive", "suspect", "failed", "left"];

/** Prints the API's body, or what `human` makes of it. */
function show<T>(
  context: CommandContext,
  answer: { text: string; value: T },
  human: (value: T) => string,
): void {
  context.io.stdout(context.isJson ? `${answer.text}\n` : human(answer.value));
}

/** A node of before this release says nothing of it. */
const conversionFacts = (conversions: StatusView["conversions"] | undefined): Fact[] =>
  (conversions ?? []).map(({ name, rows }) => [
    "converting",
    `${name}: ${rows} rows of the store looked at, in the background`,
  ]);

/** Nor of this. */
const adviceFacts = (advice: StatusView["advice"] | undefined): Fact[] =>
  (advice ?? []).map((line, index) => [index === 0 ? "advice" : "", line]);

const restartFacts = (waiting: StatusView["restart_because"] | undefined): Fact[] =>
  Object.entries(waiting ?? {}).map(([setting, because]) => [
    "restart",
    `${setting} counts from the next start, because ${because}`,
  ]);

const warningFacts = (health: HealthView | undefined): Fact[] =>
  (health?.checks ?? [])
    .filter((check) => check.status !== "ok")
    .map(({ name, status: state, reason }) => [state, `${name}: ${reason}`]);

export const status: CommandModule = {
  async run(context) {
    const client = await context.client();
    const answer = await client.call<StatusView>("GET", "/mesh/status");
    const health = context.isJson
      ? undefined
      : await client.call<HealthView>("GET", "/health", { alsoFine: [503] });
    show(context, answer, ({ node, ...rest }) => {
      const { paint } = context;
      const { peers, queue } = rest;
      const text = facts(
        [
          ["node", render.nodeName(node.id, node.callsign)],
          ["id", node.id],
          ["location", node.location ?? "-"],
          [
            "network",
            rest.open ? `${rest.network} (open: whoever knows its name is a member)` : rest.network,
          ],
          ["address", `${rest.address}  ${rest.subnet}`],
          ["version", `${node.version}, up ${render.duration(node.uptime_seconds)}`],
          ["clock", `${rest.clock.state}: ${rest.clock.reason}`, rest.clock.state],
          ["peers", `${peers.connected} connected, ${peers.known} known, ${peers.trusted} trusted`],
          ["routes", String(rest.routes)],
          ["queue", `${render.counted(queue.messages, "message")}, ${render.size(queue.bytes)}`],
          ...conversionFacts(rest.conversions),
          ...adviceFacts(rest.advice),
          ...restartFacts(rest.restart_because),
          ...warningFacts(health?.value),
        ],
        paint,
      );
      const rows = rest.transports.map(({ name, type, state, listen, reason }) => [
        name,
        type,
        state,
        [...listen, ...(reason === null ? [] : [reason])].join(" "),
      ]);
      return `${text}\n${table(["TRANSPORT", "TYPE", stateColumn(), "LISTENS"], rows, paint)}`;
    });
    return exitCodes.fine;
  },
};

export const health: CommandModule = {
  async run(context) {
    if (context.isSet("live") && context.isSet("ready"))
      throw godwitError("GODWIT_USAGE", "--live and --ready are two questions: ask one");
    // 503 is how a node says that it is down: an answer, not a failure to ask.
    const answer = await (await context.client()).call<HealthView>("GET", "/health", { alsoFine: [503] });
    show(context, answer, (value) => {
      const rows = value.checks.map(({ name, status: state, reason }): Fact => [
        state,
        reason === "" ? name : `${name}: ${reason}`,
      ]);
      const { paint } = context;
      return `${paint.state(value.status)(value.status)}\n${facts(rows, paint, "  ")}`;
    });
    const is = answer.value.status;
    if (is === "ok" || (is === "degraded" && context.isSet("live"))) return exitCodes.fine;
    return is === "down" || context.isSet("ready") ? exitCodes.failed : exitCodes.degraded;
  },
};

export const peers: CommandModule = {
  async run(context) {
    const answer = await (
      await context.client()
    ).call<{ peers: PeerView[]; overlays?: OverlayView[]; channels?: ChannelView[] }>(
      "GET",
      context.isSet("all") ? "/mesh/peers?all=true" : "/mesh/peers",
    );
    show(context, answer, (value) => {
      const rows = value.peers.flatMap((peer) => {
        const isAvoided = peer.quarantine !== null && peer.state === "connected";
        const state = isAvoided ? "quarantined" : peer.state;
        const head = [render.short(peer.id), peer.callsign ?? "-", peer.trust, state];
        const seen = peer.state === "connected" ? "now" : context.paint.moment(peer.last_seen);
        if (peer.links.length === 0) return [[...head, "-", "-", seen]];
        return peer.links.map((link, index) => [
          ...(index === 0 ? head : ["", "", "", ""]),
          `${link.direction === "inbound" ? "<-" : "->"} ${link.address}`,
          render.millis(link.rtt_ms),
          seen,
        ]);
      });
      const header = [
        "ID",
        "CALLSIGN",
        stateColumn("TRUST", true),
        stateColumn(),
        "LINK",
        spareColumn("RTT"),
        spareColumn("SEEN"),
      ];
      const nodes = table(header, rows, context.paint);
      // A node of before this release knows of neither.
      return [
        nodes,
        ...(value.overlays ?? []).map((overlay) => overlayText(context, overlay)),
        ...(value.channels ?? []).map((channel) => channelText(context, channel)),
      ].join("\n");
    });
    return exitCodes.fine;
  },
};

const percent = (part: number): string => `${Math.round(part * 1_000) / 10} %`;

/** A channel that all in earshot share: what control of this node took of it, and who is heard there. */
function channelText(context: CommandContext, channel: ChannelView): string {
  const { transport, utilisation, nodes, control, heard } = channel;
  const title = `channel (transports.${transport}) ${percent(utilisation)} busy, ${nodes} nodes`;
  const budget = `control may take ${percent(control.share)}, ${control.saved_seconds} s saved`;
  const uses = control.uses
    .filter(({ seconds, refused }) => seconds > 0 || refused > 0)
    .map(({ use, seconds, refused }) => [use, `${seconds} s`, `${refused}`]);
  const rows = heard.map(({ id, callsign, address, gateway }) => [
    id === null ? "-" : render.short(id),
    callsign ?? "-",
    address,
    gateway ? "gateway" : "-",
  ]);
  const parts = [
    render.safeLine(title),
    render.safeLine(budget),
    ...(uses.length === 0 ? [] : [table(["CONTROL", "TOOK", "REFUSED"], uses, context.paint)]),
    table(["HEARD", "CALLSIGN", "ADDRESS", stateColumn("ROLE")], rows, context.paint),
  ];
  return parts.join("\n");
}

/** An overlay below, with its own neighbours. */
function overlayText(
  context: CommandContext,
  { transport, type, address, peers: neighbours }: OverlayView,
): string {
  const rows = neighbours.map(({ address: theirs, remote, up, direction, rtt_ms }) => [
    theirs ?? "-",
    up ? "up" : "down",
    `${direction === "inbound" ? "<-" : "->"} ${remote}`,
    render.millis(rtt_ms),
  ]);
  const title = render.safeLine(`${type} (transports.${transport}) ${address}`);
  return `${title}\n${table(["PEER", stateColumn(), "REACHED", "RTT"], rows, context.paint)}`;
}

export const members: CommandModule = {
  async run(context) {
    const wanted = context.option("state");
    if (wanted !== undefined && !memberStates.includes(wanted))
      throw godwitError("GODWIT_USAGE", `--state is one of ${memberStates.join(", ")}`);
    const answer = await (await context.client()).call<{ members: MemberView[] }>("GET", "/mesh/members");
    const tags = context.options("tag");
    // A node of before this release knows of no tags.
    const isChosen = ({ state, tags: own = [] }: Omit<MemberView, "tags"> & Partial<MemberView>) =>
      (wanted === undefined || state === wanted) && tags.every((tag) => own.includes(tag));
    const chosen = answer.value.members.filter(isChosen);
    const text =
      wanted === undefined && tags.length === 0 ? answer.text : JSON.stringify({ members: chosen });
    show(context, { text, value: chosen }, (value) =>
      table(
        ["ID", "CALLSIGN", stateColumn(), "SINCE", spareColumn("HEARD"), "WHY", spareColumn("BY")],
        value.map((member) => [
          render.short(member.id),
          member.callsign ?? "-",
          member.state,
          context.paint.moment(member.since),
          context.paint.moment(member.last_heard),
          member.reason,
          member.source === null ? "this node" : render.short(member.source),
        ]),
        context.paint,
      ),
    );
    return exitCodes.fine;
  },
};

export const routes: CommandModule = {
  async run(context) {
    const answer = await (await context.client()).call<{ routes: RouteView[] }>("GET", "/mesh/routes");
    show(context, answer, (value) =>
      table(
        [
          "DESTINATION",
          "CALLSIGN",
          "NEXT HOP",
          "COST",
          spareColumn("MTU"),
          spareColumn("PATH"),
          spareColumn("ALTERNATES"),
        ],
        value.routes.map((route) => [
          render.short(route.destination),
          route.callsign ?? "-",
          render.short(route.next_hop),
          render.cost(route.metric),
          String(route.mtu),
          route.bottleneck,
          route.alternates
            .map((hop) => `${render.short(hop.next_hop)} ${render.cost(hop.metric)}`)
            .join(", "),
        ]),
        context.paint,
      ),
    );
    return exitCodes.fine;
  },
};

export const why: CommandModule = {
  async run(context) {
    const path = `/mesh/routes/${segment(context.args[0]!)}/why`;
    const answer = await (await context.client()).call<WhyView>("GET", path);
    show(context, answer, (value) => {
      const { feasibility: fd } = value;
      const head = facts(
        [
          ["destination", render.nodeName(value.destination, value.callsign)],
          ["reachable", value.reachable ? "yes" : "no", value.reachable ? "yes" : ""],
          ["feasibility", fd === null ? "-" : `${render.cost(fd.metric)} at sequence ${fd.seqno}`],
        ],
        context.paint,
      );
      const rows = value.candidates.map((hop) => [
        hop.selected ? "*" : "",
        render.nodeName(hop.next_hop, hop.callsign),
        `${render.cost(hop.link_cost)} + ${render.cost(hop.advertised_metric)}`,
        render.cost(hop.metric),
        String(hop.seqno),
        hop.feasible ? "yes" : "no",
        hop.reason,
      ]);
      const header = [
        "",
        nodeColumn("NEXT HOP"),
        "LINK + REST",
        "COST",
        spareColumn("SEQUENCE"),
        spareColumn("FEASIBLE"),
        "WHY",
      ];
      const words = sentences(value.explanation, context.paint);
      const skipped = value.skipped.map(({ endpoint, reason }) => [endpoint, reason]);
      const places = skipped.length === 0 ? "" : `\n${table(["NOT DIALLED", "WHY"], skipped, context.paint)}`;
      return `${head}\n${table(header, rows, context.paint)}${words === "" ? "" : `\n${words}`}${places}`;
    });
    return exitCodes.fine;
  },
};

export const trace: CommandModule = {
  async run(context) {
    const path = `/mesh/trace/${segment(context.args[0]!)}`;
    const answer = await (
      await context.client()
    ).call<TraceView>("POST", path, { timeoutMs: TRACE_TIMEOUT_MS });
    show(context, answer, (value) => {
      const rows = value.hops.map((hop, index) => [
        String(index + 1),
        render.nodeName(hop.node, hop.callsign),
        render.millis(hop.rtt_ms),
        hop.stage,
      ]);
      const end = value.reached
        ? `${context.paint.good("reached")} in ${render.millis(value.rtt_ms)}\n`
        : `${context.paint.bad("not reached")}: the last line is as far as it came\n`;
      return table(["HOP", nodeColumn("NODE"), "RTT", "STAGE"], rows, context.paint) + end;
    });
    return answer.value.reached ? exitCodes.fine : exitCodes.failed;
  },
};

export const names: CommandModule = {
  async run(context) {
    const answer = await (await context.client()).call<{ names: NameView[] }>("GET", "/mesh/names");
    show(context, answer, (value) => {
      const rows = value.names.map((row) => [
        row.name,
        render.short(row.node),
        row.source === "pinned" && row.vouched ? "names resolve" : row.source,
        row.conflict === null
          ? ""
          : row.held
            ? `also claimed by ${row.conflict}`
            : `nobody holds it, mail to it waits; claimed by ${row.conflict}`,
      ]);
      return table(["NAME", "NODE", "BOUND BY", "CONFLICT"], rows, context.paint);
    });
    return exitCodes.fine;
  },
};

export const resolveName: CommandModule = {
  async run(context) {
    const [name, node] = context.args as [string, string];
    const path = `/mesh/names/${segment(name)}/resolve`;
    const answer = await (await context.client()).call("POST", path, { json: { node } });
    show(context, answer, () => `${render.safeLine(name)} is ${render.safeLine(node)} from now on\n`);
    return exitCodes.fine;
  },
};

export const trust: CommandModule = {
  async run(context) {
    const [node, level] = context.args as [string, string];
    if (!trustLevels.includes(level))
      throw godwitError(
        "GODWIT_USAGE",
        `"${level}" is no level: ${trustLevels.join(", ")}${didYouMean(level, trustLevels)}`,
      );
    const reason = context.option("reason");
    if (reason === undefined)
      throw godwitError(
        "GODWIT_USAGE",
        'say why with --reason "...": it stands in the event and helps who comes after you',
      );
    const forMs = durationOf(context, "for");
    const path = `/mesh/peers/${segment(node)}/trust`;
    const answer = await (
      await context.client()
    ).call("POST", path, {
      json: { level, reason, ...(forMs === undefined ? {} : { expires_seconds: Math.ceil(forMs / 1_000) }) },
    });
    const until = forMs === undefined ? "from now on" : `for ${render.safeLine(context.option("for") ?? "")}`;
    show(context, answer, () => `${render.safeLine(node)} is ${render.safeLine(level)} ${until}\n`);
    return exitCodes.fine;
  },
};

export const reload: CommandModule = {
  async run(context) {
    const answer = await (
      await context.client()
    ).call<Partial<ReloadView> & Pick<ReloadView, "changed" | "restart_needed">>("POST", "/reload");
    show(context, answer, ({ changed, applied = [], restart_needed, restart_because = {} }) => {
      const lines = changed.map(
        ({ section, name, change }) => `${section}.${render.safeLine(name)} ${change}`,
      );
      lines.push(...applied.map((key) => `${render.safeLine(key)} in force`));
      for (const key of restart_needed) {
        const because = restart_because[key] === undefined ? "" : `, because ${restart_because[key]}`;
        lines.push(`${render.safeLine(key)} counts from the next start${render.safeLine(because)}`);
      }
      return `${lines.length === 0 ? "nothing changed" : lines.join("\n")}\n`;
    });
    return exitCodes.fine;
  },
};
