/**
 * What would change in a radio, field by field, and the administration that makes it so. Pure. A plan of a radio that has all of it already is empty, which
 * is how it is known that it was taken. No key is ever in a field: words stand for it.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { Admin, Channel, Config } from "@meshtastic/protobufs";
import { presetOf, regionOf } from "../modem.ts";
import { isPublicPsk } from "../names.ts";
import { words } from "../state.ts";
import type { RadioAnswer } from "./ask.ts";

const CHANNELS_MAX = 8;

/** What is not there stays as the radio has it. */
export interface RadioWish {
  readonly channel?: {
    /** 1 to 11 bytes. */
    readonly name: string;
    /** 16 or 32 bytes; undefined: a channel of that name keeps its own, and none is made. */
    readonly key?: Uint8Array | undefined;
  };
  /** Number of Config.LoRaConfig.RegionCode. */
  readonly region?: number | undefined;
  /** Number of Config.LoRaConfig.ModemPreset. */
  readonly preset?: number | undefined;
}

export interface FieldChange {
  /** Where in the radio: "lora", "channel 1". */
  readonly at: string;
  readonly field: string;
  readonly from: string;
  readonly to: string;
}

export interface RadioPlan {
  readonly fields: readonly FieldChange[];
  /** AdminMessages, in their order, without what opens and closes the edit. */
  readonly messages: readonly Uint8Array[];
  /** Why the radio would not take it, and what to do; undefined: it would. */
  readonly refusal?: string | undefined;
}

export function planRadio(answer: RadioAnswer, wish: RadioWish): RadioPlan {
  const parts = [planLora(answer, wish), planChannel(answer, wish)];
  const fields = parts.flatMap((part) => part.fields);
  const messages = parts.flatMap((part) => part.messages);
  const refusals = parts.map(({ refusal }) => refusal);
  return { fields, messages, refusal: whyNot(answer, fields.length > 0, refusals) };
}

function whyNot(
  { facts, isManaged }: RadioAnswer,
  hasChanges: boolean,
  refusals: readonly (string | undefined)[],
): string | undefined {
  if (facts === undefined) return LOCKED;
  if (hasChanges && isManaged)
    return "the radio is managed from afar and takes no changes by its cable: its administrator makes them, or switches that off in the app of Meshtastic";
  return refusals.find((one) => one !== undefined);
}

export const LOCKED = "the radio is locked: unlock it with its passphrase, in the app of Meshtastic";

const NOTHING: RadioPlan = { fields: [], messages: [] };

export const regionName = (code: number): string =>
  code === 0 ? "UNSET" : (regionOf(code)?.name ?? `number ${code}`);

export const presetName = (number: number): string => presetOf(number)?.name ?? `number ${number}`;

function planLora({ lora }: RadioAnswer, { region, preset }: RadioWish): RadioPlan {
  if (lora === undefined) return NOTHING;
  // Numbers here: newer firmware has some that the definitions have no name for.
  const now: { readonly region: number; readonly modemPreset: number; readonly usePreset: boolean } = lora;
  const fields: FieldChange[] = [];
  const value = Object.assign(create(Config.Config_LoRaConfigSchema), lora);
  if (region !== undefined && region !== now.region) {
    fields.push({ at: "lora", field: "region", from: regionName(now.region), to: regionName(region) });
    Object.assign(value, { region });
  }
  if (preset !== undefined && !(now.usePreset && preset === now.modemPreset)) {
    const from = now.usePreset ? presetName(now.modemPreset) : "settings of its own";
    fields.push({ at: "lora", field: "preset", from, to: presetName(preset) });
    Object.assign(value, { usePreset: true, modemPreset: preset });
  }
  if (fields.length === 0) return NOTHING;
  const config = create(Config.ConfigSchema, { payloadVariant: { case: "lora", value } });
  return { fields, messages: [encodeAdmin({ case: "setConfig", value: config })] };
}

function planChannel({ channels, facts }: RadioAnswer, { channel: wanted }: RadioWish): RadioPlan {
  if (wanted === undefined || facts === undefined) return NOTHING;
  const { DISABLED, SECONDARY } = Channel.Channel_Role;
  const all = Array.from({ length: CHANNELS_MAX }, (_, index) => channels.get(index));
  const named = facts.channels.find(({ name }) => name === wanted.name);
  const { key } = wanted;
  if (key === undefined || (named !== undefined && sameBytes(all[named.index]!.settings!.psk, key)))
    return NOTHING;
  // The first one is what the radio's own beacons go by: it stays.
  // One that it did not tell of may be in use.
  const index = named?.index ?? all.findIndex((it, at) => at > 0 && it?.role === DISABLED);
  if (index < 0)
    return {
      ...NOTHING,
      refusal: `all ${CHANNELS_MAX} channels of the radio are in use: remove one in the app of Meshtastic, or use one that is there with --channel NAME`,
    };
  const before = named === undefined ? undefined : all[index];
  const at = `channel ${index}`;
  const role = before?.role ?? SECONDARY;
  const settings = before?.settings;
  const made = create(Channel.ChannelSchema, {
    index,
    role,
    settings: Object.assign(create(Channel.ChannelSettingsSchema), settings, {
      name: wanted.name,
      psk: key,
      // Where its owner is, and what is said there, is nobody's on it.
      ...(settings === undefined
        ? { moduleSettings: create(Channel.ModuleSettingsSchema, { positionPrecision: 0 }) }
        : {}),
    }),
  });
  const isNew = before === undefined;
  const fields: FieldChange[] = [
    ...(isNew
      ? [
          { at, field: "role", from: "DISABLED", to: "SECONDARY" },
          { at, field: "name", from: "none", to: words(wanted.name) },
        ]
      : []),
    {
      at,
      field: "key",
      from: isNew ? "none" : keyWords(settings!.psk),
      to: `${key.length} bytes of your own`,
    },
    ...(isNew ? [{ at, field: "position", from: "none", to: "not told there" }] : []),
  ];
  return { fields, messages: [encodeAdmin({ case: "setChannel", value: made })] };
}

const keyWords = (psk: Uint8Array): string =>
  psk.length === 0 ? "none" : isPublicPsk(psk) ? "the one that everybody has" : `${psk.length} other bytes`;

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(b);

export const encodeAdmin = (payloadVariant: Admin.AdminMessage["payloadVariant"]): Uint8Array =>
  toBinary(Admin.AdminMessageSchema, create(Admin.AdminMessageSchema, { payloadVariant }));
