import { storageConformance } from "./conformance/storage.ts";
import { FakeStorage } from "./storage.ts";

storageConformance({ name: "fake", setup: () => ({ storage: new FakeStorage() }) });
