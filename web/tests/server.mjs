// A server of a few folders, on this machine only, that can be told to fail as real ones do.

import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

const PAGE = '<!doctype html><title>Selvedge</title><link rel="icon" href="data:,">';

/**
 * Serves `folders`, a map from the first part of an address to a folder (or to a map of names to bytes), and at `/` an
 * empty page. Resolves to `{ address, close, requests, faults }`; what is set in `faults` holds from the next request
 * on:
 *
 * - `noRanges`: parts of files are never given;
 * - `cut(path)`: bytes after which the connection is cut, or `undefined`;
 * - `html`: paths that do not exist are answered with a page, as servers of one-page applications do;
 * - `tag(path)`: the `ETag`; by default the file's time and size.
 */
export async function serve(folders) {
  const faults = {};
  const requests = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    requests.push({ method: request.method, path, range: request.headers.range });
    const page = () => {
      response.setHeader('content-type', 'text/html');
      response.end(PAGE);
    };
    if (path === '/') return page();
    const file = open(folders, path);
    if (!file) {
      if (faults.html) return page();
      response.statusCode = 404;
      return response.end();
    }
    response.setHeader('content-type', TYPES[extname(path)] ?? 'application/octet-stream');
    response.setHeader('etag', faults.tag?.(path) ?? file.tag);
    let [from, to] = [0, file.size];
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    if (range && !faults.noRanges) {
      from = Number(range[1]);
      to = range[2] === '' ? file.size : Math.min(file.size, Number(range[2]) + 1);
      if (from >= file.size) {
        response.writeHead(416, { 'content-range': `bytes */${file.size}` });
        return response.end();
      }
      response.statusCode = 206;
      response.setHeader('content-range', `bytes ${from}-${to - 1}/${file.size}`);
    }
    response.setHeader('content-length', to - from);
    if (request.method === 'HEAD') return response.end();
    const cut = faults.cut?.(path);
    if (cut === undefined || from + cut >= to) return file.send(response, from, to);
    // The head goes out first, so that the client knows what it misses.
    response.flushHeaders();
    response.write(file.read(from, from + cut), () => response.destroy());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { address: `http://localhost:${server.address().port}`, close, requests, faults };
}

/** A file's size, tag and bytes, or undefined. */
function open(folders, path) {
  const [, first, ...rest] = normalize(path).split('/');
  const place = folders[first];
  if (place === undefined) return undefined;
  if (typeof place !== 'string') {
    const bytes = place[rest.join('/')];
    if (bytes === undefined) return undefined;
    const send = (response, from, to) => response.end(bytes.subarray(from, to));
    return { size: bytes.length, tag: `"${bytes.length}"`, send, read: (from, to) => bytes.subarray(from, to) };
  }
  const file = join(place, ...rest);
  const stat = statSync(file, { throwIfNoEntry: false });
  if (!stat?.isFile()) return undefined;
  return {
    size: stat.size,
    tag: `"${stat.mtimeMs.toString(16)}-${stat.size}"`,
    send: (response, from, to) => {
      if (from >= to) response.end();
      else createReadStream(file, { start: from, end: to - 1 }).pipe(response);
    },
    read: (from, to) => readFileSync(file).subarray(from, to),
  };
}
