import { expect, test } from "bun:test";
import { Steps } from "./steps.ts";

function written(isTTY: boolean, work: (steps: Steps) => void): string {
  let text = "";
  const steps = new Steps({ isTTY, write: (more: string) => void (text += more) });
  work(steps);
  return text.replaceAll(/\d+\.\d s/g, "N s");
}
const work = (steps: Steps) => {
  steps.begin("fetching");
  steps.note("half of it was here");
  steps.begin("packing");
  steps.end();
  steps.end();
};

test("each step says what it does, and how long it took", () => {
  expect(written(false, work)).toBe("fetching\nhalf of it was here\nfetching: N s\npacking\npacking: N s\n");
});

test("on a terminal a step is one line, drawn anew", () => {
  const term = process.env["TERM"];
  process.env["TERM"] = "xterm";
  try {
    const lines = written(true, work)
      .split("\n")
      .map((line) => line.split("\r\x1b[K").at(-1));
    expect(lines).toEqual(["half of it was here", "fetching: N s", "packing: N s", ""]);
  } finally {
    if (term === undefined) delete process.env["TERM"];
    else process.env["TERM"] = term;
  }
});

test("nobody hears of steps where nobody is to", () => {
  expect(() => work(new Steps(undefined))).not.toThrow();
});
