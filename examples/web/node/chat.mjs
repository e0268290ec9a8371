// A conversation in the terminal:  node chat.mjs FOLDER [gpu|cpu]

import { stdin, stdout } from 'node:process';
import { createInterface } from 'node:readline';
import { Engine } from 'selvedge/node';

const [model, device = 'auto'] = process.argv.slice(2);
if (!model) {
  console.error('usage: node chat.mjs FOLDER [gpu|cpu]');
  process.exit(2);
}

const engine = await Engine.load(model, {
  device,
  onProgress: ({ stage, done, total }) => stage === 'weights' && console.error(`${done} of ${total} bytes`),
  onNotice: ({ message }) => console.error(message),
});
const session = engine.session({ system: 'You are a helpful assistant.' });

const lines = createInterface({ input: stdin, output: stdout, prompt: '> ', terminal: stdin.isTTY });
lines.prompt();
for await (const line of lines) {
  if (line.trim() !== '') {
    for await (const part of session.send(line)) stdout.write(part.text);
    stdout.write('\n');
  }
  lines.prompt();
}

const { device: ranOn, last } = await engine.stats();
if (last) console.error(`${last.tokensPerSecond.toFixed(1)} tokens a second on ${ranOn.adapter}`);
await engine.dispose();
// The package `webgpu` keeps the process alive.
process.exit();
