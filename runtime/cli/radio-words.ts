/** What `godwit radio setup` tells people: what a radio is, what would change, and what is missing. No key is in any of it. */
import type { loadRadioSetup } from "../node/plugins.ts";
import type { Paint } from "./paint.ts";
import { safeLine } from "./render.ts";
import { facts, table } from "./table-text.ts";

type Setup = Awaited<ReturnType<typeof loadRadioSetup>>;
export type RadioAnswer = Awaited<ReturnType<Setup["askRadio"]>>;
export type FieldChange = ReturnType<Setup["planRadio"]>["fields"][number];

/** Tried with these; older ones speak the same handshake, and nobody looked. */
const FIRMWARE_TRIED = [2, 7] as const;

/** As `--json` tells it. */
export interface RadioReport {
  readonly place: string;
  /** Whether a running node has it: what is told of it then is what that node knows. */
  readonly is_of_node: boolean;
  readonly number: string | null;
  readonly name: string;
  readonly board: string | null;
  readonly role: string | null;
  readonly firmware: string | null;
  readonly signs: boolean;
  readonly region: string | null;
  readonly preset: string | null;
  readonly is_licensed: boolean;
  readonly is_locked: boolean;
  readonly is_managed: boolean;
  readonly restarts: number;
  /** Why Godwit would send nothing by it; null: it may. */
  readonly may_not_send: string | null;
  readonly channels: readonly {
    readonly index: number;
    readonly name: string;
    readonly is_public: boolean;
  }[];
}

export function reportOf(setup: Setup, place: string, answer: RadioAnswer): RadioReport {
  const { facts: known, number, isManaged, restarts } = answer;
  return {
    place,
    is_of_node: false,
    number: number === 0 ? null : setup.idOf(number),
    name: known?.longName ?? "",
    board: known?.board ?? null,
    role: known?.role ?? null,
    firmware: known?.firmware ?? null,
    signs: known?.additions.hasSignatures ?? false,
    region: known?.region?.name ?? null,
    preset: known?.modem?.name ?? null,
    is_licensed: known?.isLicensed ?? false,
    is_locked: known === undefined,
    is_managed: isManaged,
    restarts,
    may_not_send: known === undefined ? setup.LOCKED : (setup.whySilent(known) ?? null),
    channels: (known?.channels ?? []).map(({ index, name, isPublic }) => ({
      index,
      name,
      is_public: isPublic,
    })),
  };
}

export function radioText(report: RadioReport, paint: Paint): string {
  const { number, firmware, signs, region, preset } = report;
  const rows: [string, string][] = [["radio", report.place]];
  const add = (name: string, value: string | null) => void (value !== null && rows.push([name, value]));
  add("number", number === null ? null : `${number}  ${report.name}`.trimEnd());
  add("board", report.board);
  add(
    "firmware",
    firmware === null ? null : `${firmware}${signs ? ", signs what goes to all" : ""}${oldWords(firmware)}`,
  );
  add("role", report.role);
  if (!report.is_locked)
    add(
      "on the air",
      `${region ?? "no region"}, ${preset ?? "a preset that is not known"}${report.is_licensed ? ", licensed (amateur) mode" : ""}`,
    );
  for (const { index, name, is_public: isPublic } of report.channels)
    add(`channel ${index}`, `${name}${isPublic ? "  everybody has its key" : "  a key of its own"}`);
  if (report.is_managed) add("managed", "from afar: it takes no changes by its cable");
  if (report.restarts > 0) add("restarted", `${report.restarts} times while it was asked`);
  if (report.may_not_send !== null) add("silent", `Godwit sends nothing by it: ${report.may_not_send}`);
  return facts(rows, paint);
}

const oldWords = (firmware: string): string => {
  const [major = 0, minor = 0] = firmware.split(".").map(Number);
  const [wantedMajor, wantedMinor] = FIRMWARE_TRIED;
  const isOld = major < wantedMajor || (major === wantedMajor && minor < wantedMinor);
  return isOld ? `; older than any that was tried (${FIRMWARE_TRIED.join(".")}): update it` : "";
};

export const changesText = (fields: readonly FieldChange[], paint: Paint): string =>
  table(
    ["IN THE RADIO", "FIELD", "NOW", "THEN"],
    fields.map(({ at, field, from, to }) => [at, field, from, to]),
    paint,
  );

export const tomlText = (text: string): string =>
  text
    .split("\n")
    .map((line) => safeLine(line))
    .map((line) => (line === "" ? "\n" : `  ${line}\n`))
    .join("")
    .trimEnd();
