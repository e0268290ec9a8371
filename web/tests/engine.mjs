// The npm package in a browser, on files of this repository: goldens, conversations, OpenAI's shapes, faults, the
// worker, and a device that is lost amid a reply. On WebGPU, which without a graphics card is a software driver
// (SwiftShader in Chromium, the system's Vulkan in Firefox), and on the CPU.
//
//     CHROMIUM=/usr/bin/chromium node --test web/tests/engine.mjs
//     FIREFOX=/usr/bin/firefox-esr node --test web/tests/engine.mjs

import { after, before, test } from 'node:test';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { difference } from './compare.mjs';
import { expectGolden, expectTokens } from './goldens.mjs';
import { root } from './root.mjs';
import { openPage } from './support.mjs';

const DEMO = `${root}assets/demo/`;
/** Texts that the native binary is held to too. */
const texts = JSON.parse(readFileSync(`${DEMO}greedy.json`, 'utf8'));
const HELLO = texts.find(({ name }) => name === 'hello');

let page;
before(async () => {
  page = await openPage({ demo: DEMO, goldens: `${root}tests/goldens` });
  await page.evaluate(async () => {
    // The kernels' own test takes a software GPU minutes; native tests run it on all drivers, `families.mjs` here.
    const selfTest = false;
    const loaded = new Map();
    window.engine = (model, device, options = {}) => {
      const key = JSON.stringify([model, device, options]);
      if (!loaded.has(key)) loaded.set(key, selvedge.Engine.load(model, { device, store: false, selfTest, ...options }));
      return loaded.get(key);
    };
    window.demo = async () => {
      const names = ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
      const read = async (name) => [name, new Uint8Array(await (await fetch(`/demo/${name}`)).arrayBuffer())];
      return new Map(await Promise.all(names.map(read)));
    };
    window.withTemplate = async (begin) => {
      const files = await demo();
      const config = JSON.parse(new TextDecoder().decode(files.get('tokenizer_config.json')));
      config.chat_template = begin + config.chat_template;
      files.set('tokenizer_config.json', new TextEncoder().encode(JSON.stringify(config)));
      return selvedge.Engine.load(files, { device: 'cpu', store: false });
    };
    const parameters = {
      type: 'object',
      properties: { town: { type: 'string', maxLength: 9 } },
      required: ['town'],
      additionalProperties: false,
    };
    const named = (name) => ({ type: 'function', function: { name, description: 'Says something of a town.', parameters } });
    window.tools = ['weather', 'people'].map(named);
    window.failure = async (work) => {
      try {
        await work();
      } catch (error) {
        return { code: error.code, message: error.message, is: error instanceof selvedge.SelvedgeError };
      }
      return undefined;
    };
  });
});
after(() => page?.close());

// WebGPU in a browser: kernels take a software GPU seconds to compile, so two tests have all that is asked of it here.
test("Hymba's case A, gpu", () => expectTokens(page, 'hymba/caseA', 'p0', 'gpu'));

test('a device lost amid a reply is replaced, and the reply goes on', async () => {
  const { parts, lengths, events, after, deviceCount, formsFrom } = await page.evaluate(async () => {
    const { Engine } = selvedge;
    const devices = [];
    const original = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      const device = await original.apply(this, args);
      devices.push(device);
      return device;
    };
    const engine = await Engine.load('/demo', { device: 'gpu', selfTest: false });
    const formsFrom = [(await engine.stats()).device.formsFrom];
    const events = [];
    engine.on('devicelost', ({ message }) => events.push(`lost: ${message}`));
    engine.on('notice', ({ code }) => events.push(code));
    const ask = () => engine.session({ system: 'You are a helpful assistant.' }).send('Hello.');
    const parts = [];
    const lengths = [];
    for await (const part of ask()) {
      parts.push(part);
      lengths.push((await engine.stats()).state.tokens);
      if (parts.length === 4) devices.at(-1).destroy();
    }
    const after = (await ask()).text;
    // Also when nobody is waiting for anything.
    const idle = new Promise((resolve) => engine.on('notice', ({ code }) => code === 'restored' && resolve()));
    devices.at(-1).destroy();
    await idle;
    formsFrom.push((await engine.stats()).device.formsFrom);
    await engine.dispose();
    GPUAdapter.prototype.requestDevice = original;
    return { parts, lengths, events, after, deviceCount: devices.length, formsFrom };
  });
  assert.equal(parts.map(({ text }) => text).join(''), HELLO.text);
  assert.deepEqual(formsFrom, ['measured', 'kept']);
  // A GPU lets the page look on.
  assert.ok(new Set(lengths).size > 5, `${lengths}`);
  assert.equal(after, HELLO.text);
  assert.equal(deviceCount, 3);
  assert.deepEqual(events.map((event) => event.split(':')[0]), ['lost', 'restored', 'lost', 'restored']);
});

