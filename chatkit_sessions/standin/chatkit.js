// The element <openai-chatkit>: options, events and methods as the published widget has them, and an echo
// conversation in place of a workflow. The server puts chatkit.css and chatkit_view.js in front of this file.

const SCRIPT = document.currentScript ?? document.querySelector('script[src*="/deployments/chatkit/chatkit.js"]');
const ORIGIN = new URL(SCRIPT.src, document.baseURI).origin;
const RENEW_BEFORE_END_MS = 10_000;

// One unknown option leaves the published widget blank. So it does here, to be noticed before production is.
const KNOWN_OPTIONS = {
  api: ["getClientSecret", "url", "fetch", "domainKey", "uploadStrategy"],
  locale: null,
  theme: ["colorScheme", "typography", "radius", "density", "color"],
  frameTitle: null,
  initialThread: null,
  onClientTool: null,
  header: ["enabled", "title", "leftAction", "rightAction"],
  history: ["enabled", "showDelete", "showRename"],
  startScreen: ["greeting", "prompts"],
  threadItemActions: ["feedback", "retry"],
  composer: ["placeholder", "attachments", "tools", "models", "dictation"],
  disclaimer: ["text", "highContrast"],
  entities: ["onTagSearch", "showComposerMenu", "onClick", "onRequestPreview"],
  commands: ["enabled", "onSearch", "onSelect"],
  widgets: ["onAction"],
  thread: ["autoScroll"],
};

function problemWith(options) {
  if (options === null || typeof options !== "object") return "setOptions needs an object.";
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(KNOWN_OPTIONS, name)) return `Unknown option "${name}".`;
    const known = KNOWN_OPTIONS[name];
    const inner = known && value && typeof value === "object" ? Object.keys(value) : [];
    const unknown = inner.find((key) => !known.includes(key));
    if (unknown !== undefined) return `Unknown option "${name}.${unknown}".`;
  }
  const { getClientSecret, url } = options.api ?? {};
  if (typeof getClientSecret === "function") return null;
  return url
    ? "This stand-in speaks the hosted API only: api.url needs the published script."
    : "api.getClientSecret must be a function.";
}

class OpenAIChatKit extends HTMLElement {
  #view = null;
  #options = null;
  #started = false;
  #busy = false;
  #threadId = null;
  // Whoever changes what is shown raises this; an answer that comes after such a change is not shown.
  #turn = 0;
  // The secret lives here and in the Authorization header, never in the document or a log.
  #secret = null;
  #renewal = null;
  #expiry = null;

  connectedCallback() {
    this.#start();
  }

