import { CLONE } from "../machine.ts";
import type { Given } from "../place.ts";

export const given: Given = {
  folder: CLONE,
  before: async (place) => {
    await place.machine().run(`
      mkdir -p /path/to/tree/etc /path/to/tree/usr /path/to/tree/var /board/etc
      godwit init --config /tmp/made/my.toml --state-dir /tmp/made/state
      cp /tmp/made/my.toml .
      echo '::sysinit:/bin/mount -a' > /board/etc/inittab`);
  },
  steps: [
    {
      block: "#!/bin/sh\n# BR2_ROOTFS",
      given: async (place) =>
        void (await place
          .machine()
          .run("export GODWIT=$PWD/dist/godwit GODWIT_TARGET=$PWD/dist/godwit TARGET_DIR=/board")),
      after: async (place) =>
        void (await place.machine().run("cmp $GODWIT_TARGET /board/usr/local/bin/godwit")),
    },
    {
      block: "install -D",
      after: async (place) =>
        void (await place
          .machine()
          .run("[ $(grep -c godwit /board/etc/inittab) = 1 ] && /board/usr/bin/godwit version")),
    },
  ],
};
