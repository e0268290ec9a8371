import './styles/base.css';
import './styles/weave.css';
import './styles/page.css';
import './styles/conversation.css';
import './styles/panel.css';
import './styles/dialog.css';
import { App } from './app';

void new App().load();
