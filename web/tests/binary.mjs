// `selvedge serve` for tests: the binary that cargo built, or that the environment names, with the model that it carries, on
// the CPU.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import OpenAI from 'openai';
import { root } from './root.mjs';

const BINARY = process.env.SELVEDGE_BINARY ?? `${root}target/debug/selvedge`;

const running = new Set();

/** Ends every server that is left. */
export function killAll() {
  for (const child of running) child.kill('SIGKILL');
}

/** A server on a port of its own. */
export async function start(...options) {
  const child = spawn(BINARY, ['serve', '--device', 'cpu', '--port', '0', ...options]);
  running.add(child);
  child.once('exit', () => running.delete(child));
  const log = [];
  const ended = once(child, 'exit');
  const address = await new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      const [, address] = /^listening at (http\S+)\/v1;/.exec(line) ?? [];
      if (address) resolve(address);
    });
    void ended.then(() => reject(new Error(log.join('\n'))));
  });
  const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'none', maxRetries: 0 });
  const post = (path, body, headers = {}) =>
    fetch(address + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  const metric = async (name) => {
    const text = await (await fetch(`${address}/metrics`)).text();
    return Number(new RegExp(`^selvedge_${name} (\\d+)$`, 'm').exec(text)[1]);
  };
  return { address, client, post, metric, log, child, ended };
}