for (const prompt of ['p0', 'p1']) {
  test(`Hymba's case A, ${prompt}, cpu`, () => expectGolden(page, 'hymba/caseA', prompt, 'cpu'));
}

test('the demo model answers as natively', async () => {
  const said = await page.evaluate(async () => {
    const session = (await engine('/demo', 'cpu')).session({ system: 'You are a helpful assistant.' });
    const parts = [];
    for await (const part of session.send('Hello.')) parts.push(part);
    const [text, types] = [parts.map(({ text }) => text).join(''), parts.map(({ type }) => type)];
    return { text, types, messages: session.messages };
  });
  assert.equal(said.text, HELLO.text);
  assert.ok(said.types.length > 5 && said.types.every((type) => type === 'answer'));
  assert.deepEqual(said.messages.map(({ role }) => role), ['system', 'user', 'assistant']);
  assert.equal(said.messages[2].content, HELLO.text);
});

test('a turn reads its own tokens only, and what is rewound is read no more', async () => {
  const turns = await page.evaluate(async () => {
    const session = (await engine('/demo', 'cpu')).session({ system: 'You are a helpful assistant.' });
    const first = (await session.send('Tell me a story.')).usage;
    const second = (await session.send('Who was in the story?')).usage;
    const kept = structuredClone(session.messages.slice(0, 3));
    const again = await session.regenerate();
    session.rewind(3);
    const edited = await session.send('What did they eat?');
    return { first, second, again: again.usage, edited: edited.usage, kept, messages: session.messages };
  });
  const { first, second, kept, messages } = turns;
  // Other conversations have left the system message.
  assert.ok(first.readTokens > 0 && first.readTokens <= first.promptTokens);
  assert.ok(second.promptTokens > first.promptTokens + first.completionTokens - 2);
  assert.ok(second.readTokens < 20, `${second.readTokens} tokens were read`);
  assert.deepEqual(messages.slice(0, 3), kept);
  assert.equal(messages.length, 5);
  assert.equal(messages[3].content, 'What did they eat?');
  for (const { firstTokenMs, tokensPerSecond } of [first, second]) assert.ok(firstTokenMs > 0 && tokensPerSecond > 0);
});

test('a conversation is saved, goes on in another engine, and is forked', async () => {
  const run = await page.evaluate(async () => {
    const model = await engine('/demo', 'cpu');
    const nothing = await failure(() => model.session().snapshot());
    const session = model.session({ system: 'You are a helpful assistant.' });
    await session.send('One cold day Mia visited the lake. Ben saw a goat. What animal did Ben see?');
    const snapshot = await session.snapshot();
    const fork = session.fork();
    const forked = await fork.send('Where did Mia go?');
    const unbroken = await session.send('Where did Mia go?');

    const other = await selvedge.Engine.load('/demo', { device: 'cpu', store: false });
    const restored = await other.restore(snapshot);
    const messages = structuredClone(restored.messages);
    const later = await restored.send('Where did Mia go?');
    const damaged = snapshot.slice();
    damaged[damaged.length - 1] ^= 1;
    const refused = await failure(() => other.restore(damaged));
    await other.dispose();
    return { nothing, forked, unbroken, later, messages, refused, bytes: snapshot.length };
  });
  assert.equal(run.nothing.code, 'bad-request');
  assert.equal(run.later.text, run.unbroken.text);
  assert.equal(run.forked.text, run.unbroken.text);
  assert.deepEqual(run.messages.map(({ role }) => role), ['system', 'user', 'assistant']);
  assert.equal(run.later.usage.readAgain, null);
  assert.ok(run.later.usage.readTokens < 20, `${run.later.usage.readTokens} of ${run.later.usage.promptTokens} tokens were read`);
  assert.equal(run.refused.code, 'bad-state');
  assert.match(run.refused.message, /damaged/);
});

