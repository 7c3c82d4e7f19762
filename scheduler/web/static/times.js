// Which clock times are told by: that of the page (as the server wrote them), UTC, or this browser's. The choice is
// kept in the browser; the hover has the local time of the page and UTC in any case.
"use strict";

(() => {
  const field = document.querySelector("[data-times]");
  if (!field) return;
  const words = document.querySelector("[data-zone-words]");
  const kept = () => { try { return localStorage.getItem("times") || "page"; } catch { return "page"; } };
  const keep = choice => { try { localStorage.setItem("times", choice); } catch { /* a browser that keeps nothing */ } };

  const writer = (zone, options) =>
    new Intl.DateTimeFormat("en-GB", {timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...options});
  const tellerOf = choice => {
    const zone = choice === "utc" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone;
    const day = new Intl.DateTimeFormat("en-CA", {timeZone: zone});
    const short = writer(zone, {second: "2-digit"});
    const long = writer(zone, {weekday: "short", day: "numeric", month: "short"});
    const today = day.format(Date.now());
    const suffix = choice === "utc" ? " UTC" : "";
    const tell = moment => (day.format(moment) === today ? short : long).format(moment).replaceAll(",", "") + suffix;
    return {zone, tell};
  };

  const retell = () => {
    const choice = kept();
    if (choice === "page") return;
    const {zone, tell} = tellerOf(choice);
    for (const time of document.querySelectorAll("main time[datetime]:not([data-since], [data-until])")) {
      const told = tell(new Date(time.dateTime));
      if (time.textContent !== told) time.textContent = told;
    }
    if (words) words.textContent = choice === "utc" ? "Times are UTC" : `Times are of this browser (${zone})`;
  };

  field.value = kept();
  field.closest("[hidden]").hidden = false;
  field.addEventListener("change", () => {
    keep(field.value);
    if (field.value === "page") location.reload();  // as the server wrote them
    else retell();
  });
  const all = {childList: true, characterData: true, subtree: true};
  new MutationObserver(retell).observe(document.querySelector("main"), all);
  retell();
})();
