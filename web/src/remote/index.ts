/** Engines whose replies come from a server with OpenAI's interface: `await connect('http://127.0.0.1:8080')`. */

export { SelvedgeError, type ErrorCode } from '../errors.js';
export type * from '../openai.js';
export type * from '../types.js';
export { connect, type RemoteEngine } from './engine.js';
