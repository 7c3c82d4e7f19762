// Searching while typing: <form data-search="found"> asks for its own page, and the element with that id takes the
// place of the one that is shown. Without scripts the form is sent as forms are.
"use strict";

(() => {
  const WAIT = 180;  // ms without a key before the server is asked
  const form = document.querySelector("form[data-search]");
  if (!form) return;
  const place = () => document.getElementById(form.dataset.search);
  let timer = 0, asking = null;

  const address = () => {
    const words = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) words.append(name, value);
    const query = words.toString();
    return form.action.split("?")[0] + (query ? `?${query}` : "");
  };

  const ask = async () => {
    if (asking) asking.abort();
    const mine = asking = new AbortController();
    const where = address();
    try {
      const answer = await fetch(where, {signal: mine.signal, headers: {Accept: "text/html"}});
      if (!answer.ok || answer.redirected) { location.assign(where); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById(form.dataset.search);
      if (mine !== asking || !found) return;
      place().replaceWith(document.adoptNode(found));
      history.replaceState(null, "", where);
    } catch (error) {
      if (error.name !== "AbortError") location.assign(where);
    }
  };

  form.addEventListener("input", event => {
    if (!event.target.matches("input")) return;
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT);
  });
  form.addEventListener("submit", event => {
    event.preventDefault();
    clearTimeout(timer);
    ask();
  });
})();
