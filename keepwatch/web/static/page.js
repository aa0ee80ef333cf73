// Keeps an open page fresh: fetches the fragment every five seconds and changes only what differs, so that scroll,
// focus, selection and opened details stay. Says so, loudly, when the daemon stops answering. Works on nothing else.
"use strict";
(() => {
  const EVERY = 5000;
  const PATIENCE = 4000;
  const root = document.documentElement;
  const lost = document.getElementById("lost");
  let etag = null;
  let answeredAt = new Date();
  root.classList.add("js");

  function key(node) {
    return node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || null : null;
  }

  function syncAttributes(from, to) {
    for (const { name, value } of to.attributes) {
      if (name === "open" && from.nodeName === "DETAILS") continue;
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    for (const { name } of [...from.attributes]) {
      if (name === "open" && from.nodeName === "DETAILS") continue;
      if (!to.hasAttribute(name)) from.removeAttribute(name);
    }
  }

  // Make `from` look like `to`. Children with a key (id or data-key) are matched by it, the others by place and kind.
  function morph(from, to) {
    syncAttributes(from, to);
    const keyed = new Map();
    for (const child of from.childNodes) {
      if (key(child)) keyed.set(key(child), child);
    }
    let here = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      const wantedKey = key(wanted);
      let match = wantedKey ? keyed.get(wantedKey) : here;
      if (!wantedKey) {
        while (match && key(match)) match = match.nextSibling;
      }
      if (!match || match.nodeName !== wanted.nodeName) {
        from.insertBefore(document.importNode(wanted, true), here);
        continue;
      }
      if (match === here) here = here.nextSibling;
      else from.insertBefore(match, here);
      if (match.nodeType === Node.ELEMENT_NODE) morph(match, wanted);
      else if (match.nodeValue !== wanted.nodeValue) match.nodeValue = wanted.nodeValue;
    }
    while (here) {
      const next = here.nextSibling;
      here.remove();
      here = next;
    }
  }

  function show(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("view");
    const view = document.getElementById("view");
    if (!fresh) throw new Error("the answer is not keepwatch's page");
    if (fresh.dataset.edition !== view.dataset.edition) {
      location.reload();
      return;
    }
    const focused = document.activeElement;
    morph(view, fresh);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    head(view.dataset.title, view.dataset.icon);
  }

  function head(title, icon) {
    if (document.title !== title) document.title = title;
    const link = document.getElementById("favicon");
    if (link.getAttribute("href") !== icon) link.setAttribute("href", icon);
  }

  function found() {
    answeredAt = new Date();
    if (lost.hidden) return;
    lost.hidden = true;
    root.classList.remove("is-lost");
    const { title, icon } = document.getElementById("view").dataset;
    head(title, icon);
  }

  function missing(reason) {
    const time = answeredAt.toTimeString().slice(0, 8);
    const text = `No answer since ${time}: ${reason}. What you see below is as it was then.`;
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = false;
    root.classList.add("is-lost");
    document.title = `✖ no answer since ${time}`;
  }

  async function refresh() {
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), PATIENCE);
    try {
      const answer = await fetch("fragment", {
        cache: "no-store",
        signal: patience.signal,
        headers: etag ? { "If-None-Match": etag } : {},
      });
      if (answer.status === 200) {
        show(await answer.text());
        etag = answer.headers.get("ETag");
      } else if (answer.status !== 304) {
        throw new Error(`it answered ${answer.status}`);
      }
      found();
    } catch (error) {
      missing(error.message.startsWith("it answered") ? error.message : "keepwatch cannot be reached");
    } finally {
      clearTimeout(timer);
      setTimeout(refresh, EVERY);
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });

  setTimeout(refresh, EVERY);
})();
