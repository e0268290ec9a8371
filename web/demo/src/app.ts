// The page at work: a model is loaded, a person says something, the model answers.

import type { EngineInterface, EngineStats, Message, Remembered, Reply, Session } from 'selvedge';
import { WorkerEngine } from 'selvedge/worker';
import type { Conversation } from './conversation';
import { Conversations, MOST } from './conversations';
import { byId, h } from './dom';
import {
  identity,
  lastModel,
  lastRun,
  loadOptions,
  reference,
  rememberModel,
  rememberRun,
  title,
  type ModelChoice,
  type RunChoice,
} from './models';
import { trouble } from './trouble';
import { Bar } from './view/bar';
import { Composer } from './view/composer';
import { ConversationPicker } from './view/conversations';
import { Loading } from './view/loading';
import { Notices, type Remedy } from './view/notices';
import { panel } from './view/panel';
import { Picker } from './view/picker';
import { Stage } from './view/stage';
import { figures, of, tokens } from './words';

/** The system message, as in `selvedge chat`. */
const SYSTEM = 'You are a helpful assistant.';
/** Milliseconds between two looks at the engine's numbers while it answers. */
const LOOK = 400;

const UNKEPT =
  'What is said here is not kept: the browser has no room left for it or, as in a private window, keeps nothing. It is ' +
  'gone when this tab is closed. Removing other conversations may make room.';
const PARTED =
  'Another tab went on with this conversation too. What this tab made of it is a conversation of its own now; the ' +
  'other one is in the list.';
const REMOVED = 'Another tab removed this conversation. It is kept again as soon as something is said in it.';

