/** An emulated radio on the USB of a page's machine: a port, its stable name, and what the system says of the chip, as with a board that is plugged in. */
import { Ether } from "../radio/ether.ts";
import type { EmulatedRadio } from "../radio/radio.ts";
import type { PageMachine } from "./machine.ts";
import type { Place } from "./place.ts";

const STABLE = "usb-Silicon_Labs_CP2102_USB_to_UART_Bridge_Controller_0001-if00-port0";

/** $1: the pseudo-terminal. Devices of the machine that tests run on are not touched: a /dev and a list of ports of its own lie over them. */
const plugScript = (terminal: string) => `
dev=/run/page/dev usb=/run/page/usb/1-1
mkdir -p $dev $usb/tty
mount -t tmpfs -o mode=755 tmpfs $dev
for name in null zero full random urandom tty ptmx; do : > $dev/$name; mount --bind /dev/$name $dev/$name; done
mkdir -p $dev/pts $dev/shm $dev/serial/by-id
mount --bind /dev/pts $dev/pts
ln -s /proc/self/fd $dev/fd
: > $dev/ttyUSB0
mount --bind ${terminal} $dev/ttyUSB0
ln -s ../../ttyUSB0 $dev/serial/by-id/${STABLE}
mount --rbind $dev /dev
echo 10c4 > $usb/idVendor
echo ea60 > $usb/idProduct
echo 'Silicon Labs' > $usb/manufacturer
echo 'CP2102 USB to UART Bridge Controller' > $usb/product
mkdir -p /run/page/drivers/cp210x
ln -s /run/page/drivers/cp210x $usb/tty/driver
mount -t tmpfs tmpfs /sys/class/tty
mkdir /sys/class/tty/ttyUSB0
ln -s $usb/tty /sys/class/tty/ttyUSB0/device
`;

export const newEther = (place: Place): Ether => {
  const ether = new Ether({ preset: "longFast" });
  place.own(() => ether.close());
  return ether;
};

export async function plugRadio(
  machine: PageMachine,
  ether: Ether,
  options: Parameters<Ether["radio"]>[0],
): Promise<EmulatedRadio> {
  const radio = ether.radio({
    bootMs: 200,
    beacons: { nodeInfoMs: 0, positionMs: 0, telemetryMs: 0 },
    ...options,
  });
  await machine.run(plugScript(radio.openPty().path));
  return radio;
}

export const numberOf = ({ number }: EmulatedRadio): string => `!${number.toString(16).padStart(8, "0")}`;
