/** Calls between the page and its workers: one question, one answer, in any order. */
import { Problem } from "./problems.js";

/**
 * In a worker: answer calls.
 *
 * @param {Object<string, (argument: object, tell: (news: object) => void) => object | Promise<object>>} methods
 */
export function answerCalls(methods) {
  self.onmessage = async ({ data: { call, method, argument } }) => {
    const tell = (news) => self.postMessage({ call, news });
    try {
      const answer = await methods[method](argument, tell);
      self.postMessage({ call, answer }, collectTransfers(answer));
    } catch (error) {
      self.postMessage({ call, failure: { name: error.name, message: error.message, code: error.code, details: error.details } });
    }
  };
}

const collectTransfers = (answer) =>
  Object.values(answer).flatMap((value) => {
    if (value instanceof ImageBitmap) return [value];
    return value instanceof Uint8Array || value instanceof Uint16Array ? [value.buffer] : [];
  });

/** In the page: a worker that is called. */
export class Helper {
  #url;
  #worker = null;
  #calls = new Map();
  #latest = 0;

  /** @param {URL} url the worker's module */
  constructor(url) {
    this.#url = url;
  }

  /**
   * @param {string} method
   * @param {object} [argument]
   * @param {Transferable[]} [transfers]
   * @param {(news: object) => void} [onNews] called while the answer is made
   * @returns {Promise<object>}
   * @throws {Problem} as the worker threw it; code "failed" for anything unforeseen
   */
  call(method, argument = {}, transfers = [], onNews = () => {}) {
    this.#worker ??= this.#start();
    const call = ++this.#latest;
    return new Promise((done, fail) => {
      this.#calls.set(call, { done, fail, onNews });
      this.#worker.postMessage({ call, method, argument }, transfers);
    });
  }

  /** End the worker and all it does; the next call starts another. */
  stop(code = "cancelled", details = {}) {
    this.#worker?.terminate();
    this.#worker = null;
    for (const { fail } of this.#calls.values()) fail(new Problem(code, details));
    this.#calls.clear();
  }

  #start() {
    const worker = new Worker(this.#url, { type: "module" });
    worker.onmessage = ({ data: { call, news, answer, failure } }) => {
      const waiting = this.#calls.get(call);
      if (!waiting) return;
      if (news) return waiting.onNews(news);
      this.#calls.delete(call);
      if (!failure) return waiting.done(answer);
      const isKnown = failure.name === "Problem";
      waiting.fail(isKnown ? new Problem(failure.code, failure.details) : new Problem("failed", failure));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.stop("failed");
    };
    return worker;
  }
}
