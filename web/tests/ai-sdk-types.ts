// Compiles only if the AI SDK takes the package's model and transport as its own. Never run.

import { generateText, jsonSchema, tool, type ChatTransport, type LanguageModel, type UIMessage } from 'ai';
import type { LanguageModelV4 } from '@ai-sdk/provider';
import { selvedge, type SelvedgeProviderOptions } from '../src/ai-sdk/index.js';
import { EngineChatTransport } from '../src/ai-sdk/transport.js';
import { Engine } from '../src/engine.js';
import type { EngineInterface, FallbackOptions, LoadOptions } from '../src/types.js';
import { connect } from '../src/remote/index.js';

/** An engine in the page, in a worker, of a server: each is a model. */
export const model = (engine: EngineInterface): LanguageModel & LanguageModelV4 => selvedge(engine);
export const remote = async (): Promise<LanguageModel> => selvedge(await connect('http://127.0.0.1:8080'));

/** `useChat` takes it, with tools and without. */
export const plain = (engine: EngineInterface): ChatTransport<UIMessage> => new EngineChatTransport(engine);
const weather = tool({ inputSchema: jsonSchema<{ city: string }>({ type: 'object' }), execute: ({ city }) => city });
export const tools = (engine: EngineInterface): ChatTransport<UIMessage> =>
  new EngineChatTransport(engine, { instructions: 'Be brief.', tools: { weather }, toolChoice: 'required', sendReasoning: false });

export const own: SelvedgeProviderOptions = { min_p: 0.1, structured_outputs: { regex: '[0-9]+' } };
export const asked = (engine: EngineInterface) =>
  generateText({ model: selvedge(engine), prompt: 'Hello.', providerOptions: { selvedge: { min_p: 0.1 } } });

/** With a server to fall back on, what is loaded may be any engine; without one, it is the page's own. */
export const either = (options: FallbackOptions): Promise<EngineInterface> => Engine.load('/model', options);
export const here = (options: LoadOptions): Promise<Engine> => Engine.load('/model', options);
