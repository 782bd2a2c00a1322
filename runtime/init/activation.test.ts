import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect, listenerOf, takeListeners } from "./activation.ts";
import { libc, listenTcp, listenUnix, NotifySocket } from "./testing.ts";

let folder: string;
let opened: number[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "godwit-activation-"));
  opened = [];
});
afterEach(() => {
  for (const fd of opened) closeSync(fd);
  rmSync(folder, { recursive: true });
});
const kept = (fd: number): number => (opened.push(fd), fd);

const F_GETFD = 1;

test("listeners say where they are, and are not for children", () => {
  const four = kept(listenTcp(4));
  expect(libc.fcntl(four, F_GETFD, 0)).toBe(0);
  expect(inspect(libc, four)).toMatchObject({ fd: four, kind: "tcp", host: "127.0.0.1" });
  expect(libc.fcntl(four, F_GETFD, 0)).toBe(1);
  expect(inspect(libc, kept(listenTcp(6)))).toMatchObject({ kind: "tcp", host: "::1" });
  const path = join(folder, "api.sock");
  const unix = kept(listenUnix(path));
  chmodSync(path, 0o660);
  expect(inspect(libc, unix)).toEqual({ fd: unix, kind: "unix", path });
});

test("what is no listener, or open to everybody, is refused with what to do", () => {
  const file = kept(openSync("/dev/null", "r"));
  expect(() => inspect(libc, file)).toThrow(/no listening stream socket/);
  const datagrams = new NotifySocket(join(folder, "datagrams"));
  expect(() => inspect(libc, datagrams.fd)).toThrow(/no listening stream socket/);
  datagrams.close();
  const path = join(folder, "open.sock");
  const open = kept(listenUnix(path));
  chmodSync(path, 0o666);
  expect(() => inspect(libc, open)).toThrow(/SocketMode=0660/);
  expect(() => inspect(libc, kept(listenUnix(`@${folder.slice(1)}`)))).toThrow(/abstract/);
});

test("addresses of every family, and cut short", () => {
  const v4 = Uint8Array.of(2, 0, 0x1f, 0x40, 10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0);
  expect(listenerOf(3, v4)).toEqual({ fd: 3, kind: "tcp", host: "10.0.0.7", port: 8000 });
  const v6 = new Uint8Array(28);
  v6.set([10, 0, 0x1f, 0x40]);
  expect(listenerOf(3, v6)).toEqual({ fd: 3, kind: "tcp", host: "::", port: 8000 });
  v6.set([0x20, 0x01, 0x0d, 0xb8], 8);
  expect(listenerOf(3, v6)).toMatchObject({ host: "2001:db8::" });
  for (let length = 0; length < 8; length++)
    expect(() => listenerOf(3, v4.subarray(0, length))).toThrow(/of no use/);
});

test("descriptors meant for another process, or none, are none", () => {
  expect(takeListeners({}, 7)).toEqual([]);
  expect(takeListeners({ LISTEN_FDS: "1" }, 7)).toEqual([]);
  expect(takeListeners({ LISTEN_FDS: "1", LISTEN_PID: "8" }, 7)).toEqual([]);
  for (const count of ["0", "-1", "x", ""])
    expect(takeListeners({ LISTEN_FDS: count, LISTEN_PID: "7" }, 7)).toEqual([]);
  expect(() => takeListeners({ LISTEN_FDS: "17", LISTEN_PID: "7" }, 7)).toThrow(/more than 16/);
});
