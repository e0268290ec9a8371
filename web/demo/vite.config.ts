// The demo page: `vite build` writes it to dist/, a folder that any server can serve, at any path.

import { createReadStream, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Where the demo model lies in the repository, and the files of it that the engine reads. */
const MODEL = at('../../assets/demo/');
const FILES = ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
const TYPES: Record<string, string> = { '.json': 'application/json' };

/** Puts the demo model into the page's folder `model/`, from where it lies: the repository holds it once. */
function demoModel(): Plugin {
  return {
    name: 'selvedge-demo-model',
    configureServer({ middlewares }) {
      middlewares.use('/model', (request, response, next) => {
        const name = (request.url ?? '').replace(/^\/|\?.*$/g, '');
        if (!FILES.includes(name)) return next();
        const { size } = statSync(join(MODEL, name));
        const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
        const start = range ? Number(range[1]) : 0;
        const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
        if (range) response.setHeader('content-range', `bytes ${start}-${end}/${size}`);
        response.writeHead(range ? 206 : 200, {
          'accept-ranges': 'bytes',
          'content-length': end - start + 1,
          'content-type': TYPES[extname(name)] ?? 'application/octet-stream',
        });
        if (request.method === 'HEAD') return response.end();
        createReadStream(join(MODEL, name), { start, end }).pipe(response);
      });
    },
    generateBundle() {
      for (const name of FILES) {
        this.emitFile({ type: 'asset', fileName: `model/${name}`, source: readFileSync(join(MODEL, name)) });
      }
    },
  };
}

export default defineConfig({
  root: at('.'),
  base: './',
  resolve: {
    alias: [
      { find: /^selvedge$/, replacement: at('../dist/index.js') },
      { find: /^selvedge\/worker$/, replacement: at('../dist/worker/index.js') },
    ],
  },
  plugins: [demoModel()],
  worker: { format: 'es' },
  build: { target: 'es2022', outDir: at('dist'), emptyOutDir: true, assetsInlineLimit: 0, reportCompressedSize: true },
});
