/** service.radio as a third party would pack it: the same code, which then runs in a process of its own. */
import radio from "../../../plugins/service-radio/index.ts";

export default { ...radio, id: "packed-radio" };
