// The conversation, kept as text in the browser's local storage, one for each model.

export interface Turn {
  role: 'user' | 'assistant';
  content: string;
  /** The thinking before the answer. */
  thinking?: string;
  /** Why an answer ended before the model ended it. */
  ended?: 'stopped' | 'length' | 'context';
}

const KEY = 'selvedge.conversation.';

/** Storage that may be forbidden, full, or hold what an older page wrote. */
export function keep(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // Nothing is kept, and nothing else goes wrong.
  }
}

export function kept(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export class Conversation {
  readonly turns: Turn[];
  readonly #key: string;

  /** The one that was had with this model. */
  constructor(model: string) {
    this.#key = KEY + model;
    this.turns = parse(kept(this.#key));
  }

  get last(): Turn | undefined {
    return this.turns.at(-1);
  }

  /** Forgets all but the first `count` turns. */
  rewind(count: number): void {
    this.turns.length = Math.min(count, this.turns.length);
    this.save();
  }

  add(turn: Turn): Turn {
    this.turns.push(turn);
    this.save();
    return turn;
  }

  save(): void {
    keep(this.#key, this.turns.length > 0 ? JSON.stringify(this.turns) : null);
  }
}

function parse(text: string | null): Turn[] {
  try {
    const turns: unknown = JSON.parse(text ?? '[]');
    if (!Array.isArray(turns) || !turns.every(isTurn)) return [];
    // An answer of which nothing was heard was none.
    return turns.filter(({ role, content }) => role === 'user' || content !== '');
  } catch {
    return [];
  }
}

function isTurn(value: unknown): value is Turn {
  if (typeof value !== 'object' || value === null) return false;
  const { role, content } = value as Partial<Turn>;
  return (role === 'user' || role === 'assistant') && typeof content === 'string';
}