test('replies stop: by stop(), by a signal, by a stop text, by a limit', async () => {
  const ends = await page.evaluate(async () => {
    const model = await engine('/demo', 'cpu');
    const ask = (options) => {
      const session = model.session({ system: 'You are a helpful assistant.' });
      return [session, session.send('Tell me a story.', options)];
    };
    const [stopping, reply] = ask();
    for await (const _ of reply) reply.stop();
    const stopped = await reply;
    const controller = new AbortController();
    const [aborting, aborted] = ask({ signal: controller.signal });
    const error = await failure(async () => {
      for await (const _ of aborted) controller.abort();
    });
    const whole = (await ask()[1]).text;
    return {
      stopped,
      stoppedMessages: stopping.messages,
      error,
      abortedMessages: aborting.messages,
      goesOn: (await aborting.send('And then?')).text.length,
      whole,
      before: await ask({ stop: ['Ella ate'] })[1],
      limited: await ask({ maxTokens: 5 })[1],
    };
  });
  const { stopped, stoppedMessages, error, abortedMessages, goesOn, whole, before, limited } = ends;
  assert.equal(stopped.finishReason, 'cancelled');
  assert.ok(stopped.text.length > 0 && stopped.text.length < whole.length && whole.startsWith(stopped.text));
  assert.equal(stoppedMessages[2].content, stopped.text.trimEnd());
  assert.deepEqual([error.code, error.is], ['aborted', true]);
  assert.ok(abortedMessages[2].content.length > 0 && goesOn > 0);
  assert.equal(before.finishReason, 'stop');
  assert.equal(before.text, whole.slice(0, whole.indexOf('Ella ate')));
  assert.deepEqual([limited.finishReason, limited.usage.completionTokens], ['length', 5]);
});

test("OpenAI's shapes", async () => {
  const { whole, chunks, refused } = await page.evaluate(async () => {
    const { completions } = (await engine('/demo', 'cpu')).chat;
    const messages = [
      { role: 'developer', content: 'You are a helpful assistant.' },
      { role: 'user', content: [{ type: 'text', text: 'Hel' }, { type: 'text', text: 'lo.' }] },
    ];
    const chunks = [];
    const stream = await completions.create({ messages, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) chunks.push(chunk);
    const refused = [];
    for (const more of [
      { tools: [{}] },
      { tools: 'weather' },
      { tool_choice: 'required' },
      { tool_choice: 'required', tools: [] },
      { tools, tool_choice: 'sometimes' },
      { tools, tool_choice: ['auto'] },
      { tools, tool_choice: { type: 'function', function: { name: 'look' } } },
      { tools, tool_choice: 'required', response_format: { type: 'json_object' } },
      { tools: [{ type: 'function', function: { name: 'f', parameters: 5 } }], tool_choice: 'required' },
      { n: 0 },
      { n: 17 },
      { n: 1.5 },
      { logprobs: 3 },
      { top_logprobs: 3 },
      { logprobs: true, top_logprobs: 21 },
      { functions: tools },
      { messages: [] },
      { messages: ['Hello.'] },
      { messages: [{ role: 'narrator', content: 'Hello.' }] },
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      { messages: [{ role: 'assistant', tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '{' } }] }] },
      { logit_bias: { 5: 1e9 } },
      { response_format: { type: 'json_schema', json_schema: { name: 'x' } } },
      { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'nothing' } } } },
      { structured_outputs: { json: '{' } },
      { structured_outputs: { regex: '(' } },
      { structured_outputs: { regex: 'a', choice: ['a'] } },
      { messages: [{ role: 'tool', content: '' }] },
      { temperature: -1 },
    ]) {
      refused.push(await failure(() => completions.create({ messages, ...more })));
    }
    return { whole: await completions.create({ messages, seed: 1, temperature: 0 }), chunks, refused };
  });
  assert.equal(whole.choices[0].message.content, HELLO.text);
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  const deltas = chunks.flatMap(({ choices }) => choices);
  assert.equal(deltas.map(({ delta }) => delta.content ?? '').join(''), HELLO.text);
  assert.equal(deltas.at(-1).finish_reason, 'stop');
  assert.deepEqual(chunks.at(-1).usage, { ...whole.usage, prompt_tokens_details: chunks.at(-1).usage.prompt_tokens_details });
  for (const error of refused) assert.deepEqual([error?.code, error?.is], ['bad-request', true], JSON.stringify(error));
});

