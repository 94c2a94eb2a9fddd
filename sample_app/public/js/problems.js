/** What can be wrong with what somebody gives the app; words for people are in words.js. */

export class Problem extends Error {
  name = "Problem";

  /**
   * @param {string} code a key of PROBLEMS in words.js
   * @param {object} [details] what the words mention
   */
  constructor(code, details = {}) {
    super(code);
    this.code = code;
    this.details = details;
  }
}
