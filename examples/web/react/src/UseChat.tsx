import { useMemo } from 'react';
import { useChat } from '@ai-sdk/react';
import type { EngineInterface } from 'selvedge';
import { EngineChatTransport } from 'selvedge/ai-sdk/transport';
import { useEngine, type EngineState } from './useEngine';
import { View } from './View';

const TITLE = 'Selvedge and useChat';

/** A chat with the hook of Vercel's AI SDK, and no server. */
export function UseChat({ model }: { model: string }) {
  const state = useEngine(model);
  // The hook takes its transport once, so its component is there when the engine is.
  if (state.engine) return <Conversation state={state} engine={state.engine} />;
  return <View title={TITLE} state={state} lines={[]} busy onAsk={() => {}} />;
}

function Conversation({ state, engine }: { state: EngineState; engine: EngineInterface }) {
  const transport = useMemo(() => new EngineChatTransport(engine, { instructions: 'You are a helpful assistant.' }), [engine]);
  const { messages, sendMessage, regenerate, stop, status, error } = useChat({ transport });
  const busy = status === 'submitted' || status === 'streaming';
  const lines = messages.map(({ role, parts }) => ({
    role,
    text: parts.map((part) => (part.type === 'text' ? part.text : '')).join(''),
  }));
  return (
    <>
      <View title={TITLE} state={state} lines={lines} busy={busy} onAsk={(text) => void sendMessage({ text })}>
        <button type="button" disabled={!busy} onClick={() => void stop()}>
          Stop
        </button>
        <button type="button" disabled={busy || lines.length === 0} onClick={() => void regenerate()}>
          Again
        </button>
      </View>
      {error && <p role="alert">{error.message}</p>}
    </>
  );
}
