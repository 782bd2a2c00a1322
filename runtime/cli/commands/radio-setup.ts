/**
 * `godwit radio setup`: for the person with a radio in hand. Finds it, asks what it is, proposes the tables of the configuration and what to change in
 * the radio, and does neither unasked. A port has one owner: while a node has the radio, what is told is the node's word. docs/radio.md
 */
import { realpathSync } from "node:fs";
import type { PluginSerial } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { Scope } from "../../kernel/scope.ts";
import { systemRandom } from "../../kernel/random.ts";
import { loadRadioSetup } from "../../node/plugins.ts";
import { openPluginSerial } from "../../plugin/host/serial.ts";
import { serialPolicyOf } from "../../plugin/permissions.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { type ChannelKey, channelKey, keepKey } from "../radio-key.ts";
import { type RadioTables, tablesFor, wholeOf, writeTables } from "../radio-tables.ts";
import {
  changesText,
  type FieldChange,
  radioText,
  type RadioAnswer,
  type RadioReport,
  reportOf,
  tomlText,
} from "../radio-words.ts";
import { Questions } from "../questions.ts";
import { safeLine, safeText } from "../render.ts";
import { sentences } from "../table-text.ts";
import { type NodeRadio, nodeReport, radiosOfNode } from "./radio.ts";

type Setup = Awaited<ReturnType<typeof loadRadioSetup>>;
type Place = NonNullable<ReturnType<Setup["parsePlace"]>>;
type Wish = Parameters<Setup["planRadio"]>[1];
type Plan = ReturnType<Setup["planRadio"]>;

/** The channel's name where none is chosen: as of docs/meshtastic.md. */
const CHANNEL = "godwit";
/** What the firmware keeps of a name. */
const CHANNEL_BYTES_MAX = 11;
const REGION_TRIES = 3;
/** Programs that have a port are told by name, up to so many. */
const NAMED_MAX = 3;

export const setup: CommandModule = {
  async run(context) {
    const it = await loadRadioSetup();
    const choices = readChoices(context, it);
    await using scope = new Scope("radio setup");
    const serial = openPluginSerial(scope, serialPolicyOf(["serial:*"], undefined), context.io.clock);
    return await new SetupRun(context, it, choices, serial, await radiosOfNode(context)).run();
  },
};

interface Choices {
  readonly place: Place | undefined;
  readonly channel: string | undefined;
  readonly region: number | undefined;
  readonly preset: number | undefined;
}

function readChoices(context: CommandContext, it: Setup): Choices {
  const [port, host] = [context.option("port"), context.option("host")];
  if (port !== undefined && host !== undefined) throw usage("give either --port or --host");
  const text = port === undefined ? host && `tcp://${host}` : `serial:${port}`;
  const place = text === undefined ? undefined : it.parsePlace(text);
  if (text !== undefined && place === undefined)
    throw usage(
      port === undefined
        ? `${host} is no address of a radio: a name or an address, and :PORT if it is not 4403`
        : `${port} is no serial port: one below /dev, best by its name under /dev/serial/by-id`,
    );
  if (context.isSet("confirm") && !context.isSet("write-device"))
    throw usage("--confirm is the yes to --write-device: give both");
  const channel = context.option("channel");
  if (
    channel !== undefined &&
    (!/^[^\p{Cc}\p{Cf}]+$/u.test(channel) || Buffer.byteLength(channel) > CHANNEL_BYTES_MAX)
  )
    throw usage(`--channel is a name of 1 to ${CHANNEL_BYTES_MAX} bytes`);
  const region = numbered(context.option("region"), "region", it.regionNumber, it.regionNames);
  const preset = numbered(context.option("preset"), "preset", it.presetNumber, it.presetNames);
  return { place, channel, region, preset };
}

function numbered(
  name: string | undefined,
  what: string,
  numberOf: (name: string) => number | undefined,
  names: () => string[],
): number | undefined {
  if (name === undefined) return undefined;
  const number = numberOf(name);
  if (number === undefined)
    throw usage(`there is no ${what} "${safeLine(name)}": one of ${names().join(", ")}`);
  return number;
}

const usage = (message: string) => godwitError("GODWIT_USAGE", message);

/** As `--json` tells it, with the tables under another name. */
interface SetupAnswer {
  readonly radio: RadioReport;
  readonly tables: RadioTables;
  readonly changes: readonly FieldChange[];
  readonly refusal?: string | null;
  readonly key_file?: string | null;
  readonly device_written?: boolean;
  readonly config_written?: boolean;
}

