/**
 * Who else may write where a node keeps its key, its mail and its socket. Whoever may put a file there, or another folder in its
 * place, is the node at its next start. Judges modes and owners; changes nothing.
 */
import { realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";

const GROUP_MAY_WRITE = 0o020;
const OTHERS_MAY_WRITE = 0o002;
/** In such a folder everybody may make files, and only their owner may rename or remove them. */
const STICKY = 0o1000;

export interface FolderVerdict {
  /** Why it must not be used, and what to do. */
  readonly refusal: string | undefined;
  /** What an operator may have meant, and should know. */
  readonly warnings: readonly string[];
}

const FINE: FolderVerdict = { refusal: undefined, warnings: [] };

/** Of a folder that is there, with all above it. One that is not there yet will be made with mode 0700. */
export function judgeStateFolder(path: string, uid: number | undefined = process.getuid?.()): FolderVerdict {
  const warnings: string[] = [];
  let at: string;
  try {
    at = realpathSync(path);
  } catch {
    return FINE;
  }
  const own = statSync(at);
  if ((own.mode & OTHERS_MAY_WRITE) !== 0)
    return {
      refusal: `everybody on this machine may write to ${at}: chmod 700 it, or set node.state_dir to a folder in it, which is then made`,
      warnings,
    };
  if ((own.mode & GROUP_MAY_WRITE) !== 0)
    warnings.push(`the group ${own.gid} may write to ${at}: chmod 700 it`);
  if (own.uid !== 0 && own.uid !== uid)
    warnings.push(`the user ${own.uid} owns ${at}, and may replace what is in it`);
  while (at !== dirname(at)) {
    at = dirname(at);
    const { mode, uid: owner, gid } = statSync(at);
    if ((mode & STICKY) === 0 && (mode & OTHERS_MAY_WRITE) !== 0)
      warnings.push(`everybody may write to ${at}, and put another folder in the place of ${path}`);
    else if ((mode & STICKY) === 0 && (mode & GROUP_MAY_WRITE) !== 0 && gid !== 0)
      warnings.push(`the group ${gid} may write to ${at}, and put another folder in the place of ${path}`);
    if (owner !== 0 && owner !== uid)
      warnings.push(`the user ${owner} owns ${at}, and may put another folder in the place of ${path}`);
  }
  return { refusal: undefined, warnings };
}
