/**
 * Twenty power cuts, at random moments, of a machine that keeps its state on an ext4 disk: what was accepted is there
 * afterwards, the identity is the same, and the file system is whole. GODWIT_BOOT_COUNT and GODWIT_BOOT_SEED change it.
 */
import { expect, test } from "bun:test";
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { BOOT_MS, Guest, whyNot } from "./guest.ts";
import { api, buildImage, runDiskTool, TOKEN_WORD } from "./image.ts";

const CUTS = Number(process.env["GODWIT_BOOT_COUNT"] ?? 20);
const SEED = Number(process.env["GODWIT_BOOT_SEED"] ?? Date.now() % 1_000_000);
const API = 8000;
/** Of the cuts one in four comes while the machine boots, the others while it takes messages. */
const BOOTING_PART = 0.25;
const BOOTING_MS_MAX = 12_000;
const TAKING_MS_MAX = 8_000;
const SENDERS = 4;

interface Page {
  readonly messages: readonly { readonly id: string; readonly state: string }[];
  readonly next: string | null;
}

async function outbox(port: number): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (let after = ""; ;) {
    const page = await api<Page>(port, `/messages?box=outbox&limit=500${after}`);
    for (const { id, state } of page.messages) found.set(id, state);
    if (page.next === null) return found;
    after = `&after=${encodeURIComponent(page.next)}`;
  }
}

async function fsck(args: readonly string[]): Promise<void> {
  const { code, output } = await runDiskTool(["e2fsck", ...args]);
  // 0: clean; 1: what the journal said was done.
  if (code > 1) throw new Error(`e2fsck ${args.join(" ")} ended with ${code}: ${output}`);
}

const why = whyNot("x64");

test.skipIf(why !== "")(
  `${CUTS} power cuts (seed ${SEED})${why}`,
  async () => {
    console.log(`  GODWIT_BOOT_SEED=${SEED}`);
    const random = seededRandom(SEED);
    const image = await buildImage();
    const disk = join(image.folder, "state.img");
    try {
      const made = await runDiskTool(["mke2fs", "-q", "-t", "ext4", "-L", "perm", disk, "128M"]);
      expect(made.code).toBe(0);
      const accepted = new Set<string>();
      let id: string | undefined;
      let whileBooting = 0;
      const start = () =>
        Guest.start({
          image: image.folder,
          ports: [API],
          words: [
            `godwit.api=0.0.0.0:${API}`,
            TOKEN_WORD,
            "godwit.state=LABEL=perm",
            "godwit.callsign=DUN-A",
          ],
          more: ["-drive", `file=${disk},if=virtio,format=raw`],
        });
      const isAllThere = async (guest: Guest) => {
        await guest.hear(/state mounted device=\/dev\/vda/);
        await guest.hear(/node answers/);
        const { node } = await api<{ node: { id: string } }>(guest.port(API), "/mesh/status");
        id ??= node.id;
        expect(node.id).toBe(id);
        const kept = await outbox(guest.port(API));
        expect([...accepted].filter((one) => !kept.has(one))).toEqual([]);
      };
      for (let cut = 0; cut < CUTS; cut++) {
        await using guest = await start();
        if (cut > 0 && random.float() < BOOTING_PART) {
          whileBooting++;
          await Bun.sleep(random.float() * BOOTING_MS_MAX);
        } else {
          await isAllThere(guest);
          const power = new AbortController();
          const senders = Array.from({ length: SENDERS }, async () => {
            while (!power.signal.aborted)
              try {
                const sent = await api<{ id: string }>(guest.port(API), "/messages", {
                  to: "NYC-C",
                  body: `cut ${cut}, after ${accepted.size} others ${"x".repeat(random.below(2_000))}`,
                });
                accepted.add(sent.id);
              } catch (error) {
                // The answer of the last one never came: it may be there or not.
                if (!power.signal.aborted) throw error;
              }
          });
          await Bun.sleep(random.float() * TAKING_MS_MAX);
          power.abort();
          guest.cut();
          await Promise.all(senders);
        }
        guest.cut();
        await guest.off();
        const copy = `${disk}.copy`;
        copyFileSync(disk, copy);
        await fsck(["-fy", "-E", "journal_only", copy]);
        await fsck(["-fn", copy]);
        rmSync(copy);
      }
      await using last = await start();
      await isAllThere(last);
      console.log(
        `  ${accepted.size} accepted, ${CUTS} cuts, ${whileBooting} of them while booting; all there`,
      );
      expect(accepted.size).toBeGreaterThan(CUTS);
    } finally {
      image.remove();
    }
  },
  (CUTS + 2) * BOOT_MS,
);
