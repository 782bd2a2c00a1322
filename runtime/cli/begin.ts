/** What `godwit run` begins with before its code is loaded. Small: every command's process loads it. */
export { beginNode } from "../node/ahead.ts";
