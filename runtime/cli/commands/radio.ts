/** `godwit radio`: the radios of this node, what each is, and what it takes of the air. */
import { asGodwitError } from "../../kernel/errors.ts";
import { ApiProblem } from "../client.ts";
import type { CommandContext, CommandModule } from "../command.ts";
import { exitCodes } from "../command.ts";
import type { RadioReport } from "../radio-words.ts";
import * as render from "../render.ts";
import { stateColumn, table } from "../table-text.ts";

export interface NodeRadio {
  readonly name: string;
  readonly where: string;
  readonly phase: string;
  readonly trouble: string | null;
  readonly restarts: number;
  readonly nodes: number;
  readonly users: Readonly<Record<string, number>>;
  readonly airtime: {
    readonly utilisation: number;
    readonly hourMs: number;
    readonly hourMaxMs: number;
    readonly totalMs: number;
    readonly waiting: number;
  };
  readonly radio: {
    readonly id: string;
    readonly longName: string;
    readonly firmware: string;
    /** Not of a node of an earlier release. */
    readonly board?: string;
    readonly role?: string;
    readonly region: string | null;
    readonly preset: string | null;
    readonly signs: boolean;
    readonly isLicensed: boolean;
    readonly channels: readonly {
      readonly index: number;
      readonly name: string;
      readonly isPublic: boolean;
      readonly tag: string;
    }[];
    readonly costs: { readonly one: readonly number[]; readonly all: readonly number[] };
  } | null;
}

interface PluginsBody {
  readonly plugins: readonly { readonly namespace: string; readonly name: string; readonly type: string }[];
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

async function radios(context: CommandContext): Promise<NodeRadio[]> {
  const client = await context.client();
  const { plugins } = (await client.call<PluginsBody>("GET", "/mesh/plugins")).value;
  const wanted = context.args[0];
  const names = plugins
    .filter(({ namespace, type }) => namespace === "service" && type === "radio")
    .map(({ name }) => name)
    .filter((name) => wanted === undefined || name === wanted);
  // One that is not there is refused by the node, in its words.
  const asked = names.length === 0 && wanted !== undefined ? [wanted] : names;
  return Promise.all(
    asked.map(async (instance) => {
      const json = { request: "show", input: {}, instance };
      return (await client.call<NodeRadio>("POST", "/plugins/radio/requests", { json })).value;
    }),
  );
}

/** Undefined: no node answers, or this user may not ask it. */
export async function radiosOfNode(context: CommandContext): Promise<readonly NodeRadio[] | undefined> {
  try {
    return await radios({ ...context, args: [] });
  } catch (error) {
    if (error instanceof ApiProblem || !NO_NODE.has(asGodwitError(error).code)) throw error;
    return undefined;
  }
}

const NO_NODE: ReadonlySet<string> = new Set([
  "GODWIT_NODE_UNREACHABLE",
  "GODWIT_FORBIDDEN",
  "GODWIT_CONFIG_UNREADABLE",
]);

/** What a node says of its radio, as setup tells it. */
export const nodeReport = ({ radio, restarts, trouble, phase }: NodeRadio, place: string): RadioReport => ({
  place,
  is_of_node: true,
  number: radio?.id ?? null,
  name: radio?.longName ?? "",
  board: radio?.board ?? null,
  role: radio?.role ?? null,
  firmware: radio?.firmware ?? null,
  signs: radio?.signs ?? false,
  region: radio?.region ?? null,
  preset: radio?.preset ?? null,
  is_licensed: radio?.isLicensed ?? false,
  is_locked: phase === "locked",
  is_managed: false,
  restarts,
  may_not_send: trouble,
  channels: (radio?.channels ?? []).map(({ index, name, isPublic }) => ({
    index,
    name,
    is_public: isPublic,
  })),
});

function print(context: CommandContext, found: readonly NodeRadio[], text: string): number {
  context.io.stdout(context.isJson ? `${JSON.stringify({ radios: found })}\n` : text);
  return exitCodes.fine;
}

export const list: CommandModule = {
  async run(context) {
    const found = await radios(context);
    const rows = found.map(({ name, where, phase, radio, trouble }) => [
      name,
      where,
      phase,
      radio?.id ?? "",
      radio === null ? "" : `${radio.region ?? "no region"} ${radio.preset ?? ""}`,
      trouble ?? "",
    ]);
    return print(
      context,
      found,
      table(["RADIO", "WHERE", stateColumn("STATE"), "NUMBER", "ON THE AIR", "TROUBLE"], rows, context.paint),
    );
  },
};

export const show: CommandModule = {
  async run(context) {
    const found = await radios(context);
    const blocks = found.map(({ name, where, phase, trouble, restarts, nodes, radio }) => {
      const lines = [
        `radio ${name} at ${where}: ${phase}`,
        ...(trouble === null ? [] : [`  trouble    ${trouble}`]),
        ...(radio === null
          ? []
          : [
              `  number     ${radio.id}  ${radio.longName}`,
              ...(radio.board === undefined ? [] : [`  board      ${radio.board}, ${radio.role}`]),
              `  firmware   ${radio.firmware}${radio.signs ? ", signs what goes to all" : ""}`,
              `  on the air ${radio.region ?? "no region"}, ${radio.preset ?? "a preset that is not known"}${radio.isLicensed ? ", licensed (amateur) mode" : ""}`,
              ...radio.channels.map(
                ({ index, name: channel, isPublic, tag }) =>
                  `  channel ${index}  ${channel}  ${tag}${isPublic ? "  everybody has its key" : ""}`,
              ),
            ]),
        `  knows      ${nodes} radios, restarted ${restarts} times`,
      ];
      return lines.map((line) => `${render.safeLine(line)}\n`).join("");
    });
    return print(context, found, blocks.join("\n"));
  },
};

/** Payload of a full packet of Godwit's, bytes. */
const FULL_BYTES = 200;

export const airtime: CommandModule = {
  async run(context) {
    const found = await radios(context);
    const rows = found.map(({ name, airtime: air, radio, users }) => [
      name,
      percent(air.utilisation),
      seconds(air.hourMs),
      seconds(air.hourMaxMs),
      radio === null ? "" : seconds(radio.costs.one[FULL_BYTES] ?? 0),
      `${air.waiting}`,
      Object.entries(users)
        .map(([user, ms]) => `${user} ${seconds(ms)}`)
        .join(", "),
    ]);
    const head = ["RADIO", "CHANNEL BUSY", "LAST HOUR", "AT MOST", "FULL PACKET", "WAITING", "BY USER"];
    return print(context, found, table(head, rows, context.paint));
  },
};
