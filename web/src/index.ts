/** Hybrid language models in a web page, through WebAssembly and WebGPU. */

export { Engine } from './engine.js';
export { SelvedgeError, type ErrorCode } from './errors.js';
export type * from './openai.js';
export type * from './types.js';
