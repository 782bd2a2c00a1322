/** What a transport behind frames may lead to on another's word: it resolves names itself, and says where it came. */
import { expect, test } from "bun:test";
import { type DialTerms, GodwitError, type Hint, type TransportDriver } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { FrameBed } from "../frames/testing.ts";
import type { RemoteContext } from "./parts.ts";
import { withMissingGrant } from "../permissions.ts";
import { RemoteTransport } from "./transport.ts";

const never = new AbortController().signal;

function rig(leadsTo: string) {
  const drivers: TransportDriver[] = [];
  const hints: Hint[] = [];
  const bed = new FrameBed(true);
  const ctx = {
    transport: {
      register: (driver: TransportDriver) => void drivers.push(driver),
      listening: () => {
        throw godwitError("GODWIT_FORBIDDEN", "the plugin was not granted transport; see grant");
      },
    },
    discovery: { hint: (hint: Hint) => void hints.push(hint) },
  } as unknown as RemoteContext;
  const explained = ({ code, kind, message }: GodwitError) =>
    new GodwitError(code, withMissingGrant(message, ["net.tcp"], []), { kind });
  const transport = new RemoteTransport({ ...bed.node, ctx }, explained);
  const pipe = {
    kind: "stream",
    remote: leadsTo,
    local: "x://here",
    linkClass: "fast",
    rateBitsPerSecond: 1,
    mtu: 0,
  };
  const dialled = { onDial: (_args: unknown): void => {}, plugin: bed.plugin };
  bed.plugin.calls.add("dial", (args) => {
    dialled.onDial(args);
    return { json: { flow: bed.plugin.flows.newId(), pipe } };
  });
  transport.onEvent({ event: "register", schemes: ["x"] }, new Uint8Array(0));
  return { driver: drivers[0]!, transport, hints, bed: dialled };
}

const terms: DialTerms = {
  refusal: (address) => (address === "127.0.0.1" ? "not to be dialled" : undefined),
};

test("a pipe to a name that led where another's word does not reach is closed before anything is said on it", async () => {
  const bad = rig("x://127.0.0.1:22");
  expect(
    await bad.driver.dial("x://name:22", never, undefined, terms).catch((error: unknown) => error),
  ).toMatchObject({
    code: "GODWIT_ENDPOINT_REFUSED",
  });
  const pipe = await rig("x://192.0.2.1:22").driver.dial("x://name:22", never, undefined, terms);
  expect(pipe.remote).toBe("x://192.0.2.1:22");
  // The operator named it.
  expect((await rig("x://127.0.0.1:22").driver.dial("x://name:22", never)).remote).toBe("x://127.0.0.1:22");
});

test("it can ask the terms of each dial about each address, and of no other dial", async () => {
  const { bed, driver } = rig("x://192.0.2.1:22");
  const answers: unknown[] = [];
  bed.onDial = (args) => {
    const { terms: number } = args as { terms?: number };
    const ask = (which: number, address: string) =>
      bed.plugin.calls.askNow("dial.refusal", { terms: which, address });
    if (number === undefined) return void answers.push("the operator's");
    answers.push(ask(number, "127.0.0.1"), ask(number, "192.0.2.1"), ask(number + 1, "127.0.0.1"));
  };
  await driver.dial("x://name:22", never, undefined, terms);
  await driver.dial("x://name:22", never);
  expect(answers).toEqual(["not to be dialled", null, null, "the operator's"]);
});

test("a dial that the sandbox refused names the grant; another says what it said", async () => {
  for (const [why, words] of [
    ["Failed to connect (EACCES)", 'its table gives it by grant = ["net.tcp"]'],
    ["nobody answers", "x://name:22: nobody answers"],
  ] as const) {
    const { bed, driver } = rig("x://192.0.2.1:22");
    bed.onDial = () => {
      throw godwitError("GODWIT_DIAL_FAILED", `x://name:22: ${why}`);
    };
    const error = await driver.dial("x://name:22", never).catch((thrown: unknown) => thrown);
    expect((error as GodwitError).code).toBe("GODWIT_DIAL_FAILED");
    expect((error as GodwitError).message).toEndWith(words);
  }
});

test("what the node's door refuses ends the channel with its reason", () => {
  const { transport } = rig("x://192.0.2.1:1");
  expect(() =>
    transport.onEvent({ event: "listening", endpoints: ["tcp://192.0.2.1:1"] }, new Uint8Array(0)),
  ).toThrow("not granted transport");
});

test("a hint says on which interface it was heard", () => {
  const { transport, hints } = rig("x://192.0.2.1:1");
  transport.onEvent(
    { event: "hint", endpoint: "tcp://169.254.1.2:4860", interface: "usb0" },
    new Uint8Array(0),
  );
  expect(hints).toEqual([{ endpoint: "tcp://169.254.1.2:4860", interface: "usb0" }]);
});
