// What <openai-chatkit> shows. Every text is set as text, never as markup, and every style comes from one
// constructed stylesheet, so a strict content security policy and hostile messages both meet nothing to run.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  history: ["M3 12a9 9 0 1 0 3-6.7", "M3 4v5h5", "M12 7.5V12l3 2"],
  compose: ["M12 20h8", "M16.5 4.5a2.1 2.1 0 0 1 3 3L8 19l-4 1 1-4z"],
  send: ["M12 19V5", "M5.5 11.5 12 5l6.5 6.5"],
};
const STATUS = { locked: "This conversation is locked.", closed: "This conversation is closed." };

function make(tag, properties = {}, ...children) {
  const { attributes = {}, on = {}, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  node.append(...children);
  return node;
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const shape of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape);
    svg.append(path);
  }
  return svg;
}

function iconButton(name, label, listener) {
  const attributes = { "aria-label": label, title: label };
  return make("button", { type: "button", className: "icon", attributes, on: { click: listener } }, icon(name));
}

// Text for every kind of item; the echo makes only messages, but any kind can be stored.
function textOf(item) {
  switch (item.type) {
    case "chatkit.user_message":
    case "chatkit.assistant_message":
      return item.content.map((part) => (part.type === "quoted_text" ? `“${part.text}”` : part.text)).join("\n");
    case "chatkit.task":
      return [item.heading, item.summary].filter(Boolean).join(" – ");
    case "chatkit.task_group":
      return item.tasks.map((task) => task.heading).join(", ");
    case "chatkit.client_tool_call":
      return `Tool: ${item.name}`;
    default:
      return "Widget";
  }
}

function bubble(kind, speaker, text) {
  const label = make("span", { className: "visually-hidden", textContent: `${speaker}: ` });
  return make("div", { className: `bubble ${kind}` }, label, make("span", { className: "text", textContent: text }));
}

function bubbleFor(item) {
  if (item.type === "chatkit.user_message") return bubble("user", "You", textOf(item));
  if (item.type === "chatkit.assistant_message") return bubble("assistant", "Assistant", textOf(item));
  return bubble("step", "Step", textOf(item));
}

class View {
  #actions;
  #threads = [];
  #pending = [];
  #open = true;

