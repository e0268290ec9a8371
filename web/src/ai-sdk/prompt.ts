/** A prompt of the AI SDK as messages in OpenAI's shape. */

import type {
  LanguageModelV4FilePart,
  LanguageModelV4Message,
  LanguageModelV4Prompt,
  LanguageModelV4ToolResultPart,
} from '@ai-sdk/provider';
import { SelvedgeError } from '../errors.js';
import type { ChatCompletionMessageParam } from '../openai.js';

type Unsupported = (feature: string, details: string) => void;

export function messages(prompt: LanguageModelV4Prompt, unsupported: Unsupported): ChatCompletionMessageParam[] {
  return prompt.flatMap((message, index) => converted(message, `prompt[${index}]`, unsupported));
}

function converted(message: LanguageModelV4Message, where: string, unsupported: Unsupported): ChatCompletionMessageParam[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }];
    case 'user': {
      const parts = message.content.map((part) => (part.type === 'text' ? part.text : fileText(part, where)));
      const [only] = parts;
      if (parts.length === 1 && only !== undefined) return [{ role: 'user', content: only }];
      return [{ role: 'user', content: parts.map((text) => ({ type: 'text', text })) }];
    }
    case 'assistant':
      return [assistant(message, where, unsupported)];
    case 'tool':
      // Approvals are of tools that a provider runs, of which there are none.
      return message.content.flatMap((part) =>
        part.type === 'tool-result' ? [{ role: 'tool', tool_call_id: part.toolCallId, content: result(part, where) }] : [],
      );
  }
}

function assistant(
  { content }: Extract<LanguageModelV4Message, { role: 'assistant' }>,
  where: string,
  unsupported: Unsupported,
): ChatCompletionMessageParam {
  let [text, thinking] = ['', ''];
  const calls = [];
  for (const part of content) {
    if (part.type === 'text') text += part.text;
    else if (part.type === 'reasoning') thinking += part.text;
    else if (part.type === 'file') text += fileText(part, where);
    else if (part.type === 'tool-call') {
      const called = { name: part.toolName, arguments: JSON.stringify(part.input ?? {}) };
      calls.push({ id: part.toolCallId, type: 'function' as const, function: called });
    } else unsupported(`${where}: a part of the type ${part.type}`, 'it is left out of what the model reads');
  }
  return {
    role: 'assistant',
    content: text === '' && calls.length > 0 ? null : text,
    ...(thinking === '' ? {} : { reasoning_content: thinking }),
    ...(calls.length > 0 ? { tool_calls: calls } : {}),
  };
}

/** What a tool gave, as text. */
function result({ output }: LanguageModelV4ToolResultPart, where: string): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value;
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value);
    case 'execution-denied':
      return output.reason ?? 'The user did not allow this call.';
    case 'content':
      return output.value
        .map((part) => {
          if (part.type === 'text') return part.text;
          if (part.type === 'file') return fileText(part, where);
          throw new SelvedgeError('bad-request', `${where}: a tool's result of the type \`${part.type}\` cannot be read`);
        })
        .join('\n');
  }
}

/** The text of a file; any other kind is refused, as the model would not see it. */
function fileText({ data, mediaType }: Pick<LanguageModelV4FilePart, 'data' | 'mediaType'>, where: string): string {
  if (data.type === 'text') return data.text;
  if (data.type === 'data' && /^(text(\/|$)|application\/json\b)/.test(mediaType)) {
    const bytes = typeof data.data === 'string' ? Uint8Array.from(atob(data.data), (letter) => letter.charCodeAt(0)) : data.data;
    return new TextDecoder().decode(bytes);
  }
  throw new SelvedgeError('bad-request', `${where}: a file of the type \`${mediaType}\` cannot be read: the model reads text`);
}
