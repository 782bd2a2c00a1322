/** The board of the test kit without a fault, as the plugin of a package. */
import { boardPlugin } from "../../../sdk/testkit/broken-pages.ts";

export default boardPlugin();
