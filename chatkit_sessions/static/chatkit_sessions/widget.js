// Mounts <openai-chatkit> wherever {% chatkit %} left an element, and fetches its client secrets from this site.

const REQUEST_TIMEOUT_MS = 30_000;
const SCRIPT_TIMEOUT_MS = 15_000;

async function fetchClientSecret(config, currentSecret) {
  const response = await fetch(config.sessionsUrl, {
    method: "POST",
    credentials: "same-origin",
    headers: {
      Accept: "application/json",
      "Content-Type": "application/json",
      [config.csrfHeader]: config.csrfToken,
    },
    body: JSON.stringify({ workflow: config.workflow, current_client_secret: currentSecret }),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok || !answer.client_secret) {
    throw new Error(answer.detail || config.messages.failed);
  }
  return answer.client_secret;
}

function scriptLoaded() {
  return Promise.race([
    customElements.whenDefined("openai-chatkit"),
    new Promise((_, reject) => setTimeout(reject, SCRIPT_TIMEOUT_MS)),
  ]);
}

function mount(root) {
  const config = JSON.parse(root.dataset.chatkitSessions);
  const widget = root.querySelector("openai-chatkit");
  const notice = root.querySelector(".chatkit-sessions-notice");

  function show(message) {
    notice.querySelector("p").textContent = message;
    notice.hidden = false;
  }

  async function start() {
    notice.hidden = true;
    try {
      await scriptLoaded();
    } catch {
      show(config.messages.blocked);
      return;
    }
    widget.setOptions({
      ...config.options,
      api: {
        async getClientSecret(currentSecret) {
          try {
            return await fetchClientSecret(config, currentSecret);
          } catch (error) {
            const known = error.name === "Error" && error.message;
            show(known ? error.message : config.messages.failed);
            throw error;
          }
        },
      },
    });
  }

  notice.querySelector("button").addEventListener("click", start);
  const launcher = root.querySelector(".chatkit-sessions-toggle");
  if (launcher) {
    openOnClick(launcher, root.querySelector(".chatkit-sessions-body"), start);
  } else {
    start();
  }
}

function openOnClick(launcher, body, start) {
  let started = false;
  function toggle(open) {
    body.hidden = !open;
    launcher.setAttribute("aria-expanded", String(open));
    if (open && !started) {
      started = true;
      start();
    }
  }
  launcher.addEventListener("click", () => toggle(body.hidden));
  body.parentElement.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !body.hidden) {
      toggle(false);
      launcher.focus();
    }
  });
}

document.querySelectorAll("[data-chatkit-sessions]").forEach(mount);
