"use strict";
// All forms work without this file.

const PAUSE = 2000; // milliseconds, in which nobody means to send a form twice
const addReveal = (field) => {
  const button = document.createElement("button");
  const show = (shown) => {
    field.type = shown ? "text" : "password";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", `${button.textContent}: ${field.labels[0].textContent}`);
  };
  button.type = "button";
  button.className = "reveal";
  button.addEventListener("click", () => show(field.type === "password"));
  // Browsers remember what is sent from a text field, and suggest it to whoever comes next.
  field.form.addEventListener("submit", () => show(false));
  field.after(button);
  show(false);
};

for (const form of document.forms) {
  let sent = -PAUSE;
  form.addEventListener("submit", (event) => {
    if (event.timeStamp - sent < PAUSE) event.preventDefault();
    else sent = event.timeStamp;
  });
}
document.querySelectorAll("input[type=password]").forEach(addReveal);
// To go back to a form that was refused, or to reload it, would send it once more.
history.replaceState(null, "");
