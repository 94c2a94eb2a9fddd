/** A worker of its own for one compressed film: broken HTJ2K can keep its decoder busy for ever, and only a whole worker can be ended. */
import { decodeStream } from "./codecs.js";
import { answerCalls } from "./workers.js";

answerCalls({ decode: ({ stream, codecs }) => ({ cells: decodeStream(stream, codecs) }) });
