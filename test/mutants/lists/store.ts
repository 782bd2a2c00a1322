/** The store: what is committed is on the disk, and what the disk says is not believed blindly. */
import type { Mutant } from "../mutant.ts";

export const mutants: readonly Mutant[] = [
  {
    id: "synchronous-off",
    file: "runtime/store/sqlite-schema.ts",
    find: 'pragma("synchronous = FULL");',
    replace: 'pragma("synchronous = OFF");',
    promise: "a commit is on the disk before anybody is told",
    tests: ["runtime/store/sqlite-schema.test.ts"],
  },
  {
    id: "synchronous-normal",
    file: "runtime/store/sqlite-schema.ts",
    find: 'pragma("synchronous = FULL");',
    replace: 'pragma("synchronous = NORMAL");',
    promise: "a commit is on the disk before anybody is told",
    tests: ["runtime/store/sqlite-schema.test.ts"],
  },
  {
    id: "autocheckpoint",
    file: "runtime/store/sqlite-schema.ts",
    find: 'pragma("wal_autocheckpoint = 0");',
    replace: 'pragma("wal_autocheckpoint = 1000");',
    promise: "the log is folded in when there is room for it, not in the middle of a commit",
    tests: ["runtime/store/sqlite-schema.test.ts"],
  },
  {
    id: "trusted-schema",
    file: "runtime/store/sqlite-schema.ts",
    find: 'pragma("trusted_schema = OFF");',
    replace: "",
    promise: "a database that somebody made runs nothing of its own",
    tests: ["runtime/store/sqlite-schema.test.ts"],
  },
  {
    id: "cell-check",
    file: "runtime/store/sqlite-schema.ts",
    find: 'pragma("cell_size_check = ON");',
    replace: "",
    promise: "a damaged page is found when it is read",
    tests: ["runtime/store/sqlite-schema.test.ts"],
  },
  {
    id: "secure-delete",
    file: "runtime/store/sqlite-schema.ts",
    find: 'pragma("secure_delete = FAST");',
    replace: "",
    promise: "what is deleted is overwritten where that costs nothing",
    tests: ["runtime/store/sqlite-schema.test.ts"],
  },
  {
    id: "foreign-database",
    file: "runtime/store/sqlite-schema.ts",
    find: 'if (pragma("application_id") !== APPLICATION_ID && (tables.length > 0 || found !== 0))',
    replace: 'if (pragma("application_id") !== APPLICATION_ID && tables.length > 1e9)',
    promise: "the database of another program is left alone",
    tests: ["runtime/store/sqlite-schema.test.ts"],
  },
  {
    id: "conversions",
    file: "runtime/store/conversions.ts",
    find: "if (this.#all.length < CONVERSIONS_MAX) this.#all.push(conversion);",
    replace: "this.#all.push(conversion);",
    promise: "what is told of conversions is bounded",
    tests: ["runtime/store/conversions.test.ts"],
  },
];
