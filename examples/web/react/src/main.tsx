import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Chat } from './Chat';
import { UseChat } from './UseChat';

const Shown = new URLSearchParams(location.search).has('use-chat') ? UseChat : Chat;

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Shown model={new URL('model/', document.baseURI).href} />
  </StrictMode>,
);
