/** The part of prom-client that metrics.ts loads; its types are those of the whole. */
declare module "prom-client/lib/registry.js" {
  export { Registry as default } from "prom-client";
}