  setOptions(options) {
    const problem = problemWith(options);
    if (problem) {
      this.#options = null;
      this.#view?.blank();
      const error = new TypeError(`ChatKit: ${problem}`);
      this.#emit("chatkit.error", { error });
      throw error;
    }
    this.#options = options;
    this.#view ??= new View(this.shadowRoot ?? this.attachShadow({ mode: "open" }), {
      send: (text) => this.#quietly(this.sendUserMessage({ text })),
      open: (threadId) => this.#quietly(this.setThreadId(threadId)),
      history: (shown) => this.#quietly(shown ? this.showHistory() : this.hideHistory()),
      retry: () => this.#quietly(this.#connect()),
    });
    this.#view.apply(options);
    this.#start();
  }

  async focusComposer() {
    this.#view?.focus();
  }

  async setThreadId(threadId) {
    const turn = ++this.#turn;
    this.#view.showHistory(false);
    if (threadId === null) {
      this.#view.showThread(null, []);
    } else {
      this.#emit("chatkit.thread.load.start", { threadId });
      const { thread, items } = await this.#call("GET", `/standin/threads/${encodeURIComponent(threadId)}`);
      if (turn !== this.#turn) return;
      this.#view.showThread(thread, items);
      this.#emit("chatkit.thread.load.end", { threadId });
    }
    this.#changeThread(threadId);
  }

  async sendUserMessage({ text, content, newThread = false }) {
    const message = (text ?? (content ?? []).map((part) => part.text).join("")).trim();
    if (!message) return;
    if (this.#busy) throw new Error("ChatKit: the last message has not been answered yet.");
    if (newThread) await this.setThreadId(null);
    const turn = ++this.#turn;
    this.#setBusy(true);
    this.#view.begin(message);
    this.#emit("chatkit.response.start");
    try {
      const body = { thread_id: this.#threadId, text: message };
      const { thread, items } = await this.#call("POST", "/standin/messages", body);
      this.#view.remember(thread);
      if (turn !== this.#turn) return;
      this.#view.finish(thread, items);
      this.#changeThread(thread.id);
    } catch (error) {
      if (turn === this.#turn) this.#view.takeBack(message);
      throw error;
    } finally {
      this.#setBusy(false);
      this.#emit("chatkit.response.end");
    }
  }

  async setComposerValue({ text, content }) {
    this.#view?.compose(text ?? (content ?? []).map((part) => part.text).join(""));
  }

  async showHistory() {
    this.#view.showHistory(true);
    this.#emit("chatkit.history.open");
  }

  async hideHistory() {
    this.#view.showHistory(false);
    this.#emit("chatkit.history.close");
  }

  async fetchUpdates() {
    this.#view.listThreads((await this.#call("GET", "/standin/threads")).data);
    if (this.#threadId) await this.setThreadId(this.#threadId);
  }

  async sendCustomAction() {
    // The echo conversation has no actions; the method exists so that pages which call it go on working.
  }

  #start() {
    if (this.#started || !this.#options || !this.isConnected) return;
    this.#started = true;
    queueMicrotask(() => {
      this.#emit("chatkit.ready");
      this.#quietly(this.#connect());
    });
  }

  async #connect() {
    this.#view.listThreads((await this.#call("GET", "/standin/threads")).data);
    if (this.#options?.initialThread && !this.#threadId) await this.setThreadId(this.#options.initialThread);
  }

  // Run something nobody awaits: what goes wrong is told to the page and to the person.
  async #quietly(promise) {
    try {
      this.#view.notice(null);
      await promise;
    } catch (error) {
      this.#emit("chatkit.error", { error });
      this.#view.notice(error.forPeople ?? "The chat could not be reached.", this.#secret === null);
    }
  }

  async #call(method, path, body) {
    if (this.#secret === null || this.#isEnding()) await this.#renew();
    let response = await this.#request(method, path, body);
    if (response.status === 401) {
      await this.#renew();
      response = await this.#request(method, path, body);
    }
    this.#noteExpiry(Number(response.headers.get("x-session-expires-in")));
    const payload = await response.json();
    if (response.ok) return payload;
    const wait = response.headers.get("retry-after");
    const forPeople = wait ? `Too many messages. Please wait ${wait} seconds.` : payload.error.message;
    throw Object.assign(new Error(`ChatKit: ${payload.error.message}`), { status: response.status, forPeople });
  }

  #request(method, path, body) {
    const headers = { Authorization: `Bearer ${this.#secret}`, "Content-Type": "application/json" };
    return fetch(ORIGIN + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      referrerPolicy: "no-referrer",
    });
  }

  // One renewal at a time, however many requests wait for it.
  #renew() {
    this.#renewal ??= this.#askForSecret().finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  async #askForSecret() {
    const renewing = this.#secret !== null;
    const secret = await this.#options.api.getClientSecret(this.#secret);
    if (typeof secret !== "string" || !secret) {
      throw new TypeError("ChatKit: getClientSecret must resolve to a non-empty string.");
    }
    this.#secret = secret;
    this.#expiry = null;
    this.#emit("chatkit.log", { name: renewing ? "session.renewed" : "session.started" });
  }

  #noteExpiry(seconds) {
    if (!seconds) return;
    const lifetime = this.#expiry?.lifetime ?? seconds * 1000;
    this.#expiry = { lifetime, at: performance.now() + seconds * 1000 };
  }

  #isEnding() {
    if (!this.#expiry) return false;
    // A session of a few seconds would otherwise be renewed at every request.
    const margin = Math.min(RENEW_BEFORE_END_MS, this.#expiry.lifetime / 4);
    return performance.now() > this.#expiry.at - margin;
  }

  #changeThread(threadId) {
    if (threadId === this.#threadId) return;
    this.#threadId = threadId;
    this.#emit("chatkit.thread.change", { threadId });
  }

  #setBusy(busy) {
    this.#busy = busy;
    this.#view.setBusy(busy);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

if (!customElements.get("openai-chatkit")) customElements.define("openai-chatkit", OpenAIChatKit);
