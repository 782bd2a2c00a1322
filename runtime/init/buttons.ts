/** The power button of a PC, a virtual machine or a board, as the kernel's input events tell it (linux/input.h). */
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";

const EVENT_BYTES = 24;
const EVENTS_MAX = 16;
const TYPE_OFFSET = 16;
const EV_KEY = 1;
const KEY_POWER = 116;
const PRESSED = 1;
const DEVICES_MAX = 8;
const FOLDER = "/sys/class/input";

/** Whether the power button went down in these events; what is cut short is not looked at. */
export function hasPowerPress(events: Uint8Array): boolean {
  const view = new DataView(events.buffer, events.byteOffset, events.byteLength);
  for (let at = 0; at + EVENT_BYTES <= events.length; at += EVENT_BYTES) {
    const isPower =
      view.getUint16(at + TYPE_OFFSET, true) === EV_KEY &&
      view.getUint16(at + TYPE_OFFSET + 2, true) === KEY_POWER;
    if (isPower && view.getInt32(at + TYPE_OFFSET + 4, true) === PRESSED) return true;
  }
  return false;
}

export interface Buttons {
  /** Whether the power button was pressed since the last call. */
  poll(): boolean;
  close(): void;
}

/** Devices that name themselves a power button, and buttons of a board's GPIO. Keyboards are left alone. */
export function openButtons(): Buttons {
  const names = existsSync(FOLDER) ? readdirSync(FOLDER).filter((name) => /^event\d+$/.test(name)) : [];
  const descriptors = names
    .filter((name) => /power button|gpio.?keys/i.test(readFileSync(`${FOLDER}/${name}/device/name`, "utf8")))
    .slice(0, DEVICES_MAX)
    .flatMap((name) => {
      try {
        return [openSync(`/dev/input/${name}`, constants.O_RDONLY | constants.O_NONBLOCK)];
      } catch {
        return [];
      }
    });
  const buffer = new Uint8Array(EVENT_BYTES * EVENTS_MAX);
  return {
    poll: () =>
      descriptors.some((descriptor) => {
        try {
          return hasPowerPress(buffer.subarray(0, readSync(descriptor, buffer, 0, buffer.length, null)));
        } catch {
          return false; // EAGAIN: nobody pressed it.
        }
      }),
    close: () => descriptors.forEach((descriptor) => closeSync(descriptor)),
  };
}
