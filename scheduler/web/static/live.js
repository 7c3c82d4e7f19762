// Keeps an open page true: takes what the server sends (events.py) and puts it in place, without moving what is read,
// without taking focus or selection away, and says so when nothing comes any more.
//
//   <main data-live="/events/now">       where the news come from
//   <section id="running" data-region>   what one piece of news replaces the inside of; "urgent" is never put off
//   <time data-since|data-until>         counts on by itself
"use strict";

(() => {
  const SILENT_AFTER = 15_000;  // ms; three beats of the server
  const AGAIN_AFTER = 3_000;
  const HIDDEN_FOR = 10_000;  // then nobody looks: browsers open six streams to a server, and no more
  const root = document.documentElement;
  const serverAhead = Date.parse(root.dataset.now) - Date.now() || 0;
  const serverNow = () => Date.now() + serverAhead;

  // --- times that count on

  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const lasting = seconds => {
    const [unit, size] = units.find(([, size]) => seconds >= size) || units[3];
    return `${Math.floor(seconds / size)} ${unit}`;
  };
  const clockIn = zone =>
    new Intl.DateTimeFormat("en-GB", {timeStyle: "medium", hourCycle: "h23", timeZone: zone});
  const clockOfPage = () => {
    try {
      return clockIn(root.dataset.zone);
    } catch {
      return clockIn(undefined);  // a zone that the browser does not know
    }
  };
  const writer = clockOfPage();
  const clock = moment => writer.format(moment);
  const tick = () => {
    const now = document.querySelector("[data-clock]");
    if (now && !isSelected(now)) now.textContent = clock(serverNow());
    for (const time of document.querySelectorAll("time[data-since], time[data-until]")) {
      const ahead = (Date.parse(time.dateTime) - serverNow()) / 1000;
      const text = lasting(Math.max(0, "until" in time.dataset ? ahead : -ahead));
      if (time.textContent !== text && !isSelected(time)) time.textContent = text;
    }
  };
  setInterval(tick, 1000);

  const isSelected = element => {
    const selection = getSelection();
    return !selection.isCollapsed && selection.rangeCount > 0 && selection.containsNode(element, true);
  };

  // --- one tree of elements is made like another, changing no more than differs

  const keepsItself = (element, name) =>
    (name === "open" && /^(DETAILS|DIALOG)$/.test(element.tagName)) ||
    (name === "hidden" && element.dataset.words !== undefined);
  const makeLike = (old, fresh) => {
    for (const {name} of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !keepsItself(old, name)) old.removeAttribute(name);
    }
    for (const {name, value} of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value && !keepsItself(old, name)) old.setAttribute(name, value);
    }
    if (!old.matches("input, textarea, select")) makeChildrenLike(old, fresh);
  };
  const isAlike = (old, fresh) =>
    old !== null && old.nodeName === fresh.nodeName && (old.id || "") === (fresh.id || "");
  const makeChildrenLike = (old, fresh) => {
    const stays = new Set([...fresh.children].map(child => child.id));
    for (const child of [...old.children]) if (child.id && !stays.has(child.id)) child.remove();
    let next = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = child.id ? [...old.children].find(one => one.id === child.id) : isAlike(next, child) ? next : null;
      if (!same) {
        old.insertBefore(child, next);
        continue;
      }
      if (same === next) next = next.nextSibling;
      else old.insertBefore(same, next);
      if (same.nodeType === Node.ELEMENT_NODE) makeLike(same, child);
      else if (same.nodeValue !== child.nodeValue) same.nodeValue = child.nodeValue;
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
  };

  // --- news

  const main = document.querySelector("main[data-live]");
  tick();
  if (!main) return;

  let title = document.title;
  const waiting = new Map();  // region -> what is to stand in it
  const applyWaiting = () => {
    if (waiting.size === 0) return;
    const focused = document.activeElement;
    const anchor = scrollY > 0 ? anchorOf() : null;
    const before = anchor ? anchor.getBoundingClientRect().top : 0;
    for (const [name, html] of waiting) {
      const region = document.getElementById(name);
      // Put off while something in it is marked; but not whether all is well.
      if (region && region.dataset.region !== "urgent" && isSelected(region)) continue;
      waiting.delete(name);
      if (!region || !region.hasAttribute("data-region")) continue;
      const fresh = document.createElement("template");
      fresh.innerHTML = html;
      makeChildrenLike(region, fresh.content);
    }
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({preventScroll: true});
    if (anchor && anchor.isConnected) {
      const moved = anchor.getBoundingClientRect().top - before;
      if (moved) scrollBy({top: moved, behavior: "instant"});
    }
    const told = main.querySelector("[data-title]");  // the page's own word on how it stands, for its tab
    if (told) document.title = title = told.dataset.title;
    tick();
    document.dispatchEvent(new Event("scheduler:changed"));
  };
  const anchorOf = () => {  // what stands at the top of what is seen, and can be found again
    for (const y of [90, 160, 240]) {
      const found = document.elementFromPoint(innerWidth / 2, y);
      const named = found && found.closest("main [id]");
      if (named && named !== main) return named;
    }
    return null;
  };
  document.addEventListener("selectionchange", () => { if (getSelection().isCollapsed) applyWaiting(); });

  // --- the stream, and what is said when it is cut off

  const notice = document.getElementById("cut-off");
  let source = null, heardAt = Date.now(), cutOffSince = null, again = 0;

  const sayCutOff = why => {
    cutOffSince ??= serverNow();
    const said = `${why || "Cut off"} since ${clock(cutOffSince)}; trying again. What stands here may be out of date.`;
    if (notice.textContent !== said) notice.textContent = said;
    notice.hidden = false;
    document.body.classList.add("is-cut-off");
    document.title = `cut off · ${title.replace(/^[✓✗] /, "")}`;
  };
  const heard = () => {
    heardAt = Date.now();
    if (cutOffSince === null) return;
    cutOffSince = null;
    notice.hidden = true;
    document.body.classList.remove("is-cut-off");
    document.title = title;
  };
  const close = () => {
    clearTimeout(again);
    if (source) source.close();
    source = null;
  };
  const open = () => {
    close();
    heardAt = Date.now();
    source = new EventSource(main.dataset.live);
    source.addEventListener("parts", event => {
      heard();
      for (const [name, html] of Object.entries(JSON.parse(event.data))) waiting.set(name, html);
      applyWaiting();
      root.dataset.heard = "";
    });
    source.addEventListener("beat", heard);
    source.addEventListener("trouble", event => {
      heardAt = Date.now();  // the stream itself is well
      sayCutOff(JSON.parse(event.data));
    });
    source.addEventListener("done", close);  // nothing will change any more
    source.addEventListener("bye", () => { close(); location.reload(); });  // logged out: the page says how to go on
    source.addEventListener("error", () => {
      sayCutOff();
      if (source.readyState === EventSource.CLOSED) askWhy();
      close();
      again = setTimeout(open, AGAIN_AFTER);
    });
  };
  const askWhy = () => {  // a refused stream does not say it: whoever has been logged out is shown the way in
    const asking = new AbortController();
    fetch(main.dataset.live, {signal: asking.signal, cache: "no-store"}).then(answer => {
      if (answer.status === 401) location.reload();
      if (answer.status === 429) sayCutOff("Too many pages are open: this one has been cut off");
      asking.abort();
    }).catch(() => {});
  };
  setInterval(() => {
    if (source && Date.now() - heardAt > SILENT_AFTER) {
      sayCutOff();
      open();
    }
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(again);
    if (document.hidden) again = setTimeout(close, HIDDEN_FOR);
    else if (!source) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", event => { if (event.persisted) open(); });
  open();
})();
