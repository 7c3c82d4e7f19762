// What makes a page handier where scripts run: keys, filtering by typing, copying, asking before what cannot be undone.
// Every page works without it.
"use strict";

(() => {
  const root = document.documentElement.dataset.root;  // the path below which all of it stands
  const places = {n: "/", s: "/schedules", t: "/tasks", d: "/day", f: "/file", w: "/workers", a: "/audit"};
  const help = document.getElementById("help");
  let wentAt = 0;  // when g was pressed: the key after it, within a second, says where to

  for (const button of document.querySelectorAll("[data-help]")) {
    button.hidden = false;
    button.addEventListener("click", () => help.showModal());
  }
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;

  // Letters alone may be pressed by mistake, or by who speaks to their machine: they can be switched off.
  const areOn = () => { try { return localStorage.getItem("keys") !== "off"; } catch { return true; } };
  for (const box of document.querySelectorAll("[data-keys]")) {
    box.checked = areOn();
    box.addEventListener("change", () => {
      try { localStorage.setItem("keys", box.checked ? "on" : "off"); } catch { /* a browser that keeps nothing */ }
    });
  }

  const isTyping = element => element.closest("input, textarea, select, [contenteditable]") !== null;

  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape" && isTyping(event.target)) { event.target.blur(); return; }
    if (isTyping(event.target) || (help && help.open)) return;
    if (!help || !areOn()) return;  // without help: nobody has logged in
    if (event.key === "/") {
      const field = document.querySelector("main [data-filter]") || document.querySelector(".search input");
      if (field) { event.preventDefault(); field.focus(); field.select(); }
    } else if (event.key === "?") {
      event.preventDefault();
      help.showModal();
    } else if (event.key === "g") {
      wentAt = event.timeStamp;
    } else if (wentAt && event.timeStamp - wentAt < 1000 && Object.hasOwn(places, event.key)) {
      event.preventDefault();
      location.assign(root + places[event.key]);
    } else {
      wentAt = 0;
    }
  });

  // <input data-filter="rows"> hides the children of the element with that id in which not every word typed is found
  // (in data-words, or in what they show). `data-filter-count` beside it names who is told how many are left.
  const applyFilter = field => {
    const list = document.getElementById(field.dataset.filter);
    if (!list) return;
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of list.children) {
      const text = (row.dataset.words || row.textContent).toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      left += row.hidden ? 0 : 1;
    }
    const told = document.getElementById(field.dataset.filterCount || "");
    if (told) told.textContent = words.length ? `${left} of ${list.children.length}` : "";
  };
  const filterAll = () => document.querySelectorAll("[data-filter]").forEach(applyFilter);
  document.addEventListener("input", event => {
    if (event.target.matches("[data-filter]")) applyFilter(event.target);
  });
  document.addEventListener("scheduler:changed", filterAll);
  filterAll();

  document.addEventListener("click", event => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    navigator.clipboard.writeText(button.dataset.copy).then(() => {
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    }, () => { button.textContent = "Cannot copy here"; });
  });

  // <form data-confirm="Cancel task 17?"> asks first; <select data-submit> sends its form when it changes.
  document.addEventListener("submit", event => {
    const asked = (event.submitter && event.submitter.dataset.confirm) || event.target.dataset.confirm;
    if (asked && !confirm(asked)) event.preventDefault();
  });
  document.addEventListener("change", event => {
    if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  });
})();
