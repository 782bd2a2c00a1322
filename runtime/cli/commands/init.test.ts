import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { runForTest } from "../testing.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-init-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("init and id", () => {
  const place = () => {
    const dir = mkdtempSync(join(folder, "init-"));
    const config = join(dir, "etc", "godwit.toml");
    return {
      config,
      stateDir: join(dir, "state"),
      argv: ["--config", config, "--state-dir", join(dir, "state")],
    };
  };

  test("init writes a configuration that is right, and an identity that stays", async () => {
    const { config, stateDir, argv } = place();
    const made = await runForTest([
      "init",
      ...argv,
      "--callsign",
      "dun-a",
      "--peer",
      "tcp://192.0.2.9:4860",
      "--json",
    ]);
    expect(made).toMatchObject({ code: 0, err: "" });
    const found = JSON.parse(made.out) as { id: string };
    expect(found).toMatchObject({ callsign: "DUN-A", config, state_dir: stateDir });
    expect((await runForTest(["config", "check", "--config", config])).code).toBe(0);
    expect((await runForTest(["id", "--config", config])).out).toBe(`${found.id}\n`);
    const id = JSON.parse((await runForTest(["id", "--config", config, "--json"])).out) as object;
    expect(id).toEqual({ id: found.id, short: found.id.slice(0, 10), callsign: "DUN-A" });
    const again = await runForTest(["init", "--config", config]);
    expect(again).toMatchObject({ code: 0 });
    expect(again.out).toContain("was there");
    const forced = await runForTest(["init", ...argv, "--callsign", "LON-B", "--force"]);
    expect(forced.out).toContain(found.id);
    expect(forced.out).toContain("LON-B");
  });

  test("init replaces nothing unasked and writes nothing wrong", async () => {
    const { config, argv } = place();
    const wrong = await runForTest(["init", ...argv, "--callsign", "not a callsign"]);
    expect(wrong.code).toBe(78);
    expect(existsSync(config)).toBe(false);
    await runForTest(["init", ...argv]);
    const second = await runForTest(["init", ...argv, "--network", "other"]);
    expect(second.code).toBe(2);
    expect(second.err).toContain("--force");
  });

  test("init takes the addresses of a second node on one machine, and places from the folder it is given in", async () => {
    const { config, stateDir } = place();
    const argv = [
      "init",
      "--config",
      relative(process.cwd(), config),
      "--state-dir",
      relative(process.cwd(), stateDir),
    ];
    const made = await runForTest([
      ...argv,
      ...["--listen", "127.0.0.1:4861", "--listen", "[::1]:4861", "--api", "127.0.0.1:8001", "--json"],
    ]);
    expect(made).toMatchObject({ code: 0, err: "" });
    expect(JSON.parse(made.out)).toMatchObject({ config, state_dir: stateDir });
    const text = await Bun.file(config).text();
    expect(text).toContain('listen = ["127.0.0.1:4861", "[::1]:4861"]');
    expect(text).toContain('listen = "127.0.0.1:8001"');
    expect((await runForTest(["config", "check", "--config", config])).code).toBe(0);
    expect((await runForTest([...argv, "--api", "off", "--force"])).code).toBe(0);
    expect(await Bun.file(config).text()).toContain("[api]\nlisten = false");
    // What init was given is not dropped in silence where the file is there.
    expect((await runForTest([...argv, "--listen", "127.0.0.1:1"])).code).toBe(2);
  });

  test.each([
    [["--peer", "tcp:/192.0.2.9"], "scheme://host:port"],
    [["--peer", "tcp://192.0.2.9"], "is not host:port"],
    [["--peer", "ws://192.0.2.9:80"], 'type = "websocket"'],
    [["--listen", "4860"], "[::]:4860"],
    [["--listen", "0.0.0.0:99999"], "[::]:4860"],
    [["--api", "8000"], "127.0.0.1:8000"],
  ])(
    "init %p is refused at once, in the words of a configuration, and writes nothing",
    async (words, part) => {
      const { config, stateDir, argv } = place();
      const { code, out, err } = await runForTest(["init", ...argv, ...words]);
      expect([code, out]).toEqual([78, ""]);
      expect(err).toContain("expected");
      expect(err).toContain(part);
      expect([existsSync(config), existsSync(stateDir)]).toEqual([false, false]);
    },
  );

  test("init --mdns writes a discovery of the LAN, and without it the table stands as a comment", async () => {
    const [chosen, plain] = [place(), place()];
    const made = await runForTest(["init", ...chosen.argv, "--mdns", "--json"]);
    expect(JSON.parse(made.out)).toMatchObject({ mdns: true, lan: [] });
    expect(await Bun.file(chosen.config).text()).toContain('\n[discovery.lan]\ntype = "mdns"');
    expect((await runForTest(["config", "check", "--config", chosen.config])).code).toBe(0);
    const without = await runForTest(["init", ...plain.argv, "--json"]);
    const { mdns, lan } = JSON.parse(without.out) as { mdns: boolean; lan: string[] };
    expect(mdns).toBe(false);
    expect(await Bun.file(plain.config).text()).toContain('\n# [discovery.lan]\n# type = "mdns"');
    const said = (await runForTest(["init", "--config", plain.config])).out;
    expect(said.includes("this machine is on a LAN")).toBe(lan.length > 0);
    expect((await runForTest(["init", ...plain.argv, "--mdns"])).code).toBe(2);
  });

  test("id before init says what to do", async () => {
    const { stateDir } = place();
    const result = await runForTest(["id"], { env: { GODWIT_NODE__STATE_DIR: stateDir } });
    expect(result.code).toBe(1);
    expect(result.err).toContain("godwit init");
    expect((await runForTest(["id", "--config", join(folder, "missing.toml")])).code).toBe(78);
  });
});
