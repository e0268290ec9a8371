/** A transport for the AI SDK's `useChat` that asks an engine in the page, and no server. Needs the npm package `ai`. */

import {
  DirectChatTransport,
  ToolLoopAgent,
  type ChatTransport,
  type ToolLoopAgentSettings,
  type ToolSet,
  type UIMessage,
  type UIMessageChunk,
} from 'ai';
import { selvedge, type CompletionEngine } from './model.js';

type AgentSettings = ToolLoopAgentSettings<never, ToolSet>;
type Send<MESSAGE extends UIMessage> = Parameters<ChatTransport<MESSAGE>['sendMessages']>[0];

/** Settings of a chat: those of the SDK's `ToolLoopAgent` (instructions, tools, temperature, …), and what the page is shown. */
export type EngineChatSettings = Omit<AgentSettings, 'model'> & {
  /** True (the default): messages have the thinking before an answer. */
  readonly sendReasoning?: boolean;
};

/** `useChat({ transport: new EngineChatTransport(engine) })` */
export class EngineChatTransport<MESSAGE extends UIMessage = UIMessage> implements ChatTransport<MESSAGE> {
  readonly #direct: ChatTransport<MESSAGE>;

  constructor(engine: CompletionEngine, settings: EngineChatSettings = {}) {
    const { sendReasoning = true, ...rest } = settings;
    const agent = new ToolLoopAgent({ ...rest, model: selvedge(engine) } as AgentSettings);
    const direct = new DirectChatTransport({
      agent,
      sendReasoning,
      // A server keeps its errors from its pages; here they are the page's own.
      onError: (error) => (error instanceof Error ? error.message : String(error)),
      redactToolErrors: false,
    });
    // Its messages are typed by the agent's tools, those of a page by the page.
    this.#direct = direct as unknown as ChatTransport<MESSAGE>;
  }

  sendMessages(options: Send<MESSAGE>): Promise<ReadableStream<UIMessageChunk>> {
    return this.#direct.sendMessages(options);
  }

  /** There is nothing to come back to: a reply ends with its page. */
  async reconnectToStream(): Promise<null> {
    return null;
  }
}
