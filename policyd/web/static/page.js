// What makes the pages better where scripts run: copying a command, and refreshing a page each minute. All works without.
"use strict";

const live = document.createElement("p");
live.className = "visually-hidden";
live.setAttribute("role", "status");
document.body.append(live);

/** Give each command a button that copies it. */
function offerCopying(root) {
  for (const command of root.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "second copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const code = command.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = live.textContent = "Copied";
      } catch { // over plain HTTP a browser allows no clipboard: then it is selected, to be copied by hand
        getSelection().selectAllChildren(code);
        live.textContent = "Selected; copy it with the keyboard";
      }
      setTimeout(() => { button.textContent = "Copy"; live.textContent = ""; }, 2000);
    });
    command.append(button);
  }
}

/** Offer to fetch what is live again each so many seconds, as long as nobody reads in it. */
function offerRefreshing(region) {
  const label = document.createElement("label");
  label.className = "refresh";
  const box = document.createElement("input");
  box.type = "checkbox";
  label.append(box, " refresh each minute");
  region.before(label);
  const form = document.getElementById("filter");

  async function refresh() {
    if (!box.checked || document.hidden || region.contains(document.activeElement)) return;
    const sent = form ? { method: "POST", body: new URLSearchParams(new FormData(form)) } : {};
    try {
      const answer = await fetch(location.href, sent);
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      region.replaceChildren(...page.getElementById(region.id).childNodes);
      offerCopying(region);
    } catch { // the next minute tries again
    }
  }
  setInterval(refresh, 1000 * Number(region.dataset.refresh));
}

offerCopying(document);
for (const region of document.querySelectorAll("[data-refresh]")) offerRefreshing(region);
