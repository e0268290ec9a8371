// Vercel's AI SDK over engines: the same calls on a model in this process and on `selvedge serve`, with the real package `ai`.
//
//     cargo build && node --test web/tests/ai-sdk.mjs

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { AbstractChat, Output, generateObject, generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';
import { killAll, start } from './binary.mjs';
import { root } from './root.mjs';
import { chunk, scripted, stream } from './scripted.mjs';
import { selvedge } from '../dist/ai-sdk/index.js';
import { EngineChatTransport } from '../dist/ai-sdk/transport.js';
import { Engine } from '../dist/node.js';
import { connect } from '../dist/remote/index.js';

const HELLO_ANSWER = 'Hello! Tell me a story, and I will answer questions about it.';
const HELLO = { instructions: 'You are a helpful assistant.', prompt: 'Hello.', maxRetries: 0 };
/** A reply that takes long. */
const ENDLESS = { providerOptions: { selvedge: { structured_outputs: { regex: '[a-z ]{3000,}' } } }, maxOutputTokens: 1500 };
const LONG = { ...HELLO, ...ENDLESS };

globalThis.AI_SDK_LOG_WARNINGS = false;

const engines = {};
let server;
before(async () => {
  server = await start();
  engines.local = await Engine.load(`${root}assets/demo`, { device: 'cpu' });
  engines.remote = await connect(server.address);
});
after(async () => {
  await engines.local?.dispose();
  killAll();
});

for (const name of ['local', 'remote']) {
  const model = () => selvedge(engines[name]);

  test(`${name}: generateText`, async () => {
    const { text, finishReason, usage, response, warnings } = await generateText({ model: model(), ...HELLO });
    assert.deepEqual([text, finishReason, warnings], [HELLO_ANSWER, 'stop', []]);
    assert.deepEqual([usage.inputTokens, usage.outputTokens, usage.totalTokens], [22, 22, 44]);
    assert.ok(response.timestamp instanceof Date && response.id.startsWith('chatcmpl-'));
    const again = await generateText({ model: model(), ...HELLO, maxOutputTokens: 3 });
    assert.deepEqual([again.finishReason, again.usage.outputTokens], ['length', 3]);
    const { cacheReadTokens, noCacheTokens } = again.usage.inputTokenDetails;
    assert.ok(cacheReadTokens > 15 && cacheReadTokens + noCacheTokens === 22, `${cacheReadTokens} were remembered`);
  });

  test(`${name}: streamText`, async () => {
    const result = streamText({ model: model(), ...HELLO });
    const deltas = [];
    const types = [];
    for await (const part of result.stream) {
      types.push(part.type);
      if (part.type === 'text-delta') deltas.push(part.text);
    }
    assert.equal(deltas.join(''), HELLO_ANSWER);
    assert.ok(deltas.length > 10);
    const blocks = types.filter((type) => type !== 'text-delta');
    assert.deepEqual(blocks, ['start', 'start-step', 'text-start', 'text-end', 'finish-step', 'finish']);
    assert.deepEqual([await result.finishReason, (await result.usage).outputTokens], ['stop', 22]);
  });

  test(`${name}: settings`, async () => {
    const ask = async (more) => (await generateText({ model: model(), ...HELLO, ...more })).text;
    assert.equal(await ask({ stopSequences: ['story', 'never'] }), 'Hello! Tell me a ');
    const drawn = (seed, more) => ask({ prompt: 'Tell me a story.', temperature: 1.5, seed, maxOutputTokens: 20, ...more });
    const [one, same, other] = [await drawn(1), await drawn(1), await drawn(2)];
    assert.equal(one, same);
    assert.notEqual(one, other);
    const story = (more) => ask({ prompt: 'Tell me a story.', temperature: 0, maxOutputTokens: 20, ...more });
    const greedy = await story({});
    assert.equal(await drawn(1, { topK: 1 }), greedy);
    assert.equal(await drawn(1, { topP: 1e-6 }), greedy);
    assert.notEqual(await story({ presencePenalty: 2 }), greedy);
    assert.notEqual(await story({ frequencyPenalty: 2 }), greedy);
    const providerOptions = { selvedge: { structured_outputs: { choice: ['yes', 'no, thanks'] } } };
    assert.ok(['yes', 'no, thanks'].includes(await ask({ providerOptions })));
    const unbound = await generateText({ model: model(), ...HELLO, headers: { 'x-mine': '1' }, reasoning: 'high', maxOutputTokens: 2 });
    assert.deepEqual(unbound.warnings.map(({ type, feature }) => [type, feature]), [
      ['unsupported', 'headers'],
      ['compatibility', 'reasoning: high'],
    ]);
  });

  test(`${name}: objects that keep to a schema`, async () => {
    const schema = jsonSchema({
      type: 'object',
      properties: { name: { type: 'string', maxLength: 12 }, mood: { enum: ['glad', 'sad'] } },
      required: ['name', 'mood'],
      additionalProperties: false,
    });
    const asked = { model: model(), ...HELLO, prompt: 'Tell me a story.', maxOutputTokens: 200 };
    const { output } = await generateText({ ...asked, output: Output.object({ schema, name: 'person' }) });
    assert.ok([...output.name].length <= 12 && ['glad', 'sad'].includes(output.mood), JSON.stringify(output));
    const result = streamText({ ...asked, output: Output.object({ schema }) });
    let last;
    for await (const partial of result.partialOutputStream) last = partial;
    assert.deepEqual(last, await result.output);
    assert.ok(['glad', 'sad'].includes(last.mood));
    const { object } = await generateObject({ ...asked, schema });
    assert.deepEqual(object, output);
    const choice = await generateText({ ...asked, output: Output.choice({ options: ['sunny', 'rainy'] }) });
    assert.ok(['sunny', 'rainy'].includes(choice.output));
  });

  test(`${name}: an abort in the middle`, async () => {
    const abort = new AbortController();
    const aborted = [];
    const result = streamText({ model: model(), ...LONG, abortSignal: abort.signal, onAbort: (event) => aborted.push(event) });
    let parts = 0;
    const types = new Set();
    for await (const { type } of result.stream) {
      types.add(type);
      if (type === 'text-delta' && ++parts === 5) abort.abort();
    }
    assert.ok(types.has('abort') && !types.has('error') && !types.has('finish'), [...types].join());
    assert.ok(parts < 200, `${parts} parts`);
    assert.equal(aborted.length, 1);
    const whole = new AbortController();
    const asked = generateText({ model: model(), ...LONG, abortSignal: whole.signal });
    setTimeout(() => whole.abort(), 30);
    await assert.rejects(asked, { name: 'AbortError' });
    const late = generateText({ model: model(), ...LONG, abortSignal: AbortSignal.timeout(30) });
    await assert.rejects(late, { name: 'TimeoutError' });
    // The engine is free for others.
    assert.equal((await generateText({ model: model(), ...HELLO })).text, HELLO_ANSWER);
  });

  test(`${name}: errors`, async () => {
    await assert.rejects(generateText({ model: model(), ...HELLO, temperature: -1 }), { name: 'SelvedgeError', code: 'bad-request' });
    const errors = [];
    const result = streamText({ model: model(), ...HELLO, temperature: -1, onError: ({ error }) => errors.push(error) });
    await result.consumeStream();
    assert.deepEqual(errors.map(({ code }) => code), ['bad-request']);
    const image = { type: 'file', mediaType: 'image/png', data: new Uint8Array([1, 2, 3]) };
    const messages = [{ role: 'user', content: [{ type: 'text', text: 'What is this?' }, image] }];
    await assert.rejects(generateText({ model: model(), messages, maxRetries: 0 }), /prompt\[0\].*image\/png.*reads text/);
    const note = { type: 'file', mediaType: 'text/plain', data: new TextEncoder().encode('Ben saw a goat.') };
    const read = [{ role: 'user', content: [note, { type: 'text', text: ' What animal did Ben see?' }] }];
    assert.equal((await generateText({ model: model(), instructions: HELLO.instructions, messages: read })).text, 'Ben saw a goat.');
  });

  test(`${name}: a chat of a page, without a server of its own`, async () => {
    const chat = new Chat(new EngineChatTransport(engines[name], { instructions: HELLO.instructions }));
    await chat.sendMessage({ text: 'Hello.' });
    await chat.sendMessage({ text: 'Tell me a story.' });
    const texts = () => chat.messages.map(({ role, parts }) => [role, parts.map(({ text }) => text ?? '').join('')]);
    assert.deepEqual(texts().slice(0, 3), [['user', 'Hello.'], ['assistant', HELLO_ANSWER], ['user', 'Tell me a story.']]);
    const [, story] = texts()[3];
    assert.ok(story.length > 20 && chat.status === 'ready');
    assert.ok(chat.grew > 20, `the page saw it grow (${chat.grew} times)`);
    await chat.regenerate();
    assert.equal(texts()[3][1], story);
    const long = new Chat(new EngineChatTransport(engines[name], ENDLESS));
    const sent = long.sendMessage({ text: 'Tell me a story.' });
    await long.until(() => long.messages.at(-1)?.role === 'assistant');
    await long.stop();
    await sent;
    assert.equal(long.status, 'ready');
    const wrong = new Chat(new EngineChatTransport(engines[name], { temperature: -1, maxRetries: 0, onError: () => {} }));
    await wrong.sendMessage({ text: 'Hello.' });
    assert.equal(wrong.status, 'error');
    assert.match(wrong.error.message, /temperature/, 'the page is told what went wrong');
    assert.equal(await chat.transported.reconnectToStream({ chatId: chat.id }), null);
  });
}

const weather = tool({
  description: 'The weather of a city.',
  inputSchema: jsonSchema({
    type: 'object',
    properties: { city: { enum: ['Paris', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
    required: ['city', 'days'],
    additionalProperties: false,
  }),
  execute: ({ city }) => ({ city, weather: 'sunny' }),
});
/** Forced in the first step; what the tool gave is answered in the second. */
const rounds = {
  tools: { weather },
  stopWhen: isStepCount(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? { type: 'tool', toolName: 'weather' } : 'none' }),
  temperature: 1.2,
  seed: 3,
  maxOutputTokens: 400,
};

for (const name of ['local', 'remote']) {
  test(`${name}: a tool is called, and its result goes back to the model`, async () => {
    const { steps, text } = await generateText({ model: selvedge(engines[name]), ...HELLO, ...rounds, include: { requestBody: true } });
    assert.equal(steps.length, 2);
    const [call] = steps[0].toolCalls;
    assert.deepEqual([call.toolName, steps[0].finishReason], ['weather', 'tool-calls']);
    assert.ok(['Paris', 'Rome'].includes(call.input.city) && call.input.days >= 1, JSON.stringify(call));
    assert.deepEqual(steps[0].toolResults[0].output, { city: call.input.city, weather: 'sunny' });
    const sent = steps[1].request.body.messages;
    assert.deepEqual(sent.map(({ role }) => role), ['system', 'user', 'assistant', 'tool']);
    assert.deepEqual(JSON.parse(sent[2].tool_calls[0].function.arguments), call.input);
    assert.deepEqual([sent[3].tool_call_id, JSON.parse(sent[3].content)], [call.toolCallId, { city: call.input.city, weather: 'sunny' }]);
    assert.ok(text.length > 0);
  });

  test(`${name}: a tool is called in a stream, its arguments as they come`, async () => {
    const result = streamText({ model: selvedge(engines[name]), ...HELLO, ...rounds });
    const [types, deltas] = [[], []];
    let called;
    for await (const part of result.stream) {
      types.push(part.type);
      if (part.type === 'tool-input-delta') deltas.push(part.delta);
      if (part.type === 'tool-call') called = part.input;
    }
    assert.deepEqual(JSON.parse(deltas.join('')), called);
    assert.ok(deltas.length > 3, `${deltas.length} pieces`);
    const order = ['tool-input-start', 'tool-input-end', 'tool-call', 'tool-result', 'text-start', 'finish'];
    const places = order.map((type) => types.indexOf(type));
    assert.ok(places.every((place, index) => place > (places[index - 1] ?? 0)), types.join());
    assert.equal((await result.steps).length, 2);
  });

  test(`${name}: a tool is called in a chat of a page`, async () => {
    const chat = new Chat(new EngineChatTransport(engines[name], { instructions: HELLO.instructions, ...rounds }));
    await chat.sendMessage({ text: 'What is the weather in Rome?' });
    const { parts } = chat.messages[1];
    const called = parts.find(({ type }) => type === 'tool-weather');
    assert.deepEqual([called.state, called.output.weather], ['output-available', 'sunny']);
    assert.ok(parts.some(({ type, text }) => type === 'text' && text.length > 0));
  });
}

test('thinking, several calls and what a server does not tell', async () => {
  const call = (index, id, json) => {
    const head = id && { id, type: 'function' };
    return chunk({ tool_calls: [{ index, ...head, function: { ...(id && { name: 'weather' }), arguments: json } }] });
  };
  const chunks = [
    chunk({ role: 'assistant', content: '' }),
    chunk({ reasoning_content: 'Let me ' }),
    chunk({ reasoning_content: 'see.' }),
    chunk({ content: 'I look it up.' }),
    call(0, 'a', ''),
    call(0, null, '{"city":"Rome",'),
    call(0, null, '"days":2}'),
    call(1, 'b', '{"city":"Paris","days":1}'),
    chunk({}, 'tool_calls'),
  ];
  const calls = [['a', '{"city":"Rome","days":2}'], ['b', '{"city":"Paris","days":1}']];
  const message = {
    role: 'assistant',
    content: 'I look it up.',
    reasoning: 'Let me see.',
    tool_calls: calls.map(([id, args]) => ({ id, type: 'function', function: { name: 'weather', arguments: args } })),
  };
  const asked = [];
  const other = await scripted((body, response) => {
    asked.push(body);
    if (body.stream) stream(response, chunks);
    else response.end(JSON.stringify({ ...chunk({}), choices: [{ index: 0, message, finish_reason: 'tool_calls' }] }));
  });
  try {
    const model = selvedge(await connect(other.address));
    const once = { model, ...HELLO, tools: { weather }, reasoning: 'none' };
    const result = streamText(once);
    const types = [];
    for await (const { type } of result.stream) types.push(type);
    const seen = types.filter((type) => /start|end|call/.test(type) && type !== 'start-step');
    const input = ['tool-input-start', 'tool-input-end', 'tool-call'];
    assert.deepEqual(seen, ['start', 'reasoning-start', 'reasoning-end', 'text-start', 'text-end', ...input, ...input]);
    for (const step of [(await result.steps)[0], (await generateText(once)).steps[0]]) {
      assert.deepEqual([step.reasoningText, step.text, step.finishReason], ['Let me see.', 'I look it up.', 'tool-calls']);
      assert.deepEqual(step.toolCalls.map(({ toolCallId, input }) => [toolCallId, JSON.stringify(input)]), calls);
      assert.deepEqual([step.usage.inputTokens, step.usage.outputTokens], [undefined, undefined]);
    }
    assert.deepEqual(asked.map(({ enable_thinking, tool_choice }) => [enable_thinking, tool_choice]), Array(2).fill([false, 'auto']));
    // What was thought goes back with the calls.
    const { responseMessages } = await generateText(once);
    await generateText({ ...once, prompt: undefined, messages: [{ role: 'user', content: 'Hello.' }, ...responseMessages] });
    const [, , said, ...results] = asked.at(-1).messages;
    assert.deepEqual([said.reasoning_content, said.content, said.tool_calls.length], ['Let me see.', 'I look it up.', 2]);
    assert.deepEqual(results.map(({ role, tool_call_id }) => [role, tool_call_id]), [['tool', 'a'], ['tool', 'b']]);
  } finally {
    other.close();
  }
});

test('a server that dies amid a reply ends the stream with an error', async () => {
  const dying = await start();
  const engine = await connect(dying.address, { retries: 0 });
  const errors = [];
  const result = streamText({ model: selvedge(engine), ...LONG, onError: ({ error }) => errors.push(error) });
  let text = '';
  for await (const part of result.stream) {
    if (part.type !== 'text-delta') continue;
    if (text === '') dying.child.kill('SIGKILL');
    text += part.text;
  }
  assert.ok(text.length > 0);
  assert.deepEqual(errors.map(({ code }) => code), ['interrupted']);
});

test('probabilities of tokens, in the metadata', async () => {
  const asked = { model: selvedge(engines.local), ...HELLO, providerOptions: { selvedge: { logprobs: true, top_logprobs: 2 } } };
  const { providerMetadata, text } = await generateText(asked);
  const { logprobs } = providerMetadata.selvedge;
  assert.equal(logprobs.map(({ token }) => token).join('').trim(), text);
  assert.ok(logprobs.every(({ logprob, top_logprobs }) => logprob <= 0 && top_logprobs.length === 2));
  const result = streamText(asked);
  await result.consumeStream();
  assert.deepEqual((await result.providerMetadata).selvedge.logprobs, logprobs);
});

/** A chat as frameworks build theirs, with the state in plain fields. */
class Chat extends AbstractChat {
  constructor(transport) {
    const waiting = new Set();
    const chat = { grew: 0 };
    const state = {
      status: 'ready',
      error: undefined,
      messages: [],
      pushMessage: (message) => (state.messages = [...state.messages, message]),
      popMessage: () => (state.messages = state.messages.slice(0, -1)),
      replaceMessage: (index, message) => {
        chat.grew += 1;
        state.messages = state.messages.with(index, message);
        for (const look of waiting) look();
      },
      snapshot: structuredClone,
    };
    super({ state, transport });
    this.transported = transport;
    this.until = (holds) =>
      new Promise((resolve) => {
        const look = () => {
          if (!holds()) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
    Object.defineProperty(this, 'grew', { get: () => chat.grew });
  }
}