class SetupRun {
  readonly #context: CommandContext;
  readonly #it: Setup;
  readonly #choices: Choices;
  readonly #serial: PluginSerial;
  readonly #ofNode: readonly NodeRadio[] | undefined;
  readonly #questions: Questions;

  constructor(
    context: CommandContext,
    it: Setup,
    choices: Choices,
    serial: PluginSerial,
    ofNode: readonly NodeRadio[] | undefined,
  ) {
    this.#context = context;
    this.#it = it;
    this.#choices = choices;
    this.#serial = serial;
    this.#ofNode = ofNode;
    this.#questions = new Questions(context.io);
  }

  async run(): Promise<number> {
    const place = this.#choices.place ?? (await this.#find());
    const owned = this.#ownerOf(place);
    return owned === undefined ? await this.#setUp(place) : await this.#tellOwned(place, owned);
  }

  /** The one radio of this machine, or of the node. Throws GODWIT_RADIO_UNUSABLE with what was found. */
  async #find(): Promise<Place> {
    const it = this.#it;
    const ports = await it.findPorts(this.#serial);
    const places = ports.map(({ path }) => it.parsePlace(`serial:${path}`)!);
    const asked = ports.flatMap(({ isLikely }, at) => (isLikely ? [places[at]!] : []));
    // What the node has may be by the network as well.
    const ofNode = (this.#ofNode ?? []).flatMap(({ where }) => placeOf(it, where) ?? []);
    const all = [...ofNode, ...asked.filter((one) => this.#ownerOf(one) === undefined)];
    if (all.length === 1) return all[0]!;
    const rows = ports.map(({ path, now, product, isLikely }) =>
      [path === now ? path : `${path} (${now})`, product, isLikely ? "" : "no board that is known for LoRa"]
        .filter((word) => word !== "")
        .join(", "),
    );
    const listed = [...ofNode.map((one) => `${it.formatPlace(one)}, of the node that runs here`), ...rows];
    const list = listed.map((row) => `\n  ${safeLine(row)}`).join("");
    if (all.length > 1)
      throw it.unusable(
        `there are several: name one with --port, and its path as it stands here, or --host${list}`,
      );
    throw it.unusable(
      `no radio was found: is it plugged in, with a cable that carries data? One on the network is named with --host, a port with --port${list}`,
    );
  }

  #ownerOf(place: Place): NodeRadio | undefined {
    return this.#ofNode?.find(({ where }) => isSamePlace(this.#it, place, where));
  }

  async #tellOwned(place: Place, owned: NodeRadio): Promise<number> {
    const { io, isJson, paint } = this.#context;
    if (this.#context.isSet("write-device"))
      throw this.#it.unusable(
        `the node that runs here has this radio as [services.${owned.name}], and a port has one owner: stop the node (systemctl stop godwit, or Ctrl-C), set the radio up, start it again`,
      );
    const report = nodeReport(owned, this.#it.formatPlace(place));
    const tables = await this.#tables(place, report.channels.find((one) => !one.is_public)?.name);
    if (isJson) return this.#answer({ radio: report, tables, changes: [] });
    io.stdout(radioText(report, paint));
    io.stdout(
      sentences(
        [
          `the node that runs here has it as [services.${owned.name}]: this is what the node says (godwit radio show); to change something in the radio, stop the node first`,
          ...(owned.trouble === null ? [] : [`trouble: ${owned.trouble}`]),
        ],
        paint,
      ),
    );
    return exitCodes.fine;
  }

  async #setUp(place: Place): Promise<number> {
    const { io, isJson, paint } = this.#context;
    const it = this.#it;
    await this.#refuseHeld(place);
    const door = it.doorTo(place, {
      clock: io.clock,
      random: systemRandom,
      signal: io.signal,
      serial: this.#serial,
    });
    const before = await it.askRadio(door);
    const name = it.formatPlace(place);
    if (!isJson) io.stdout(radioText(reportOf(it, name, before), paint));

    // A key that was carried here is of the channel that was made for it: another one keeps its own.
    const own = this.#context.isSet("key")
      ? undefined
      : before.facts?.channels.find(({ isPublic }) => !isPublic)?.name;
    const tables = await this.#tables(place, own);
    const { channel } = tables;
    const key = this.#keyFor(before, channel, tables.path);
    const wish = await this.#wish(before, channel, key);
    const plan = it.planRadio(before, wish);
    if (!isJson) io.stdout(this.#proposal(before, plan, tables, key));

    // Nothing is changed for a file that could not be written afterwards.
    if (this.#context.isSet("yes") && tables.text !== "") wholeOf(tables);
    const after = await this.#change(door, before, plan, wish, key);
    const written = await this.#write(tables, after);
    const isChanged = after !== before;
    if (isJson)
      return this.#answer({
        radio: reportOf(it, name, after),
        tables,
        changes: plan.fields,
        refusal: plan.refusal ?? null,
        key_file: key?.file ?? null,
        device_written: isChanged,
        config_written: written,
      });
    io.stdout(sentences(this.#ending(tables, written, isChanged, plan, key), paint));
    return exitCodes.fine;
  }

  /** Two that read one port get a part each. */
  async #refuseHeld(place: Place): Promise<void> {
    if (place.kind !== "serial") return;
    const holders = await this.#it.holdersOf(place.path);
    if (holders.length > 0)
      throw this.#it.unusable(
        `${place.path} is in use by ${safeLine(named(holders))}, and a port has one owner: end it, then again${holders.some((one) => one.startsWith("ModemManager")) ? " (systemctl disable --now ModemManager)" : ""}`,
      );
  }

  /** `own`: a channel of the radio that not everybody has the key of. */
  async #tables(place: Place, own: string | undefined): Promise<RadioTables> {
    const it = this.#it;
    const connect = place.kind === "serial" ? `serial:${place.path}` : it.formatPlace(place);
    return await tablesFor({
      connect,
      channel: this.#choices.channel,
      fallback: own ?? CHANNEL,
      name: this.#context.option("name"),
      isIt: (text) => {
        const other = it.parsePlace(text);
        return other !== undefined && isSamePlace(it, place, it.formatPlace(other));
      },
      env: this.#context.env,
      config: this.#context.option("config"),
    });
  }