test('what binds a reply, on the page and in a worker', async () => {
  const found = await page.evaluate(async () => {
    const found = [];
    for (const kind of ['Engine', 'WorkerEngine']) {
      const engine = await selvedge[kind].load('/demo', { device: 'cpu', store: false });
      const messages = [{ role: 'user', content: 'Mia went to the lake.' }];
      const properties = { name: { type: 'string', maxLength: 9 }, age: { type: 'integer', minimum: 1, maximum: 99 } };
      const schema = { type: 'object', properties, required: ['name', 'age'], additionalProperties: false };
      const response_format = { type: 'json_schema', json_schema: { name: 'person', schema } };
      const choice = async (more) => {
        const { choices } = await engine.chat.completions.create({ messages, seed: 5, temperature: 1.2, max_tokens: 200, ...more });
        return choices[0];
      };
      const create = async (more) => (await choice(more)).message.content;
      const call = async (more) => {
        const { message, finish_reason } = await choice({ tools, ...more });
        return [finish_reason, message.content, message.tool_calls.map((call) => call.function)];
      };
      found.push({
        json: JSON.parse(await create({ response_format })),
        choice: await create({ structured_outputs: { choice: ['yes', 'no'] } }),
        lark: await create({ structured_outputs: { grammar: 'start: "<" start ">" | /[a-z]{1,3}/' }, temperature: 0 }),
        option: (await engine.session().send('Hello.', { grammar: { regex: '[0-9]{4}' } })).text,
        biased: await create({ temperature: 0, max_tokens: 3, logit_bias: { 70: 100 } }),
        called: await call({ tool_choice: 'required' }),
        named: await call({ tool_choice: { type: 'function', function: { name: 'people' } } }),
      });
      await engine.dispose();
    }
    return found;
  });
  const [{ json, choice, lark, option, biased, called, named }] = found;
  assert.deepEqual(found[1], found[0]);
  assert.deepEqual(Object.keys(json), ['name', 'age']);
  assert.ok(json.name.length <= 9 && json.age >= 1 && json.age <= 99, JSON.stringify(json));
  assert.ok(['yes', 'no'].includes(choice), choice);
  assert.match(lark, /^<*[a-z]{1,3}>*$/);
  assert.match(option, /^[0-9]{4}$/);
  assert.match(biased, /^(.)\1\1$/);
  for (const [reason, content, calls] of [called, named]) {
    assert.deepEqual([reason, content, calls.length], ['tool_calls', null, 1]);
    assert.deepEqual(Object.keys(JSON.parse(calls[0].arguments)), ['town']);
  }
  assert.ok(['weather', 'people'].includes(called[2][0].name));
  assert.equal(named[2][0].name, 'people');
});

test('tools reach the template, unless none may be called', async () => {
  const { told, untold } = await page.evaluate(async () => {
    // A template that says what it was given.
    const engine = await withTemplate("{% if tools %}{{ raise_exception('given ' ~ tools | tojson) }}{% endif %}");
    const { completions } = engine.chat;
    const messages = [{ role: 'system', content: 'You are a helpful assistant.' }, { role: 'user', content: 'Hello.' }];
    const told = [];
    for (const tool_choice of [undefined, 'auto']) {
      told.push(await failure(() => completions.create({ messages, tools, tool_choice })));
    }
    const untold = await completions.create({ messages, tools, tool_choice: 'none', temperature: 0 });
    await engine.dispose();
    return { told, untold: untold.choices[0].message.content };
  });
  for (const { message } of told) {
    const given = JSON.parse(message.slice(message.indexOf('given ') + 6, message.lastIndexOf(']') + 1));
    assert.equal(given[0].function.name, 'weather', message);
    assert.deepEqual(given[0].function.parameters.required, ['town']);
  }
  assert.equal(untold, HELLO.text);
});

