import pkg from "../package.json" with { type: "json" };

/** Version of this SDK; a plugin's `sdk` range is held against it before the plugin runs. */
export const SDK_VERSION: string = pkg.version;