  /** Undefined: the radio has the channel and nobody wants another key, or it could have none. */
  #keyFor({ facts }: RadioAnswer, channel: string | undefined, configPath: string): ChannelKey | undefined {
    const given = this.#context.option("key");
    if (channel === undefined) {
      if (given === undefined) return undefined;
      throw usage(
        "the configuration has this radio on its primary channel: say whose key it is with --channel",
      );
    }
    if (facts === undefined || facts.isLicensed) return undefined;
    if (given === undefined && facts.channels.some(({ name }) => name === channel)) return undefined;
    return channelKey(given, channel, configPath, this.#context.env);
  }

  async #wish(
    { facts }: RadioAnswer,
    channel: string | undefined,
    key: ChannelKey | undefined,
  ): Promise<Wish> {
    const { preset } = this.#choices;
    const region =
      this.#choices.region ??
      (facts?.regionCode === 0 && this.#context.isSet("write-device") ? await this.#askRegion() : undefined);
    return {
      region,
      preset,
      ...(key === undefined || channel === undefined ? {} : { channel: { name: channel, key: key.bytes } }),
    };
  }

  /** What is allowed differs by where the radio is, which nothing here can know. */
  async #askRegion(): Promise<number> {
    const { regionNames, regionNumber } = this.#it;
    const names = regionNames().join(", ");
    const { io, isJson } = this.#context;
    if (!io.isStdinTty || isJson)
      throw usage(
        `the radio has no region, and none is guessed: say where it is with --region, one of ${names}`,
      );
    io.stderr(`the radio has no region yet. Where is it? One of ${names}\n`);
    for (let tries = 0; tries < REGION_TRIES; tries++) {
      const number = regionNumber(await this.#questions.ask("region: "));
      if (number !== undefined) return number;
      io.stderr("that is none of them\n");
    }
    throw usage("no region was chosen: nothing was changed");
  }

  #proposal(before: RadioAnswer, plan: Plan, tables: RadioTables, key: ChannelKey | undefined): string {
    const { paint } = this.#context;
    const parts: string[] = [];
    if (plan.fields.length > 0) {
      parts.push(`\n${changesText(plan.fields, paint)}`);
      if (key !== undefined)
        parts.push(
          `the key ${key.isNew ? "is new, and will be kept in" : "is that of"} ${safeLine(key.file)}: other radios of this channel need the same one\n`,
        );
    }
    if (plan.refusal !== undefined && before.facts !== undefined) parts.push(`\n${plan.refusal}\n`);
    if (before.facts?.regionCode === 0 && this.#choices.region === undefined)
      parts.push("\nthe region is yours to say, with --region: none is guessed\n");
    parts.push(
      tables.text === ""
        ? `\n${safeLine(tables.path)} has it already, as [services.${tables.service}] and [transports.${tables.transport}]\n`
        : `\nfor ${safeLine(tables.path)}:\n\n${tomlText(tables.text)}\n\n`,
    );
    return parts.join("");
  }

  /** What the radio is afterwards: the same object where nothing was changed. */
  async #change(
    door: ReturnType<Setup["doorTo"]>,
    before: RadioAnswer,
    plan: Plan,
    wish: Wish,
    key: ChannelKey | undefined,
  ): Promise<RadioAnswer> {
    const { io, isJson } = this.#context;
    if (!this.#context.isSet("write-device")) return before;
    if (plan.refusal !== undefined) throw this.#it.unusable(plan.refusal);
    if (plan.fields.length === 0) return before;
    if (!(await this.#isConfirmed(before.number))) {
      if (!isJson) io.stderr("the radio stays as it is\n");
      return before;
    }
    if (key !== undefined) keepKey(key);
    if (!isJson) io.stderr("changing the radio; it restarts, and is asked again\n");
    return await this.#it.changeRadio(door, before, plan, wish);
  }

  async #isConfirmed(number: number): Promise<boolean> {
    const { io, isJson } = this.#context;
    const id = this.#it.idOf(number);
    const confirmed = this.#context.option("confirm");
    if (confirmed !== undefined) {
      if (confirmed.toLowerCase() === id) return true;
      throw usage(`--confirm names another radio: this one is ${id}, and nothing was changed`);
    }
    if (io.isStdinTty && io.isStdoutTty && !isJson)
      return await this.#questions.isYes(`Change ${id} as shown?`);
    throw usage(`nobody is here to say yes: look at what would change, then add --confirm '${id}'`);
  }

  async #write(tables: RadioTables, { facts }: RadioAnswer): Promise<boolean> {
    const { io, isJson, env } = this.#context;
    const { channel } = tables;
    const lacksIt =
      channel !== undefined && facts !== undefined && !facts.channels.some(({ name }) => name === channel);
    if (lacksIt && !isJson)
      io.stderr(
        `the radio has no channel "${safeLine(channel)}" yet: make it with --write-device, or in the app of Meshtastic; until then nothing is sent\n`,
      );
    if (tables.text === "") return false;
    const isAsked = io.isStdinTty && io.isStdoutTty && !isJson && tables.whole !== undefined;
    const isWanted =
      this.#context.isSet("yes") ||
      (isAsked && (await this.#questions.isYes(`Add this to ${safeLine(tables.path)}?`)));
    if (!isWanted) return false;
    for (const warning of await writeTables(tables, env))
      if (!isJson) io.stderr(`warning: ${safeText(warning)}\n`);
    return true;
  }

  #ending(
    tables: RadioTables,
    isWritten: boolean,
    isChanged: boolean,
    plan: Plan,
    key: ChannelKey | undefined,
  ): string[] {
    const lines: string[] = [];
    const named = this.#context.isSet("config") ? ` --config ${tables.path}` : "";
    if (isChanged) {
      lines.push("the radio has taken it, and says so");
      if (key?.isNew === true) lines.push(`the channel's key is in ${key.file}`);
    } else if (plan.fields.length > 0)
      lines.push("nothing was changed in the radio: --write-device does it, and asks first");
    if (isWritten) lines.push(`written to ${tables.path}`);
    else if (tables.text !== "")
      lines.push(
        tables.isThere
          ? `nothing was written to ${tables.path}: --yes does it`
          : `there is no ${tables.path} yet: godwit init makes it, then again`,
      );
    if (isWritten || tables.text === "")
      lines.push(
        `next: godwit ${this.#ofNode === undefined ? "run" : "reload"}${named}, then godwit radio list${named}`,
      );
    return lines;
  }

  #answer({ tables, ...rest }: SetupAnswer): number {
    const { path, text, service, transport } = tables;
    const config = { path, tables: text, service, transport };
    this.#context.io.stdout(`${JSON.stringify({ ...rest, config })}\n`);
    return exitCodes.fine;
  }
}

/** The first few. */
const named = (holders: readonly string[]): string =>
  holders.slice(0, NAMED_MAX).join(", ") +
  (holders.length > NAMED_MAX ? ` and ${holders.length - NAMED_MAX} more` : "");

/** As the node says where: a path, or tcp://HOST:PORT. */
const placeOf = (it: Setup, where: string): Place | undefined =>
  it.parsePlace(where.startsWith("/") ? `serial:${where}` : where);

function isSamePlace(it: Setup, place: Place, where: string): boolean {
  const other = placeOf(it, where);
  if (other === undefined || other.kind !== place.kind) return false;
  if (place.kind === "tcp") return it.formatPlace(place) === it.formatPlace(other);
  return realPath(place.path) === realPath(other.kind === "serial" ? other.path : "");
}

/** The same port has several names. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
