import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  plugins: [react()],
  // The package finds its worker and its WebAssembly beside itself; Vite's dev server must leave it where it is.
  // It would not bundle what the package alone asks for, and the AI SDK does not run unbundled.
  optimizeDeps: { exclude: ['selvedge'], include: ['ai'] },
  worker: { format: 'es' },
});
