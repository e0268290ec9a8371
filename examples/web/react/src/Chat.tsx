import { useState, type FormEvent } from 'react';
import type { ChatCompletionMessageParam } from 'selvedge';
import { useEngine } from './useEngine';

const SYSTEM: ChatCompletionMessageParam = { role: 'system', content: 'You are a helpful assistant.' };

export function Chat({ model }: { model: string }) {
  const { engine, progress, error } = useEngine(model);
  const [messages, setMessages] = useState<ChatCompletionMessageParam[]>([]);
  const [text, setText] = useState('Ben saw a goat. Mia saw a swan. What animal did Ben see?');
  const [busy, setBusy] = useState(false);

  async function ask(event: FormEvent) {
    event.preventDefault();
    if (!engine || !text.trim()) return;
    const asked: ChatCompletionMessageParam[] = [...messages, { role: 'user', content: text }];
    setText('');
    setBusy(true);
    let answer = '';
    const show = () => setMessages([...asked, { role: 'assistant', content: answer }]);
    show();
    // OpenAI's shape: what its client does with a server, the engine does here.
    const stream = await engine.chat.completions.create({ messages: [SYSTEM, ...asked], stream: true });
    for await (const chunk of stream) {
      answer += chunk.choices[0]?.delta.content ?? '';
      show();
    }
    setBusy(false);
  }

  return (
    <main style={{ maxWidth: '40rem', margin: '2rem auto', padding: '0 1rem', font: '1rem/1.5 system-ui, sans-serif' }}>
      <h1>Selvedge in React</h1>
      <p role="status">
        {error ? error.message : engine ? 'Ready' : `Loading: ${progress?.stage ?? ''} ${percent(progress)}`}
      </p>
      <ol>
        {messages.map(({ role, content }, index) => (
          <li key={index} className={role}>
            {String(content)}
          </li>
        ))}
      </ol>
      <form onSubmit={(event) => void ask(event)} style={{ display: 'flex', gap: '0.5rem' }}>
        <input
          aria-label="Question"
          value={text}
          onChange={(event) => setText(event.target.value)}
          style={{ flex: 1, font: 'inherit' }}
        />
        <button disabled={!engine || busy}>Ask</button>
      </form>
    </main>
  );
}

function percent(progress: { done: number; total: number } | null): string {
  return progress && progress.total > 0 ? `${Math.round((100 * progress.done) / progress.total)} %` : '';
}
