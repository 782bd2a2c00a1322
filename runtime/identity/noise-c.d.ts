/** The package ships no types; noise.test.ts narrows what it uses. */
declare module "noise-c.wasm" {
  export default function createNoiseC(ready: (lib: never) => void): void;
}
