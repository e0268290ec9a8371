// A conversation, kept as text in the browser's local storage under a key of its own.

import { keep, kept } from './storage';

export interface Turn {
  role: 'user' | 'assistant';
  content: string;
  /** The thinking before the answer. */
  thinking?: string;
  /** Why an answer ended before the model ended it. */
  ended?: 'stopped' | 'length' | 'context';
  /** The last turn that a fork has in common with the conversation it was made of. */
  forked?: true;
}

/** What another tab did to a conversation: its last answer grew, other turns came or went, all of it was removed. */
export type Change = 'grown' | 'changed' | 'removed';

const KEY = 'selvedge.conversation/';
/** Most characters of a title. */
const TITLE = 60;

export class Conversation {
  readonly turns: Turn[] = [];
  readonly #model: string;
  #id: string;
  /** The text that was kept or taken over last. */
  #text: string | null = null;
  #changed = 0;

  /** The one that is kept under this id; a new one without turns, where there is none. */
  constructor(model: string, id: string = newId()) {
    this.#model = model;
    this.#id = id;
    this.#read();
  }

  get id(): string {
    return this.#id;
  }

  get key(): string {
    return `${keysOf(this.#id)}${this.#model}`;
  }

  /** Milliseconds since 1970 of the last change; 0 before the first. */
  get changed(): number {
    return this.#changed;
  }

  get last(): Turn | undefined {
    return this.turns.at(-1);
  }

  /** The first question, in one line. */
  get title(): string {
    return shortened(this.turns.find(({ role }) => role === 'user')?.content ?? '');
  }

  /** Forgets all but the first `count` turns. */
  rewind(count: number): void {
    this.turns.length = Math.min(count, this.turns.length);
  }

  add(turn: Turn): Turn {
    this.turns.push(turn);
    return turn;
  }

  /** A second conversation that begins with the first `count` turns. */
  fork(count: number): Conversation {
    const fork = new Conversation(this.#model);
    fork.turns.push(...this.turns.slice(0, count).map((turn) => ({ ...turn })));
    if (fork.last) fork.last.forked = true;
    return fork;
  }

  /** False where it is kept as long as the page only. */
  save(): boolean {
    this.#changed = Date.now();
    this.#text = this.turns.length > 0 ? JSON.stringify({ changed: this.#changed, turns: this.turns }) : null;
    return keep(this.key, this.#text);
  }

  /** Takes over what another tab has written. */
  takeOver(): Change {
    const before = [...this.turns];
    if (!this.#read()) return 'removed';
    const last = before.at(-1);
    const grown =
      last?.role === 'assistant' &&
      this.turns.length === before.length &&
      this.last?.role === last.role &&
      this.last.ended === last.ended &&
      this.turns.slice(0, -1).every((turn, index) => turn.content === before[index]?.content);
    return grown ? 'grown' : 'changed';
  }

  /** Goes on under an id of its own. `theirs`: what another tab wrote under the old one, and keeps there. */
  part(theirs: string | null): boolean {
    const wroteOver = theirs !== null && kept(this.key) === this.#text;
    if (wroteOver) keep(this.key, theirs);
    this.#id = newId();
    return this.save();
  }

  /** Reads what is kept. False, and nothing changes, where nothing is. */
  #read(): boolean {
    const text = kept(this.key);
    const record = parse(text);
    if (!record) return false;
    this.#text = text;
    this.#changed = record.changed;
    this.turns.splice(0, this.turns.length, ...record.turns);
    return true;
  }
}

/** Ids of the conversations with a model among the keys of a storage. */
export function idsIn(keys: string[], model: string): string[] {
  return keys.flatMap((key) => {
    const [id, ...rest] = key.startsWith(KEY) ? key.slice(KEY.length).split('/') : [];
    return id && rest.join('/') === model ? [id] : [];
  });
}

/** Beginning of the keys of an id. The model comes last: its name may hold any character. */
function keysOf(id: string): string {
  return `${KEY}${id}/`;
}

/** Not `randomUUID`, which pages over plain HTTP do not have. */
function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function shortened(text: string): string {
  const line = text.trim().replace(/\s+/g, ' ');
  if (line.length <= TITLE) return line;
  return `${line.slice(0, TITLE).replace(/\s+\S*$/, '')}…`;
}

function parse(text: string | null): { changed: number; turns: Turn[] } | null {
  try {
    const { changed, turns } = JSON.parse(text ?? 'null') as { changed: unknown; turns: unknown };
    return { changed: Number(changed) || 0, turns: turnsOf(turns) };
  } catch {
    return null;
  }
}

/** The turns in what was kept; none of what is no conversation. */
export function turnsOf(value: unknown): Turn[] {
  if (!Array.isArray(value) || !value.every(isTurn)) return [];
  // An answer of which nothing was heard was none.
  return value.filter(({ role, content }) => role === 'user' || content !== '');
}

function isTurn(value: unknown): value is Turn {
  if (typeof value !== 'object' || value === null) return false;
  const { role, content } = value as Partial<Turn>;
  return (role === 'user' || role === 'assistant') && typeof content === 'string';
}