test('calls are parsed: whole, in chunks, and in a session that answers them', async () => {
  const run = await page.evaluate(async () => {
    // By its markers the template shows a dialect, and then what was called.
    const engine = await withTemplate(
      '{# <tool_call> "arguments" #}{% for m in messages if m.tool_calls %}{{ m.tool_calls[0].function.arguments.town }}{% endfor %}',
    );
    const call = (name, town) => `<tool_call>{"name": "${name}", "arguments": {"town": "${town}"}}</tool_call>`;
    const text = `I look. ${call('weather', 'Rome')}\n${call('people', 'Bern')}`;
    const create = (more) => engine.chat.completions.create({
      messages: [{ role: 'user', content: 'Hello.' }],
      tools,
      structured_outputs: { choice: [text] },
      ...more,
    });
    const chunks = [];
    for await (const { choices } of await create({ stream: true })) chunks.push(...choices);
    const session = engine.session();
    const reply = session.send('Hello.', { tools, grammar: { choice: [text] } });
    const parts = [];
    for await (const part of reply) parts.push(part);
    const { toolCalls, finishReason } = await reply;
    const said = structuredClone(session.messages);
    const results = toolCalls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: 'Sunny.' }));
    const later = await session.send(results, { tools, maxTokens: 5 });
    session.rewind(4);
    const again = await session.regenerate({ tools, maxTokens: 5 });
    // A call that is cut is told, and is no part of the conversation.
    const cutting = engine.session();
    const cut = await cutting.send('Hello.', { tools, grammar: { choice: [text] }, maxTokens: 45 });
    const found = {
      whole: await create(),
      chunks,
      parts,
      finishReason,
      said,
      later,
      again,
      cut,
      cutMessages: cutting.messages,
      one: (await create({ parallel_tool_calls: false })).choices[0].message.tool_calls,
      none: (await create({ tool_choice: 'none' })).choices[0],
    };
    await engine.dispose();
    return { ...found, text };
  });
  const { message, finish_reason } = run.whole.choices[0];
  assert.deepEqual([message.content.trim(), finish_reason, run.finishReason], ['I look.', 'tool_calls', 'tool-calls']);
  const wanted = [['weather', { town: 'Rome' }], ['people', { town: 'Bern' }]];
  const calls = (calls) => calls.map(({ function: { name, arguments: json } }) => [name, JSON.parse(json)]);
  assert.deepEqual(calls(message.tool_calls), wanted);
  assert.equal(new Set(message.tool_calls.map(({ id }) => id)).size, 2);

  const streamed = [];
  for (const { delta } of run.chunks) {
    for (const { index, id, type, function: { name, arguments: json } } of delta.tool_calls ?? []) {
      if (id) streamed[index] = { id, type, function: { name, arguments: json } };
      else streamed[index].function.arguments += json;
    }
  }
  assert.deepEqual(calls(streamed), wanted);
  assert.ok(streamed.every(({ id, type }) => id.startsWith('call_') && type === 'function'));
  assert.equal(run.chunks.map(({ delta }) => delta.content ?? '').join('').trim(), 'I look.');
  assert.equal(run.chunks.at(-1).finish_reason, 'tool_calls');

  const kinds = run.parts.map(({ type }) => type).filter((type, at, all) => type !== all[at - 1]);
  assert.deepEqual(kinds, ['answer', ...Array(2).fill(['tool-call', 'tool-arguments', 'tool-call-end']).flat()]);
  assert.equal(run.parts.map(({ text }) => text).join('').trim(), 'I look.');
  assert.deepEqual(calls(run.said[1].tool_calls), wanted);
  assert.deepEqual([run.later.usage.completionTokens, run.again.text], [5, run.later.text]);
  assert.equal(run.cut.finishReason, 'length');
  assert.throws(() => calls(run.cut.toolCalls), SyntaxError);
  assert.deepEqual([run.cutMessages[1].content, run.cutMessages[1].tool_calls], ['I look.', undefined]);
  assert.deepEqual(calls(run.one), wanted.slice(0, 1));
  assert.deepEqual([run.none.message.content, run.none.finish_reason], [run.text, 'stop']);
});

