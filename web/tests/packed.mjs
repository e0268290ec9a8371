// The web examples as a person has them: the package as a tarball of `npm pack`, installed into a copy of the example.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './root.mjs';

export const MODEL = join(root, 'assets/demo');

/** Runs npm; gives what it prints. */
export function npm(folder, ...words) {
  const options = { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] };
  return execFileSync('npm', [...words, '--loglevel=error', '--no-audit', '--no-fund'], options);
}

/**
 * Packs the package. `copy(name, model)` gives a folder with an example in which it is installed, and in which the demo
 * model lies as `model`; `remove()` ends it all.
 */
export function pack() {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-examples-'));
  const [{ filename, files }] = JSON.parse(npm(join(root, 'web'), 'pack', '--json', '--pack-destination', folder));
  return {
    files: files.map(({ path }) => path),
    copy(name, model) {
      const copy = join(folder, name);
      mkdirSync(copy);
      cpSync(join(root, 'examples/web', name), copy, {
        recursive: true,
        filter: (path) => !/node_modules|\/dist$/.test(path.slice(root.length)),
      });
      if (model) cpSync(MODEL, join(copy, model), { recursive: true });
      npm(copy, 'install', '--prefer-offline', join(folder, filename));
      return copy;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
