// Keeps the end of a growing log in sight, unless somebody has scrolled up in it.
"use strict";

(() => {
  const NEAR = 30;  // px from the end that still count as the end
  const place = document.getElementById("log");
  if (!place) return;
  let isAtEnd = true;

  const log = () => place.querySelector("pre.log");
  const toEnd = () => {
    const shown = log();
    if (shown && isAtEnd) shown.scrollTop = shown.scrollHeight;
  };
  place.addEventListener("scroll", () => {
    const shown = log();
    if (shown) isAtEnd = shown.scrollHeight - shown.scrollTop - shown.clientHeight < NEAR;
  }, {capture: true, passive: true});
  new MutationObserver(toEnd).observe(place, {childList: true, subtree: true, characterData: true});
  toEnd();
})();