  constructor(root, actions) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS_TEXT);
    root.adoptedStyleSheets = [sheet];
    this.#actions = actions;
    this.#build();
    root.replaceChildren(this.chat);
  }

  #build() {
    const actions = this.#actions;
    this.title = make("h2", { className: "title" });
    this.historyButton = iconButton("history", "Conversations", () => actions.history(this.history.hidden));
    this.historyButton.setAttribute("aria-expanded", "false");
    this.newButton = iconButton("compose", "New conversation", () => {
      this.focus();
      actions.open(null);
    });
    this.header = make("header", {}, this.title, this.historyButton, this.newButton);
    this.greeting = make("p", { className: "greeting" });
    this.prompts = make("div", { className: "prompts" });
    this.start = make("div", { className: "start" }, this.greeting, this.prompts);
    const log = { role: "log", "aria-live": "polite", "aria-label": "Messages" };
    this.log = make("div", { className: "log", attributes: log });
    this.history = make("nav", { className: "history", hidden: true, attributes: { "aria-label": "Conversations" } });
    this.history.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      actions.history(false);
      this.historyButton.focus();
    });
    this.noticeText = make("span");
    this.retry = make("button", { type: "button", textContent: "Try again", on: { click: () => actions.retry() } });
    this.alert = make("div", { className: "notice", hidden: true, attributes: { role: "alert" } });
    this.disclaimer = make("p", { className: "disclaimer" });
    const body = make("div", { className: "body" }, this.start, this.log, this.history);
    this.chat = make("section", { className: "chat" });
    this.chat.append(this.header, body, this.alert, this.#buildComposer(), this.disclaimer);
  }

  #buildComposer() {
    this.input = make("textarea", { rows: 1, id: "message", on: { input: () => this.#fit() } });
    this.input.addEventListener("keydown", (event) => {
      // Enter also ends the writing of a Chinese or Japanese word, and must not send then.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.composer.requestSubmit();
    });
    this.send = make("button", { className: "send", attributes: { "aria-label": "Send message" } }, icon("send"));
    const label = make("label", { className: "visually-hidden", htmlFor: "message", textContent: "Message" });
    this.composer = make("form", { className: "composer" }, label, this.input, this.send);
    this.composer.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.send.disabled) this.#actions.send(this.input.value);
    });
    return this.composer;
  }

  apply(options) {
    const { header, history, startScreen, composer, disclaimer } = options;
    const theme = typeof options.theme === "string" ? { colorScheme: options.theme } : options.theme;
    const { colorScheme = "light", color, radius = "pill" } = theme ?? {};
    Object.assign(this.chat.dataset, { theme: colorScheme, radius });
    this.chat.style.setProperty("--accent", color?.accent?.primary ?? "");
    this.chat.setAttribute("aria-label", options.frameTitle ?? "Chat");
    this.chat.lang = options.locale ?? "";
    this.header.hidden = header?.enabled === false;
    this.title.textContent = header?.title?.text ?? "Echo workflow (stand-in)";
    this.title.classList.toggle("visually-hidden", header?.title?.enabled === false);
    this.historyButton.hidden = history?.enabled === false;
    this.greeting.textContent = startScreen?.greeting ?? "What can I help with today?";
    this.prompts.replaceChildren(...(startScreen?.prompts ?? []).map((prompt) => this.#promptButton(prompt)));
    this.input.placeholder = composer?.placeholder ?? "Message the AI";
    this.disclaimer.textContent = disclaimer?.text ?? "";
    this.disclaimer.classList.toggle("strong", disclaimer?.highContrast === true);
    this.chat.hidden = false;
    this.#refresh();
  }

  #promptButton({ label, prompt }) {
    const text = typeof prompt === "string" ? prompt : prompt.map((part) => part.text).join("");
    return make("button", { type: "button", textContent: label, on: { click: () => this.#actions.send(text) } });
  }

  blank() {
    this.chat.hidden = true;
  }

  focus() {
    this.input.focus();
  }

  compose(text) {
    this.input.value = text;
    this.#fit();
  }

  // Show the person's words at once, and three dots until the answer is there.
  begin(text) {
    const dots = make("div", { className: "bubble assistant dots", attributes: { "aria-hidden": "true" } });
    dots.append(make("i"), make("i"), make("i"));
    this.#pending = [bubble("user", "You", text), dots];
    this.log.append(...this.#pending);
    if (this.input.value.trim() === text) this.compose("");
    this.#refresh();
  }

  finish(thread, items) {
    this.#dropPending();
    this.log.append(...items.map(bubbleFor));
    this.#settle(thread);
  }

  takeBack(text) {
    this.#dropPending();
    if (!this.input.value) this.compose(text);
    this.#refresh();
  }

  showThread(thread, items) {
    this.#pending = [];
    this.log.replaceChildren(...items.map(bubbleFor));
    this.#settle(thread);
  }

  listThreads(threads) {
    this.#threads = threads;
    const buttons = threads.map(({ id, title }) =>
      make("button", { type: "button", textContent: title ?? "Untitled", on: { click: () => this.#actions.open(id) } }),
    );
    this.history.replaceChildren(...(buttons.length ? buttons : ["No conversations yet."]));
  }

  remember(thread) {
    this.listThreads([thread, ...this.#threads.filter(({ id }) => id !== thread.id)]);
  }

  showHistory(shown) {
    this.history.hidden = !shown;
    this.historyButton.setAttribute("aria-expanded", String(shown));
    if (shown) this.history.querySelector("button")?.focus();
  }

  setBusy(busy) {
    this.log.setAttribute("aria-busy", String(busy));
    this.newButton.disabled = this.historyButton.disabled = busy;
    this.send.disabled = busy || !this.#open;
  }

  notice(text, retriable = false) {
    this.alert.hidden = !text;
    this.noticeText.textContent = text ?? "";
    this.alert.replaceChildren(this.noticeText, ...(retriable ? [this.retry] : []));
  }

  #settle(thread) {
    const status = thread?.status.type ?? "active";
    this.#open = status === "active";
    this.send.disabled = this.input.disabled = !this.#open;
    this.notice(STATUS[status] ?? null);
    this.#refresh();
  }

  #dropPending() {
    for (const node of this.#pending) node.remove();
    this.#pending = [];
  }

  #refresh() {
    // The log itself stays where it is: a live region that has just appeared is not read out.
    this.start.hidden = this.log.childElementCount > 0;
    this.log.tabIndex = this.start.hidden ? 0 : -1;
    this.log.scrollTop = this.log.scrollHeight;
  }

  #fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}