test('probabilities, and several choices', async () => {
  const run = await page.evaluate(async () => {
    const model = await engine('/demo', 'cpu');
    const messages = [{ role: 'system', content: 'You are a helpful assistant.' }, { role: 'user', content: 'Hello.' }];
    const create = (more) => model.chat.completions.create({ messages, ...more });
    const all = async (stream) => {
      const chunks = [];
      for await (const chunk of await stream) chunks.push(chunk);
      return chunks;
    };
    const scored = { temperature: 0, logprobs: true, top_logprobs: 4 };
    const story = [messages[0], { role: 'user', content: 'Tell me a story.' }];
    const drawn = { messages: story, temperature: 1.5, seed: -1, n: 3, max_tokens: 30 };
    const alone = [];
    for (const seed of [-1, 0, 1]) alone.push((await create({ ...drawn, seed, n: 1 })).choices[0].message.content);
    return {
      scored: (await create(scored)).choices[0],
      scoredChunks: await all(create({ ...scored, stream: true })),
      few: (await create({ logprobs: true, max_tokens: 3 })).choices[0].logprobs.content,
      called: (await create({ tools, tool_choice: 'required', logprobs: true, max_tokens: 200 })).choices[0],
      drawn: await create(drawn),
      drawnChunks: await all(create({ ...drawn, stream: true, stream_options: { include_usage: true } })),
      alone,
      most: await failure(() => model.session().send('Hello.', { logprobs: 21 })),
    };
  });
  const { content, refusal } = run.scored.logprobs;
  assert.equal(content.map(({ token }) => token).join('').trim(), HELLO.text.trim());
  assert.equal(refusal, null);
  for (const { token, logprob, bytes, top_logprobs } of content) {
    assert.equal(new TextDecoder().decode(Uint8Array.from(bytes)), token);
    assert.deepEqual([top_logprobs.length, top_logprobs[0].token, top_logprobs[0].logprob], [4, token, logprob]);
    assert.ok(logprob <= 0 && top_logprobs.every((top, at) => at === 0 || top.logprob <= top_logprobs[at - 1].logprob));
  }
  const streamed = run.scoredChunks.flatMap(({ choices }) => choices).flatMap(({ logprobs }) => logprobs?.content ?? []);
  assert.deepEqual(streamed, content);
  assert.deepEqual(run.few.map(({ top_logprobs }) => top_logprobs), [[], [], []]);
  const { name, arguments: json } = run.called.message.tool_calls[0].function;
  const written = run.called.logprobs.content.map(({ token }) => token).join('');
  assert.ok(written.includes(name) && written.includes(json), written);
  assert.match(run.most.message, /0 to 20/);

  const texts = run.drawn.choices.map(({ message }) => message.content);
  assert.deepEqual(run.drawn.choices.map(({ index, logprobs }) => [index, logprobs]), [[0, null], [1, null], [2, null]]);
  assert.deepEqual([texts, new Set(texts).size], [run.alone, 3]);
  const parts = ['', '', ''];
  for (const { choices } of run.drawnChunks) for (const { index, delta } of choices) parts[index] += delta.content ?? '';
  assert.deepEqual(parts, texts);
  const { usage } = run.drawnChunks.at(-1);
  assert.deepEqual(
    [usage.prompt_tokens, usage.completion_tokens],
    [run.drawn.usage.prompt_tokens, run.drawn.usage.completion_tokens],
  );
  assert.ok(usage.completion_tokens > 30 && usage.total_tokens === usage.prompt_tokens + usage.completion_tokens);
});

