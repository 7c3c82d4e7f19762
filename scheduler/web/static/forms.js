// Forms that do something: each is sent once, so that a second click while the first is on its way asks for nothing
// twice; and all boxes of a list are ticked by one.
"use strict";

(() => {
  document.addEventListener("submit", event => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    if (event.target.dataset.isSent) { event.preventDefault(); return; }
    event.target.dataset.isSent = "yes";
  });
  // <input type="checkbox" data-all="id"> ticks all boxes of that name in its form.
  for (const all of document.querySelectorAll("[data-all]")) {
    const boxes = () => all.form.querySelectorAll(`input[name="${all.dataset.all}"]`);
    all.hidden = false;
    all.addEventListener("change", () => { for (const box of boxes()) box.checked = all.checked; });
  }
  addEventListener("pageshow", () => {  // also when one comes back to the page as it was left
    for (const form of document.querySelectorAll("form[data-is-sent]")) delete form.dataset.isSent;
  });
})();