export class App {
  readonly #bar = new Bar({
    onModel: () => this.#picker.open(this.#choice, this.#run),
    onConversations: () => this.#list.open(),
    onFresh: () => this.#open(this.#conversations.begin()),
  });
  readonly #composer = new Composer({ onSend: (text) => this.#say(text), onStop: () => this.#reply?.stop() });
  readonly #loading = new Loading(() => this.#abort.abort());
  readonly #notices = new Notices();
  readonly #stage = new Stage({
    onEdit: (index, text) => this.#edit(index, text),
    onRegenerate: () => this.#regenerate(),
    onFork: (index) => this.#fork(index),
    onLeave: () => this.#takeOver(),
    onAsk: (text) => this.#say(text),
  });
  readonly #picker = new Picker({
    onChoose: (choice, run) => void this.load(choice, run),
    stored: () => WorkerEngine.models().catch(() => []),
    remove: async (name) => {
      await WorkerEngine.remove(name).catch((error: unknown) => this.#notices.trouble(trouble(error), []));
    },
  });
  readonly #list = new ConversationPicker({
    onChoose: (conversation) => this.#open(conversation),
    onRemove: (conversation) => this.#remove(conversation),
    list: () => this.#conversations.list(),
    present: () => this.#conversation,
  });
  /** Text for screen readers. */
  readonly #said = h('p', { class: 'unseen', role: 'status', 'aria-live': 'polite' });

  #choice: ModelChoice = lastModel();
  #run: RunChoice = lastRun();
  #conversations = new Conversations(identity(this.#choice));
  #conversation = this.#conversations.present();
  /** Another tab has changed the conversation, and this one has not taken that over yet. */
  #behind = false;
  /** What was said last is kept. */
  #kept = true;
  #abort = new AbortController();
  #engine: EngineInterface | null = null;
  /** The sessions of the present engine. */
  #sessions = new WeakMap<Conversation, Session>();
  #reply: Reply | null = null;
  /** Somebody said something before the model was there. */
  #waiting = false;

  constructor() {
    byId('conversation').append(
      this.#notices.element,
      this.#stage.element,
      this.#loading.element,
      this.#composer.element,
      this.#said,
    );
    document.body.append(this.#picker.element, this.#list.element);
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.#reply && !document.querySelector('dialog[open]')) this.#reply.stop();
    });
    // What is not being answered is kept already, and another tab may have removed it.
    window.addEventListener('pagehide', () => this.#reply && this.#save());
    window.addEventListener('storage', (event) => this.#elsewhere(event));
    // Nothing is heard of other tabs while the browser has put the page aside.
    window.addEventListener('pageshow', ({ persisted }) => persisted && !this.#reply && this.#takeOver(true));
    this.#show(null, null);
  }

  /** Loads a model in place of the present one, and takes up the last conversation that was had with it. */
  async load(choice: ModelChoice = this.#choice, run: RunChoice = this.#run): Promise<void> {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    const before = this.#engine;
    this.#engine = null;
    this.#choice = choice;
    this.#run = run;
    this.#waiting = false;
    this.#conversations = new Conversations(identity(choice));
    this.#conversation = this.#conversations.present();
    this.#behind = false;
    this.#kept = true;
    this.#notices.clear();
    this.#show(null, null);
    this.#loading.begin(title(choice));
    this.#draw();
    this.#focus();
    try {
      await before?.dispose();
      abort.signal.throwIfAborted();
      const engine = await WorkerEngine.load(reference(choice), {
        ...loadOptions(choice, run),
        signal: abort.signal,
        onProgress: (progress) => abort === this.#abort && this.#loading.show(progress),
        onNotice: (notice) => abort === this.#abort && this.#notices.notice(notice),
      });
      if (abort !== this.#abort) return void (await engine.dispose());
      rememberModel(choice);
      rememberRun(run);
      await this.#begin(engine);
    } catch (error) {
      if (abort !== this.#abort) return;
      this.#loading.end();
      this.#waiting = false;
      this.#draw();
      this.#fail(error);
    }
  }

  async #begin(engine: EngineInterface): Promise<void> {
    engine.on('devicelost', () =>
      this.#notices.say('restored', 'The GPU went away. The model is being loaded again, and goes on by itself.'),
    );
    engine.on('memory', ({ message }) => this.#notices.say('no-room', message));
    this.#engine = engine;
    this.#sessions = new WeakMap();
    this.#show(await engine.stats(), null);
    this.#loading.end();
    this.#said.textContent = `${title(this.#choice)} is ready.`;
    if (this.#waiting) {
      this.#waiting = false;
      await this.#answer();
    } else {
      this.#draw();
      await this.#look();
    }
  }

  /** To the box to write in, unless that would bring up a keyboard on the screen. */
  #focus(): void {
    if (matchMedia('(hover: hover)').matches) this.#composer.focus();
  }

  /** Puts another conversation on the page. */
  #open(conversation: Conversation): void {
    if (this.#reply) return;
    this.#conversation = conversation;
    this.#conversations.open(conversation);
    this.#waiting = false;
    this.#behind = false;
    this.#notices.remove('tabs');
    this.#draw();
    this.#focus();
    void this.#look();
  }

  #remove(conversation: Conversation): void {
    this.#conversations.remove(conversation);
    // What is remembered holds the text, of all conversations: the others are read again after a reload.
    void WorkerEngine.forget().catch(() => {});
    const present = conversation.id === this.#conversation.id;
    if (present) this.#open(this.#conversations.list()[0] ?? this.#conversations.begin());
    // Now there may be room for it.
    else if (!this.#kept && !this.#behind) this.#save();
  }

  /** Goes on in a second conversation that begins with the turns up to `index`. */
  #fork(index: number): void {
    if (this.#reply) return;
    const fork = this.#conversation.fork(index + 1);
    this.#save(fork);
    this.#trim(fork);
    this.#open(fork);
    this.#said.textContent = 'This is a second conversation now. The first one is in the list.';
  }

  /** Keeps a conversation, and says so where it cannot be kept. */
  #save(conversation = this.#conversation): void {
    this.#tellKept(conversation.save());
  }

  #tellKept(kept: boolean): void {
    // Said once, and not with every word of an answer.
    if (kept !== this.#kept && kept) this.#notices.remove('unkept');
    if (kept !== this.#kept && !kept) this.#notices.say('unkept', UNKEPT);
    this.#kept = kept;
  }

  /** The conversation is this tab's to change. What another tab has made of it meanwhile stays as it is. */
  #claim(): void {
    this.#conversations.open(this.#conversation);
    if (this.#behind) this.#part(null);
  }

  #part(theirs: string | null): void {
    this.#behind = false;
    this.#tellKept(this.#conversation.part(theirs));
    this.#conversations.open(this.#conversation);
    this.#notices.say('tabs', PARTED);
  }

  /** Another tab has written. */
  #elsewhere({ key, newValue }: StorageEvent): void {
    this.#list.refresh();
    // Without a key, everything was removed.
    if (key !== null && key !== this.#conversation.key) return;
    if (newValue === null) return this.#tellRemoved();
    if (this.#reply || this.#waiting) return this.#part(newValue);
    this.#behind = true;
    // A person amid an edit is left in peace until it is done or put away.
    if (!this.#stage.editing) this.#takeOver();
  }

  /** Shows what another tab has made of the conversation, if anything is known of that. */
  #takeOver(known = this.#behind): void {
    if (!known) return;
    this.#behind = false;
    const change = this.#conversation.takeOver();
    if (change === 'removed') return this.#tellRemoved();
    if (change === 'grown') return this.#stage.grow();
    this.#draw(true);
    void this.#look();
  }

  #tellRemoved(): void {
    if (this.#conversation.turns.length > 0) this.#notices.say('tabs', REMOVED);
  }

  #say(text: string): void {
    if (this.#reply) return;
    this.#claim();
    this.#conversation.add({ role: 'user', content: text });
    this.#save();
    this.#trim(this.#conversation);
    void this.#answer();
  }

  /** Says something else in place of turn `index`. */
  #edit(index: number, text: string): void {
    if (this.#reply) return;
    this.#claim();
    this.#conversation.rewind(index);
    this.#say(text);
  }

  #regenerate(): void {
    if (this.#reply) return;
    this.#claim();
    const { turns, last } = this.#conversation;
    if (last?.role === 'assistant') this.#conversation.rewind(turns.length - 1);
    void this.#answer();
    this.#focus();
  }

  /** Says which conversations had to make room. */
  #trim(begun: Conversation): void {
    const removed = this.#conversations.trim(begun);
    if (removed.length === 0) return;
    const titles = removed.map(({ title }) => `“${title}”`).join(', ');
    this.#notices.say('trimmed', `There is room for ${MOST} conversations with a model. The oldest was removed: ${titles}`);
  }

  /** The engine's side of a conversation, up to its first `count` turns. */
  #session(engine: EngineInterface, conversation: Conversation, count: number): Session {
    const messages = conversation.turns.slice(0, count).map(({ role, content }) => ({ role, content }));
    const begun = this.#sessions.get(conversation);
    const all: Message[] = [{ role: 'system', content: SYSTEM }, ...messages];
    const same = all.every(({ role, content }, index) => {
      const message = begun?.messages[index];
      return message?.role === role && message.content === content;
    });
    if (begun && same) {
      begun.rewind(all.length);
      return begun;
    }
    // Tokens that were read already are not read again, whichever session they are of.
    const session = engine.session({ system: SYSTEM, messages, keep: true });
    this.#sessions.set(conversation, session);
    return session;
  }

  /** Answers the last turn, which is the person's. */
  async #answer(): Promise<void> {
    const conversation = this.#conversation;
    const question = conversation.last;
    if (question?.role !== 'user') return;
    const engine = this.#engine;
    if (!engine) {
      this.#waiting = this.#loading.element.hidden === false;
      this.#draw();
      if (!this.#waiting) void this.load();
      return;
    }
    // As long as it is answered, nobody leaves it.
    this.#list.element.close();
    const session = this.#session(engine, conversation, conversation.turns.length - 1);
    // Until it is whole it counts as stopped, which it is if the page goes away.
    const turn = conversation.add({ role: 'assistant', content: '', ended: 'stopped' });
    const reply = (this.#reply = session.send(question.content));
    this.#draw();
    this.#said.textContent = 'Answering';
    this.#save(conversation);
    const looks = setInterval(() => {
      this.#save(conversation);
      void this.#look();
    }, LOOK);
    try {
      for await (const part of reply) {
        if (part.type === 'thinking') turn.thinking = (turn.thinking ?? '') + part.text;
        else turn.content += part.text;
        this.#stage.grow();
      }
      const { text, finishReason } = await reply;
      turn.content = text;
      // The page has no tools.
      if (finishReason === 'stop' || finishReason === 'tool-calls') delete turn.ended;
      else if (finishReason !== 'cancelled') turn.ended = finishReason;
    } catch (error) {
      if (engine === this.#engine) this.#fail(error);
    } finally {
      clearInterval(looks);
      this.#reply = null;
    }
    // An answer that was stopped before its first word was none.
    if (turn.content === '' && turn.ended === 'stopped') conversation.rewind(conversation.turns.length - 1);
    this.#save(conversation);
    if (conversation !== this.#conversation) return;
    this.#draw();
    this.#said.textContent = turn.content || 'Stopped';
    await this.#look();
  }

  /** `elsewhere`: what is new comes from another tab. */
  #draw(elsewhere = false): void {
    const { turns, title: about } = this.#conversation;
    const answering = this.#reply !== null;
    this.#bar.model(title(this.#choice));
    this.#bar.conversation(about, turns.length > 0, answering);
    this.#composer.answering(answering);
    const failed = this.#engine === null && this.#loading.element.hidden === true;
    const demo = this.#choice.kind === 'demo';
    this.#stage.draw(turns, { answering, demo, failed, waiting: this.#waiting, elsewhere });
  }

  /** The numbers as they are now. */
  async #look(): Promise<void> {
    const [engine, conversation, reply] = [this.#engine, this.#conversation, this.#reply];
    if (!engine) return;
    const known = reply === null && conversation.turns.length > 0;
    // Numbers are not worth an error of their own: what they are about will say what is wrong.
    const session = known ? this.#session(engine, conversation, conversation.turns.length) : null;
    const remembered = (await session?.remembered().catch(() => null)) ?? null;
    const stats = await engine.stats().catch(() => null);
    const same = engine === this.#engine && conversation === this.#conversation && reply === this.#reply;
    if (stats && same) this.#show(stats, remembered);
  }

  #show(stats: EngineStats | null, remembered: Remembered | null): void {
    // What the engine worked on last may be another conversation than the one on the page.
    const count = remembered?.tokens ?? (this.#reply ? stats?.state.tokens : 0) ?? 0;
    byId('panel').replaceChildren(...panel(stats && sized(stats, count), remembered));
    const pace = stats?.last?.tokensPerSecond ?? 0;
    const speed = pace > 0 ? `${figures(pace)} tokens/s · ` : '';
    const known = remembered ? of(remembered.remembered, remembered.tokens) : count > 0 && tokens(count);
    this.#composer.hint(known ? `${speed}${known} remembered` : 'What you write stays on this device.');
  }

  #fail(error: unknown): void {
    const what = trouble(error);
    const again: Remedy = { label: 'Try again', act: () => void this.load() };
    const onCpu: Remedy = {
      label: 'Use the CPU',
      act: () => void this.load(this.#choice, { ...this.#run, device: 'cpu' }),
    };
    const another: Remedy = { label: 'Choose another model', act: () => this.#picker.open(this.#choice, this.#run) };
    const fresh: Remedy = { label: 'New conversation', act: () => this.#open(this.#conversations.begin()) };
    const remedies: Partial<Record<typeof what.code, Remedy[]>> = {
      'not-found': [another],
      'unsupported-model': [another],
      'no-device': [onCpu, another],
      'faulty-device': [onCpu, another],
      'out-of-memory': [another, onCpu],
      'context-full': [fresh],
      'not-finite': [fresh, another],
      'bad-request': [again, another],
    };
    this.#notices.trouble(what, remedies[what.code] ?? [again, another]);
  }
}

/** The numbers for a conversation of another length. */
function sized(stats: EngineStats, tokens: number): EngineStats {
  const { fixed, perToken, transformerPerToken } = stats.state;
  const [bytes, transformerBytes] = [fixed + perToken * tokens, transformerPerToken * tokens];
  return { ...stats, state: { ...stats.state, tokens, bytes, transformerBytes } };
}