test('embeddings, on the page and in a worker', async () => {
  const found = await page.evaluate(async () => {
    const input = ['One cold day', 'A dog ran.', 'The moon is far away.'];
    const models = [await engine('/demo', 'cpu'), await selvedge.WorkerEngine.load('/demo', { device: 'cpu', store: false })];
    const [here, there] = await Promise.all(models.map((model) => model.embeddings.create({ input })));
    const [model] = models;
    const one = async (body) => (await model.embeddings.create(body)).data[0].embedding;
    const faults = [];
    for (const body of [{ input: [] }, { input: 5 }, { input: [[]] }, { input: 'a', dimensions: 0 }, { input: 'a', dimensions: 1e6 },
      { input: 'a', pooling: 'max' }, { input: 'a', encoding_format: 'base64' }, { input: [1 << 30] }, { input: 'word '.repeat(20_000) }]) {
      faults.push(await failure(() => model.embeddings.create(body)));
    }
    const aborted = await failure(() => model.embeddings.create({ input }, { signal: AbortSignal.abort() }));
    await models[1].dispose();
    return { name: model.modelName, here, there, alone: await one({ input: input[1] }), last: await one({ input: input[1], pooling: 'last' }),
      short: await one({ input: input[1], dimensions: 8 }), ids: await one({ input: [5, 6, 7] }), faults, aborted };
  });
  const { here, there, alone, last, short, faults } = found;
  assert.deepEqual(here, there);
  assert.deepEqual(here.data.map(({ index, object }) => [index, object]), [0, 1, 2].map((index) => [index, 'embedding']));
  assert.ok(here.usage.prompt_tokens > 3 && here.usage.prompt_tokens === here.usage.total_tokens && here.model === found.name);
  const dot = (a, b) => a.reduce((sum, x, index) => sum + x * b[index], 0);
  for (const { embedding } of here.data) assert.ok(Math.abs(dot(embedding, embedding) - 1) < 1e-5);
  assert.ok(difference(alone, here.data[1].embedding) < 1e-6);
  assert.ok(difference(last, alone) > 1e-3 && found.ids.length === alone.length);
  const length = Math.hypot(...alone.slice(0, 8));
  assert.ok(difference(short, alone.slice(0, 8).map((x) => x / length)) < 1e-6);
  const codes = faults.map((fault) => fault?.is && fault.code);
  assert.deepEqual(codes, [...Array(8).fill('bad-request'), 'context-full']);
  assert.equal(found.aborted.code, 'aborted');
});

test('an engine in a worker is the same', async () => {
  const out = await page.evaluate(async () => {
    const { WorkerEngine } = selvedge;
    const stages = new Set();
    const engine = await WorkerEngine.load('/demo', { device: 'cpu', store: false, onProgress: ({ stage }) => stages.add(stage) });
    const session = engine.session({ system: 'You are a helpful assistant.' });
    const parts = [];
    for await (const part of session.send('Hello.')) parts.push(part.text);
    const reply = session.send('Tell me a story.');
    for await (const _ of reply) reply.stop();
    const { finishReason } = await reply;
    const stats = await engine.stats();
    const long = await failure(async () => session.send('word '.repeat(5000)));
    const logits = await engine.tokens.logits([1, 2, 3]);
    await engine.dispose();
    const gone = await failure(() => engine.stats());
    const controller = new AbortController();
    const stopped = await failure(() =>
      WorkerEngine.load('/demo', { store: false, signal: controller.signal, onProgress: () => controller.abort() }));
    return { parts, finishReason, stats, long, gone, stopped, stages: [...stages], logits: logits.length };
  });
  assert.equal(out.parts.join(''), HELLO.text);
  assert.equal(out.finishReason, 'cancelled');
  assert.deepEqual(out.stages, ['runtime', 'open', 'device', 'weights', 'ready']);
  assert.deepEqual([out.long.code, out.gone.code, out.stopped.code], ['context-full', 'disposed', 'aborted']);
  const { model, device, state, last, contextLength } = out.stats;
  assert.deepEqual([model.type, model.layers, device.backend, contextLength], ['hymba', 7, 'cpu', 2048]);
  assert.equal(state.bytes, state.fixed + state.perToken * state.tokens);
  assert.ok(state.tokens > 40 && state.transformerPerToken > state.perToken && last.completionTokens > 0);
  assert.equal(out.logits % 3, 0);
});

