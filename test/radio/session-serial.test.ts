/** The session of a radio on a serial line: unplugged, and there again. */
import { afterEach, expect, test } from "bun:test";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { Scope } from "../../runtime/kernel/scope.ts";
import { openPluginSerial } from "../../runtime/plugin/host/serial.ts";
import { serialPolicyOf } from "../../runtime/plugin/permissions.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { WAKE } from "../../plugins/service-radio/frames.ts";
import { RadioSession } from "../../plugins/service-radio/session.ts";
import { openLine } from "../../plugins/service-radio/wire.ts";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ether } from "./ether.ts";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await Bun.sleep(5);
}

test("a radio on a serial line is known, lost when it is unplugged, and known again by its stable path", async () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-radio-"));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  const ether = new Ether({ preset: "shortTurbo" });
  ends.push(() => ether.close());
  const radio = ether.radio({ bootMs: 50 });
  const link = join(folder, "radio");
  radio.openPty({ link });
  radio.faults.logNoise = true;
  const scope = new Scope("radio");
  ends.push(() => scope.close());
  const session = new RadioSession({
    clock: systemClock,
    random: seededRandom(3),
    log: silentLog,
    open: openLine(link, openPluginSerial(scope, serialPolicyOf(["serial:*"], undefined), systemClock)),
    wake: WAKE,
    changed: () => {},
    packet: () => {},
    ignored: () => {},
    keyed: () => {},
  });
  const abort = new AbortController();
  const running = session.run(abort.signal);
  ends.push(async () => {
    abort.abort();
    await running;
  });
  await until(() => session.phase === "ready");
  expect(session.facts?.number).toBe(radio.number);
  radio.unplug();
  await until(() => session.phase !== "ready");
  radio.plug();
  radio.openPty({ link });
  await until(() => session.phase === "ready");
}, 30_000);
