/**
 * A language model for Vercel's AI SDK over an engine: `generateText({ model: selvedge(engine), prompt })`. Of the SDK, types
 * alone are needed.
 */

export { selvedge, type CompletionEngine } from './model.js';
export type { SelvedgeProviderOptions } from './settings.js';
