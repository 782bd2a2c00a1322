/**
 * The least that a node may ask of its machine: no /etc, no DNS, no shell, no time zone, a read-only root but for
 * state_dir, and a clock that stands in 1970. Two nodes of the compiled binary in a bare root exchange a message.
 * Needs root (namespaces, mounts) and libfaketime; both are there wherever the suite installs its peers.
 */
import { afterAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binaryPath, freePort } from "../../scripts/lab.ts";

const faketime = [
  "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
  "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
].find((path) => existsSync(path));
const missing =
  process.getuid?.() !== 0
    ? "needs root for mounts"
    : faketime === undefined
      ? "needs libfaketime: scripts/test --peers installs it"
      : existsSync(binaryPath)
        ? undefined
        : "needs dist/godwit: bun run build";

const dir = await mkdtemp(join(tmpdir(), "godwit-bare-"));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Runs in mount and process namespaces of its own: whatever happens, nothing of it is left. */
const script = (ports: readonly [number, number]) => `
set -e
PATH=$PATH:/usr/sbin:/sbin
R=${dir}/root
mkdir -p $R/proc $R/state $R/dev/shm
cp ${binaryPath} $R/godwit
for lib in $(ldd $R/godwit | grep -o '/[^ ]*') ${faketime}; do mkdir -p $R$(dirname $lib); cp -L $lib $R$lib; done
mount --bind $R $R
mount -t proc proc $R/proc
mount -t tmpfs tmpfs $R/state
# For libfaketime alone: it keeps a semaphore there.
mount -t tmpfs tmpfs $R/dev/shm
mount -o remount,ro,bind $R
if touch $R/written 2>/dev/null; then echo "the root is writable" >&2; exit 1; fi
node() {
  env -i PATH=$PATH LD_PRELOAD=${faketime} FAKETIME='@1970-01-01 00:00:10' FAKETIME_DONT_FAKE_MONOTONIC=1 \\
    GODWIT_NODE__STATE_DIR=/state/$1 GODWIT_NODE__CALLSIGN=$1 GODWIT_API__LISTEN=false \\
    GODWIT_TRANSPORTS__LAN__TYPE=tcp GODWIT_TRANSPORTS__LAN__LISTEN='["127.0.0.1:'$2'"]' \\
    GODWIT_DISCOVERY__NEAR__TYPE=static GODWIT_DISCOVERY__NEAR__PEERS='["tcp://127.0.0.1:'$3'"]' \\
    chroot $R /godwit run &
}
ip link set lo up 2>/dev/null || true
node DUN-A ${ports[0]} ${ports[1]}; A=$!
node LON-B ${ports[1]} ${ports[0]}; B=$!
for try in $(seq 200); do
  env -i PATH=$PATH chroot $R /godwit why LON-B --json --socket /state/DUN-A/godwit.sock >/dev/null 2>&1 && break
  sleep 0.05
done
env -i PATH=$PATH chroot $R /godwit send LON-B "FROM 1970" --wait --timeout 20s --json --socket /state/DUN-A/godwit.sock
env -i PATH=$PATH chroot $R /godwit inbox --json --socket /state/LON-B/godwit.sock
kill $A $B
wait $A && wait $B
`;

test.skipIf(missing !== undefined)(
  `a bare root in 1970 is enough${missing === undefined ? "" : ` [skipped: ${missing}]`}`,
  async () => {
    await writeFile(join(dir, "bare.sh"), script([freePort(), freePort()]));
    const child = Bun.spawn(
      ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", join(dir, "bare.sh")],
      {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        timeout: 60_000,
        killSignal: "SIGKILL",
      },
    );
    const [out, log, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    expect({ code, log: code === 0 ? "" : log }).toEqual({ code: 0, log: "" });
    const [sent, inbox] = out.trim().split("\n") as [string, string];
    expect(JSON.parse(sent)).toMatchObject({ state: "delivered", to: "LON-B" });
    const { messages } = JSON.parse(inbox) as { messages: { created_at: string }[] };
    expect(messages).toHaveLength(1);
    expect(messages[0]!.created_at.startsWith("1970-01-01T")).toBe(true);
    expect(log).not.toContain('"level":"error"');
  },
  70_000,
);
