/**
 * The words of what schemas refuse. The whole of zod brings them along; its small form, which plugins that Godwit brings along are written with, says
 * nothing but "Invalid input" until somebody has set them. Loaded before any such schema judges.
 */
import { config } from "zod/v4/core";
import en from "zod/v4/locales/en.js";

config(en());
