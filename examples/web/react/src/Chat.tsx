import { useState } from 'react';
import type { ChatCompletionMessageParam } from 'selvedge';
import { useEngine } from './useEngine';
import { View } from './View';

const SYSTEM: ChatCompletionMessageParam = { role: 'system', content: 'You are a helpful assistant.' };

/** A chat in the shapes of OpenAI's client. */
export function Chat({ model }: { model: string }) {
  const state = useEngine(model);
  const [messages, setMessages] = useState<ChatCompletionMessageParam[]>([]);
  const [busy, setBusy] = useState(false);

  async function ask(text: string) {
    if (!state.engine) return;
    const asked: ChatCompletionMessageParam[] = [...messages, { role: 'user', content: text }];
    setBusy(true);
    let answer = '';
    const show = () => setMessages([...asked, { role: 'assistant', content: answer }]);
    show();
    // OpenAI's shape: what its client does with a server, the engine does here.
    const stream = await state.engine.chat.completions.create({ messages: [SYSTEM, ...asked], stream: true });
    for await (const chunk of stream) {
      answer += chunk.choices[0]?.delta.content ?? '';
      show();
    }
    setBusy(false);
  }

  const lines = messages.map(({ role, content }) => ({ role, text: String(content) }));
  return <View title="Selvedge in React" state={state} lines={lines} busy={busy} onAsk={(text) => void ask(text)} />;
}
