import { useState, type FormEvent, type ReactNode } from 'react';
import type { EngineState } from './useEngine';

export interface Line {
  role: string;
  text: string;
}

interface Props {
  title: string;
  state: EngineState;
  lines: Line[];
  busy: boolean;
  onAsk: (text: string) => void;
  /** More buttons. */
  children?: ReactNode;
}

/** A conversation and the field for its next question. */
export function View({ title, state, lines, busy, onAsk, children }: Props) {
  const { engine, progress, error } = state;
  const [text, setText] = useState('Ben saw a goat. Mia saw a swan. What animal did Ben see?');

  function ask(event: FormEvent) {
    event.preventDefault();
    if (!engine || !text.trim()) return;
    setText('');
    onAsk(text);
  }

  return (
    <main style={{ maxWidth: '40rem', margin: '2rem auto', padding: '0 1rem', font: '1rem/1.5 system-ui, sans-serif' }}>
      <h1>{title}</h1>
      <p role="status">
        {error ? error.message : engine ? 'Ready' : `Loading: ${progress?.stage ?? ''} ${percent(progress)}`}
      </p>
      <ol>
        {lines.map(({ role, text }, index) => (
          <li key={index} className={role}>
            {text}
          </li>
        ))}
      </ol>
      <form onSubmit={ask} style={{ display: 'flex', gap: '0.5rem' }}>
        <input
          aria-label="Question"
          value={text}
          onChange={(event) => setText(event.target.value)}
          style={{ flex: 1, font: 'inherit' }}
        />
        <button disabled={!engine || busy}>Ask</button>
        {children}
      </form>
    </main>
  );
}

function percent(progress: { done: number; total: number } | null): string {
  return progress && progress.total > 0 ? `${Math.round((100 * progress.done) / progress.total)} %` : '';
}
