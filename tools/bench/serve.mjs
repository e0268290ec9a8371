// Throughput of `selvedge serve` against the count of replies made at once, and the time to a first token with and without what
// is remembered.
//
//     cargo build --release && node tools/bench/serve.mjs [MODEL] > table.md
//
// 64 completions of 64 tokens, each of a prompt of its own, by as many clients as there are slots. Five rounds over all counts, so
// that other work on the machine falls on all of them: the median rate, and the median of the ratios to one reply within a round.
// First tokens: a chat with a system prompt of about 700 tokens, eleven times in turn one that was never seen and one that is known,
// each time with another question; medians.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const BINARY = process.env.SELVEDGE_BINARY ?? 'target/release/selvedge';
const MODEL = process.argv.slice(2);
const DEVICE = process.env.SELVEDGE_DEVICE ?? 'cpu';
const [COMPLETIONS, TOKENS, ROUNDS, CHATS] = [64, 64, 5, 11];
const COUNTS = [1, 2, 4, 8, 16, 32, 64];

async function start(...options) {
  const child = spawn(BINARY, ['serve', ...MODEL, '--device', DEVICE, '--port', '0', '--quiet', ...options]);
  const address = await new Promise((resolve, reject) => {
    const said = [];
    createInterface({ input: child.stderr }).on('line', (line) => {
      said.push(line);
      const [, found] = /^listening at (http\S+)\/v1;/.exec(line) ?? [];
      if (found) resolve(found);
    });
    child.once('exit', () => reject(new Error(said.join('\n'))));
  });
  const post = (path, body) =>
    fetch(address + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const end = async () => {
    child.kill('SIGTERM');
    await once(child, 'exit');
  };
  return { post, end };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];

/** Tokens a second with so many replies at once. */
async function throughput(slots) {
  const server = await start('--slots', String(slots));
  const all = async (completions, tokens, salt) => {
    let next = 0;
    let made = 0;
    const client = async () => {
      while (next < completions) {
        next += 1;
        const prompt = `One cold day Mia visited place ${salt} ${next}`;
        const body = { prompt, max_tokens: tokens, temperature: 1.5, seed: next };
        const { usage } = await (await server.post('/v1/completions', body)).json();
        made += usage.completion_tokens;
      }
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: slots }, client));
    return (1000 * made) / (performance.now() - began);
  };
  await all(slots, 8, 'to warm up');
  const rate = await all(COMPLETIONS, TOKENS, 'number');
  await server.end();
  return rate;
}

/** Milliseconds to the first token of chats whose system prompt was never seen, and is known; with the counts of their tokens. */
async function firstTokens() {
  const server = await start('--slots', '1');
  const system = (salt) => `You are helper ${salt}. ${'Mia visited the lake. Emma met Finn. '.repeat(80)}`;
  const ask = async (salt, question) => {
    const messages = [{ role: 'system', content: system(salt) }, { role: 'user', content: question }];
    const began = performance.now();
    const response = await server.post('/v1/chat/completions', { messages, max_tokens: 1 });
    const { usage } = await response.json();
    return { time: performance.now() - began, usage };
  };
  await ask('of all', 'Who?');
  const [fresh, known] = [[], []];
  for (let index = 0; index < CHATS; index += 1) {
    const question = `Where did Mia go, ${index}?`;
    fresh.push(await ask(`number ${index}`, question));
    known.push(await ask('of all', question));
  }
  await server.end();
  return { fresh, known };
}

const rates = new Map(COUNTS.map((slots) => [slots, []]));
for (let round = 0; round < ROUNDS; round += 1) {
  for (const slots of COUNTS) rates.get(slots).push(await throughput(slots));
}
console.log('| replies at once | tokens a second | of one |\n|---:|---:|---:|');
for (const [slots, measured] of rates) {
  const ratios = measured.map((rate, round) => rate / rates.get(1)[round]);
  console.log(`| ${slots} | ${median(measured).toFixed(0)} | ${median(ratios).toFixed(2)} |`);
}
const { fresh, known } = await firstTokens();
console.log('\n| first token | milliseconds | tokens of the prompt | of them remembered |\n|---|---:|---:|---:|');
for (const [what, asked] of [['nothing is known', fresh], ['the system prompt is known', known]]) {
  const { prompt_tokens, prompt_tokens_details } = asked.at(-1).usage;
  const time = median(asked.map((one) => one.time));
  console.log(`| ${what} | ${time.toFixed(1)} | ${prompt_tokens} | ${prompt_tokens_details.cached_tokens} |`);
}
const gains = fresh.map((one, index) => one.time / known[index].time);
console.log(`\nThe first takes ${median(gains).toFixed(1)} times as long (the median of ${CHATS} pairs).`);