test('a model from files, from bytes and from a source of the page', async () => {
  const names = ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
  const answers = await page.evaluate(async (names) => {
    const { Engine, WorkerEngine } = selvedge;
    const bytes = new Map();
    for (const name of names) bytes.set(name, new Uint8Array(await (await fetch(`/demo/${name}`)).arrayBuffer()));
    const files = names.map((name) => new File([bytes.get(name)], name));
    const asked = [];
    const source = {
      describe: (name) => `mine/${name}`,
      size: async (name) => bytes.get(name)?.length ?? null,
      read: async (name, start, end) => {
        asked.push(name);
        return bytes.get(name).slice(start, end);
      },
    };
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('chosen', { create: true });
    for (const name of names) {
      const file = await (await folder.getFileHandle(name, { create: true })).createWritable();
      await file.write(bytes.get(name));
      await file.close();
    }
    const answers = [];
    for (const [Kind, model] of [[Engine, files], [Engine, bytes], [Engine, source], [WorkerEngine, source], [WorkerEngine, folder]]) {
      const engine = await Kind.load(model, { device: 'cpu' });
      answers.push((await engine.session({ system: 'You are a helpful assistant.' }).send('Hello.')).text);
      await engine.dispose();
    }
    return { answers, asked: asked.length };
  }, names);
  assert.deepEqual(answers.answers, Array(5).fill(HELLO.text));
  assert.ok(answers.asked > 8);
});

test('faults say what is wrong, and have a code', async () => {
  const failed = (work) => page.evaluate(`failure(async () => { ${work} })`);
  const cases = [
    ['await selvedge.Engine.load("/nowhere", { store: false })', 'not-found', /config\.json/],
    ['await selvedge.Engine.load("demo model")', 'bad-request', /names no model/],
    ['await selvedge.Engine.load(42)', 'bad-request', /a model is/],
    ['await selvedge.Engine.load("http://localhost:1/x", { store: false })', 'network', /cannot be fetched/],
    ['await selvedge.Engine.load({ "config.json": new TextEncoder().encode("{}") })', 'not-found', /no weights/],
    ['await selvedge.Engine.load("/demo", { device: "cpu", store: false, contextLength: 4096 })', 'bad-request', /2048/],
    ['await selvedge.Engine.load("/demo", { device: "cpu", store: false, memoryBudget: 5e6 })', 'out-of-memory', /5000000/],
    ['await selvedge.Engine.load("/demo", { device: "cpu", store: false, weights: "q1" })', 'bad-request', /q1/],
    ['await (await engine("/demo", "cpu")).tokens.logits([1, 5000])', 'bad-request', /vocabulary/],
    ['await (await engine("/goldens/hymba/caseA", "cpu")).session().send("Hello.")', 'unsupported-model', /tokenizer|template/],
    ['(await engine("/demo", "cpu")).session().rewind(3)', 'bad-request', /0 messages/],
    ['(await engine("/demo", "cpu")).session().regenerate()', 'bad-request', /send/],
  ];
  for (const [work, code, words] of cases) {
    const error = await failed(work);
    assert.deepEqual([error?.code, error?.is], [code, true], `${work}: ${JSON.stringify(error)}`);
    assert.match(error.message, words);
  }
});

test('without WebGPU a model runs on the CPU, and says so', async () => {
  const bare = await openPage({ demo: DEMO }, { withoutGpu: true });
  try {
    const { notices, stats, gpu } = await bare.evaluate(async () => {
      const notices = [];
      const engine = await selvedge.WorkerEngine.load('/demo', { store: false, onNotice: (notice) => notices.push(notice) });
      const here = await selvedge.Engine.load('/demo', { store: false, onNotice: (notice) => notices.push(notice) });
      await here.dispose();
      const gpu = await selvedge.Engine.load('/demo', { device: 'gpu' }).catch((error) => error.code);
      return { notices, stats: await engine.stats(), gpu };
    });
    assert.deepEqual(notices.map(({ code }) => code), ['cpu', 'cpu']);
    assert.match(notices[1].message, /no WebGPU/);
    assert.equal(stats.device.backend, 'cpu');
    assert.equal(gpu, 'no-device');
  } finally {
    await bare.close();
  }
});

test('differences are found', () => {
  assert.equal(difference([1, 2], [1, 2.5]), 0.5);
  assert.equal(difference([1, NaN], [1, 2]), Infinity);
});
