// The page at work: a model is loaded, a person says something, the model answers.

import type { EngineInterface, EngineStats, Notice, Reply } from 'selvedge';
import { WorkerEngine } from 'selvedge/worker';
import { Conversation } from './conversation';
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
import { Loading } from './view/loading';
import { Notices, type Remedy } from './view/notices';
import { panel } from './view/panel';
import { Picker } from './view/picker';
import { Stage } from './view/stage';
import { bytes, figures, tokens } from './words';

/** The system message, as in `selvedge chat`. */
const SYSTEM = 'You are a helpful assistant.';
/** Milliseconds between two looks at the engine's numbers while it answers. */
const LOOK = 400;

export class App {
  readonly #bar = new Bar({
    onModel: () => this.#picker.open(this.#choice, this.#run),
    onFresh: () => this.#edit(0, null),
  });
  readonly #composer = new Composer({ onSend: (text) => this.#say(text), onStop: () => this.#reply?.stop() });
  readonly #loading = new Loading(() => this.#abort.abort());
  readonly #notices = new Notices();
  readonly #stage = new Stage({
    onEdit: (index, text) => this.#edit(index, text),
    onRegenerate: () => this.#regenerate(),
    onAsk: (text) => this.#say(text),
  });
  readonly #picker = new Picker({
    onChoose: (choice, run) => void this.load(choice, run),
    stored: () => WorkerEngine.models().catch(() => []),
    remove: async (name) => {
      await WorkerEngine.remove(name).catch((error: unknown) => this.#notices.trouble(trouble(error), []));
    },
  });
  /** Text for screen readers. */
  readonly #said = h('p', { class: 'unseen', role: 'status', 'aria-live': 'polite' });

  #choice: ModelChoice = lastModel();
  #run: RunChoice = lastRun();
  #conversation = new Conversation(identity(this.#choice));
  #abort = new AbortController();
  #engine: EngineInterface | null = null;
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
    document.body.append(this.#picker.element);
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.#reply && !this.#picker.element.open) this.#reply.stop();
    });
    window.addEventListener('pagehide', () => this.#conversation.save());
    this.#show(null);
  }

  /** Loads a model in place of the present one, and takes up the conversation that was had with it. */
  async load(choice: ModelChoice = this.#choice, run: RunChoice = this.#run): Promise<void> {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    const before = this.#engine;
    this.#engine = null;
    this.#choice = choice;
    this.#run = run;
    this.#waiting = false;
    this.#conversation = new Conversation(identity(choice));
    this.#notices.clear();
    this.#show(null);
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
      this.#tell('The GPU went away. The model is being loaded again, and goes on by itself.'),
    );
    engine.on('memory', ({ message }) => this.#tell(message));
    this.#engine = engine;
    this.#show(await engine.stats());
    this.#loading.end();
    this.#said.textContent = `${title(this.#choice)} is ready.`;
    if (this.#waiting) {
      this.#waiting = false;
      await this.#answer();
    } else {
      this.#draw();
    }
  }

  /** To the box to write in, unless that would bring up a keyboard on the screen. */
  #focus(): void {
    if (matchMedia('(hover: hover)').matches) this.#composer.focus();
  }

  #tell(message: string): void {
    const notice: Notice = { code: 'restored', message };
    this.#notices.notice(notice);
  }

  #say(text: string): void {
    if (this.#reply) return;
    this.#conversation.add({ role: 'user', content: text });
    void this.#answer();
  }

  /** Says something else in place of turn `index`; `null`: nothing. */
  #edit(index: number, text: string | null): void {
    if (this.#reply) return;
    this.#conversation.rewind(index);
    if (text !== null) return this.#say(text);
    this.#draw();
    this.#focus();
  }

  #regenerate(): void {
    if (this.#reply) return;
    const { turns, last } = this.#conversation;
    if (last?.role === 'assistant') this.#conversation.rewind(turns.length - 1);
    void this.#answer();
    this.#focus();
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
    // Tokens that a slot has read already are not read again, whichever session they are of.
    const messages = conversation.turns.slice(0, -1).map(({ role, content }) => ({ role, content }));
    const session = engine.session({ system: SYSTEM, messages });
    // Until it is whole it counts as stopped, which it is if the page goes away.
    const turn = conversation.add({ role: 'assistant', content: '', ended: 'stopped' });
    const reply = (this.#reply = session.send(question.content));
    this.#draw();
    this.#said.textContent = 'Answering';
    const looks = setInterval(() => {
      conversation.save();
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
      if (finishReason === 'stop') delete turn.ended;
      else if (finishReason !== 'cancelled') turn.ended = finishReason;
    } catch (error) {
      if (engine === this.#engine) this.#fail(error);
    } finally {
      clearInterval(looks);
      this.#reply = null;
    }
    // An answer that was stopped before its first word was none.
    if (turn.content === '' && turn.ended === 'stopped') conversation.rewind(conversation.turns.length - 1);
    conversation.save();
    if (conversation !== this.#conversation) return;
    this.#draw();
    this.#said.textContent = turn.content || 'Stopped';
    await this.#look();
  }

  #draw(): void {
    const { turns } = this.#conversation;
    const answering = this.#reply !== null;
    this.#bar.model(title(this.#choice));
    this.#bar.canBeginAgain(turns.length > 0 && !answering);
    this.#composer.answering(answering);
    const failed = this.#engine === null && this.#loading.element.hidden === true;
    this.#stage.draw(turns, { answering, demo: this.#choice.kind === 'demo', failed, waiting: this.#waiting });
  }

  /** The numbers as they are now. */
  async #look(): Promise<void> {
    const engine = this.#engine;
    if (!engine) return;
    // Numbers are not worth an error of their own: what they are about will say what is wrong.
    const stats = await engine.stats().catch(() => null);
    if (stats && engine === this.#engine) this.#show(stats);
  }

  #show(stats: EngineStats | null): void {
    byId('panel').replaceChildren(...panel(stats));
    const speed =
      stats?.last && stats.last.tokensPerSecond > 0 ? `${figures(stats.last.tokensPerSecond)} tokens/s · ` : '';
    const known =
      stats &&
      stats.state.tokens > 0 &&
      `${speed}${tokens(stats.state.tokens)} remembered in ${bytes(stats.state.bytes)}`;
    this.#composer.hint(known || 'What you write stays on this device.');
  }

  #fail(error: unknown): void {
    const what = trouble(error);
    const again: Remedy = { label: 'Try again', act: () => void this.load() };
    const onCpu: Remedy = {
      label: 'Use the CPU',
      act: () => void this.load(this.#choice, { ...this.#run, device: 'cpu' }),
    };
    const another: Remedy = { label: 'Choose another model', act: () => this.#picker.open(this.#choice, this.#run) };
    const fresh: Remedy = { label: 'New conversation', act: () => this.#edit(0, null) };
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
