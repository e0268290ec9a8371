import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  plugins: [react()],
  // The package finds its worker and its WebAssembly beside itself; Vite's dev server must leave it where it is.
  optimizeDeps: { exclude: ['selvedge'] },
  worker: { format: 'es' },
});
