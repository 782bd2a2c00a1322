/** What a client may ask a radio about itself, and change, by packets to its own number. From others it is refused: they have no key for it. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Admin, type Mesh } from "@meshtastic/protobufs";
import { bytesField, dataOf, Port, type Packet } from "./packet.ts";
import type { NodeDb } from "./nodes.ts";
import type { Router } from "./router.ts";
import type { Settings } from "./settings.ts";

/** AdminMessage.lockdown_auth of 2.8, and in it the words that unlock. */
const LOCKDOWN_AUTH = 104;

export interface AdminOptions {
  readonly settings: Settings;
  readonly nodes: NodeDb;
  readonly router: () => Router;
  readonly number: () => number;
  readonly owner: () => Mesh.User;
  readonly setOwner: (longName: string, shortName: string, isLicensed: boolean) => void;
  readonly metadata: () => Mesh.DeviceMetadata;
  readonly reboot: (inSeconds: number) => void;
  /** Settings of the radio itself changed: it starts anew, as firmware does. */
  readonly changed: () => void;
}

export class AdminModule {
  readonly #options: AdminOptions;
  /** Between begin and commit nothing starts anew. */
  #isEditing = false;

  constructor(options: AdminOptions) {
    this.#options = options;
  }

  handle(packet: Packet): Packet | undefined {
    const { number } = this.#options;
    if (packet.from !== number()) return undefined;
    const message = decodeAdmin(dataOf(packet)!.payload);
    const answer = message === undefined ? undefined : this.#answer(message.payloadVariant);
    if (answer === undefined) return undefined;
    const admin = create(Admin.AdminMessageSchema, { payloadVariant: answer });
    return this.#options.router().newOwn(Port.ADMIN_APP, toBinary(Admin.AdminMessageSchema, admin));
  }

  #answer(asked: Admin.AdminMessage["payloadVariant"]): Admin.AdminMessage["payloadVariant"] | undefined {
    const { settings, nodes, owner, setOwner, metadata, reboot } = this.#options;
    switch (asked.case) {
      case "getOwnerRequest":
        return { case: "getOwnerResponse", value: owner() };
      case "getDeviceMetadataRequest":
        return { case: "getDeviceMetadataResponse", value: metadata() };
      case "getChannelRequest": {
        // Counted from one.
        const value = settings.channels[asked.value - 1];
        return value === undefined ? undefined : { case: "getChannelResponse", value };
      }
      case "getConfigRequest": {
        const value = settings.configs[asked.value];
        return value === undefined ? undefined : { case: "getConfigResponse", value };
      }
      case "getModuleConfigRequest": {
        const value = settings.modules[asked.value];
        return value === undefined ? undefined : { case: "getModuleConfigResponse", value };
      }
      case "setOwner":
        setOwner(asked.value.longName, asked.value.shortName, asked.value.isLicensed);
        return this.#changed();
      case "setChannel":
        settings.setChannel(asked.value);
        return this.#changed();
      case "setConfig":
        settings.setConfig(asked.value);
        return this.#changed();
      case "setModuleConfig":
        settings.setModule(asked.value);
        return this.#changed();
      case "beginEditSettings":
        this.#isEditing = true;
        return undefined;
      case "commitEditSettings":
        this.#isEditing = false;
        return this.#changed();
      case "removeByNodenum":
        nodes.forget(asked.value);
        return undefined;
      case "rebootSeconds":
        reboot(asked.value);
        return undefined;
      default:
        return undefined;
    }
  }

  #changed(): undefined {
    if (!this.#isEditing) this.#options.changed();
  }
}

function decodeAdmin(bytes: Uint8Array): Admin.AdminMessage | undefined {
  try {
    return fromBinary(Admin.AdminMessageSchema, bytes);
  } catch {
    return undefined;
  }
}

/** The words of an attempt to unlock; undefined: it is something else. */
export function passphraseOf(payload: Uint8Array): string | undefined {
  const message = decodeAdmin(payload);
  const auth = message === undefined ? undefined : bytesField(message, LOCKDOWN_AUTH);
  if (auth === undefined) return undefined;
  // LockdownAuth { bytes passphrase = 1; ... }
  return auth[0] === 0x0a ? new TextDecoder().decode(auth.subarray(2, 2 + auth[1]!)) : "";
}
